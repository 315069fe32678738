/** A file fence on a folder of its own, with writers in processes of their own; for the tests of the fence. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach } from "vitest";
import type { Owner } from "../../../agent/stores/common/inventory/owner-lookup.ts";
import { FileFence } from "../../../agent/stores/file-fence/file-fence.ts";
import { systemClock as clock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";

export const pod0 = "pod-0" as PodId;
export const pod100 = "pod-100" as PodId;
export const pod101 = "pod-101" as PodId;
export const migrationId = "split-1" as MigrationId;
const assignments = new Map([
  ["red", pod100],
  ["blue", pod101],
] as [OrganizationId, PodId][]);

export const ownerOf = (key: string): Owner | null => {
  const organizationId = key.split("/")[1];
  return organizationId === undefined
    ? null
    : { kind: "organization", organizationId: organizationId as OrganizationId };
};

export let folder: string;
export let control: string;
export let fence: FileFence;
let children: ChildProcess[];

/** Makes a new fence before each test of the file, and ends its writers afterwards. */
export function useFileFence(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "cleave-fence-"));
    control = join(folder, "control");
    fence = new FileFence({ directory: control, clock });
    children = [];
  });

  afterEach(async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => exited(child)));
    await rm(folder, { recursive: true, force: true });
  });
}

export async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => child.once("exit", () => resolve()));
}

export async function staged(self: PodId, phase: SharePhase): Promise<void> {
  await fence.initialise(self, pod0);
  await fence.setShares(migrationId, pod0, { [pod100]: phase, [pod101]: "source" } as Record<
    PodId,
    SharePhase
  >);
  await fence.stageRoutes({ migrationId, sourcePodId: pod0, assignments });
}

export const shares = (red: SharePhase, blue: SharePhase = red) =>
  ({ [pod100]: red, [pod101]: blue }) as Record<PodId, SharePhase>;

export const drain = (graceMs: number, signal: AbortSignal = AbortSignal.timeout(20_000)) =>
  fence.drain({ store: "objects", migrationId, graceMs, signal, ownerOf });

interface Line {
  begun?: string;
  acknowledged?: string;
  refused?: string;
  organizationId?: string;
  code?: string;
  podId?: string;
}

export function startWriter(number: number, organizations: string, pauseMs: number, kind = "worker") {
  const program = join(import.meta.dirname, "fence-writer.ts");
  const child = spawn(
    process.execPath,
    [program, control, join(folder, "root"), `${number}`, organizations, `${pauseMs}`, kind],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  children.push(child);
  let text = "";
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const lines = () =>
    text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  return { child, lines };
}

export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 15_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await sleep(5);
  }
}
