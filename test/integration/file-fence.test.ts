import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileFence } from "../../agent/stores/file-fence/file-fence.ts";
import { fencePaths, formatIntent } from "../../agent/stores/file-fence/layout.ts";
import { ownStartTime } from "../../agent/stores/file-fence/processes.ts";
import { readPhase, type WriteRefused, withWriteIntent } from "../../agent/stores/file-fence/write-intent.ts";
import type { Owner } from "../../agent/stores/owner-lookup.ts";
import { systemClock as clock } from "../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";

const pod0 = "pod-0" as PodId;
const pod100 = "pod-100" as PodId;
const pod101 = "pod-101" as PodId;
const migrationId = "split-1" as MigrationId;
const assignments = new Map([
  ["red", pod100],
  ["blue", pod101],
] as [OrganizationId, PodId][]);

const ownerOf = (key: string): Owner | null => {
  const organizationId = key.split("/")[1];
  return organizationId === undefined
    ? null
    : { kind: "organization", organizationId: organizationId as OrganizationId };
};

let folder: string;
let control: string;
let fence: FileFence;
let children: ChildProcess[];

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

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => child.once("exit", () => resolve()));
}

async function staged(self: PodId, phase: SharePhase): Promise<void> {
  await fence.initialise(self, pod0);
  await fence.setShares(migrationId, pod0, { [pod100]: phase, [pod101]: "source" } as Record<
    PodId,
    SharePhase
  >);
  await fence.stageRoutes({ migrationId, sourcePodId: pod0, assignments });
}

const shares = (red: SharePhase, blue: SharePhase = red) =>
  ({ [pod100]: red, [pod101]: blue }) as Record<PodId, SharePhase>;

const drain = (graceMs: number, signal: AbortSignal = AbortSignal.timeout(20_000)) =>
  fence.drain({ store: "objects", migrationId, graceMs, signal, ownerOf });

interface Line {
  begun?: string;
  acknowledged?: string;
  refused?: string;
  organizationId?: string;
  code?: string;
  podId?: string;
}

function startWriter(number: number, organizations: string, pauseMs: number, kind = "worker") {
  const program = join(import.meta.dirname, "../support/fence-writer.ts");
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

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 15_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await sleep(5);
  }
}

describe("the four-phase table", () => {
  const cases: [SharePhase, PodId, string][] = [
    ["source", pod0, "allowed"],
    ["source", pod100, "WRONG_POD pod-0"],
    ["source", pod101, "WRONG_POD pod-0"],
    ["fenced", pod0, "WRITE_FENCED pod-0"],
    ["fenced", pod100, "WRONG_POD pod-0"],
    ["fenced", pod101, "WRONG_POD pod-0"],
    ["transferred", pod0, "WRONG_POD pod-100"],
    ["transferred", pod100, "WRITE_FENCED pod-100"],
    ["transferred", pod101, "WRONG_POD pod-100"],
    ["opened", pod0, "WRONG_POD pod-100"],
    ["opened", pod100, "allowed"],
    ["opened", pod101, "WRONG_POD pod-100"],
  ];
  test.each(cases)("%s on %s: %s", async (phase, self, expected) => {
    await staged(self, phase);
    const outcome = await withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => "allowed",
    ).catch((error: WriteRefused) => `${error.code} ${error.podId}`);
    expect(outcome).toBe(expected);
    // A refused writer leaves nothing; an allowed one is heard of.
    expect(await readdir(fencePaths(control).inflight("objects"))).toEqual([]);
    expect(await fence.takeDirty("objects")).toHaveLength(expected === "allowed" ? 1 : 0);
  });

  test("an organization without an assignment belongs to its base Pod", async () => {
    await staged(pod0, "opened");
    expect(await readPhase(control, "nobody's plan")).toEqual({ allowed: true, phase: null });
    const other = new FileFence({ directory: join(folder, "other"), clock });
    await other.initialise(pod101, pod0);
    expect(await readPhase(join(folder, "other"), "nobody's plan")).toMatchObject({
      allowed: false,
      reason: "wrong-pod",
      podId: pod0,
    });
  });

  test("refuses while the Pod's identity, a share or a route is missing or damaged", async () => {
    await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    const write = withWriteIntent(
      { control, store: "objects", key: "k", organizationId: "red" },
      async () => 1,
    );
    await expect(write).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    await staged(pod0, "source");
    const share = join(control, "shares", migrationId);
    for (const damage of ["", "pod-100 pod-0 maybe\n", "pod-100\n", "pod-101 pod-0 source\n"]) {
      await writeFile(share, damage);
      await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    }
    await rm(share);
    await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
  });

  test("another Pod's folder is refused", async () => {
    await fence.initialise(pod0, pod0);
    await expect(fence.initialise(pod100, pod0)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  test("removing a migration restores the base and touches no other migration", async () => {
    await staged(pod0, "fenced");
    const second = "split-2" as MigrationId;
    await fence.setShares(second, pod0, { [pod100]: "fenced" } as Record<PodId, SharePhase>);
    await fence.stageRoutes({
      migrationId: second,
      sourcePodId: pod0,
      assignments: new Map([["green" as OrganizationId, pod100]]),
    });
    await fence.removeMigration(migrationId);
    await fence.removeMigration(migrationId);
    expect(await readPhase(control, "red")).toEqual({ allowed: true, phase: null });
    expect(await readPhase(control, "green")).toMatchObject({ allowed: false, reason: "fenced" });
    expect(await readdir(join(control, "shares"))).toEqual([second]);
  });

  test("hostile organizations, keys and repository paths stay inside their folders", async () => {
    await fence.initialise(pod0, pod0);
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ unit: "binary", minLength: 1 }),
          fc.constantFrom("../../x", "/etc/x", "a\nb", "..", "-"),
        ),
        async (name) => {
          expect(await readPhase(control, name)).toEqual({ allowed: true, phase: null });
          await fence.setOwner(name, { kind: "shared" }).catch(() => undefined);
          const write = withWriteIntent(
            { control, store: "git", key: name, organizationId: name },
            async () => 1,
          );
          await write.catch(() => undefined);
        },
      ),
      { numRuns: 100 },
    );
    expect(await readdir(folder)).toEqual(["control"]);
    expect((await readdir(control)).sort()).toEqual(
      ["default", "dirty", "inflight", "owners", "routes", "self", "shares", "tmp"].sort(),
    );
    expect(await readdir(join(control, "owners"))).toEqual(["git"]);
    for (const { key } of await fence.takeDirty("git")) expect(key).not.toMatch(/\n/);
  });
});

describe("drain", () => {
  test("waits for a writer in flight, and refuses the next one", async () => {
    await staged(pod0, "source");
    const order: string[] = [];
    let finish: (() => void) | null = null;
    const slow = withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        order.push("written");
      },
    );
    await until("the writer is writing", () => finish !== null);
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const drained = drain(10).then((result) => {
      order.push("drained");
      return result;
    });
    await sleep(300);
    expect(order).toEqual([]);
    (finish as (() => void) | null)?.();
    await slow;
    expect(await drained).toEqual({ stragglers: [] });
    expect(order).toEqual(["written", "drained"]);
    expect((await fence.takeDirty("objects")).map((entry) => entry.key)).toEqual(["uploads/red/1"]);
  });

  test("a writer is in flight before it reads the share", async () => {
    await staged(pod0, "source");
    const share = join(control, "shares", migrationId);
    const content = await readFile(share, "utf8");
    await rm(share);
    // A pipe holds the reader until the test writes to it.
    execFileSync("mkfifo", [share]);
    const write = withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => 1,
    );
    await until("it is in flight", async () => (await fence.inflightKeys("objects")).has("uploads/red/1"));
    await writeFile(share, content);
    expect(await write).toBe(1);
  });

  test("stops when it is aborted", async () => {
    await staged(pod0, "fenced");
    const intent = { pid: process.pid, startTime: await ownStartTime(), key: "uploads/red/1" };
    await writeFile(join(control, "inflight/objects/a"), formatIntent(intent));
    const waiting: string[] = [];
    const drained = fence.drain({
      store: "objects",
      migrationId,
      graceMs: 0,
      signal: AbortSignal.timeout(100),
      ownerOf,
      onWaiting: (texts) => waiting.push(...texts),
    });
    await expect(drained).rejects.toMatchObject({ name: "TimeoutError" });
    expect(waiting[0]).toContain("uploads/red/1");
  });

  test("a dead writer, also one whose process id was reused, has ended and is dirty", async () => {
    await staged(pod0, "fenced");
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const inflight = join(control, "inflight/objects");
    await writeFile(
      join(inflight, "reused"),
      formatIntent({ pid: process.pid, startTime: "1", key: "uploads/red/1" }),
    );
    await writeFile(
      join(inflight, "gone"),
      formatIntent({ pid: 4_194_304, startTime: "1", key: "uploads/blue/2" }),
    );
    await writeFile(join(inflight, "half"), "1234 5");
    expect(await drain(5_000)).toEqual({ stragglers: [] });
    const keys = (await fence.takeDirty("objects")).map((entry) => entry.key).sort();
    expect(keys).toEqual(["uploads/blue/2", "uploads/red/1"]);
    for (const { id } of await fence.takeDirty("objects")) await fence.acknowledgeDirty("objects", id);
    expect(await fence.takeDirty("objects")).toEqual([]);
  });

  test("ends a straggler of a fenced organization, and neither waits for nor ends a neighbour", async () => {
    await staged(pod0, "source");
    const slow = startWriter(1, "red", 60_000);
    const neighbour = startWriter(2, "green", 60_000);
    const both = startWriter(3, "green", 1);
    await until(
      "writers are in flight",
      () => slow.lines().length > 0 && neighbour.lines().length > 0 && both.lines().length > 4,
    );
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const startedAt = performance.now();
    const { stragglers } = await drain(100);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    expect(stragglers).toHaveLength(1);
    expect(stragglers[0]).toContain("uploads/red/1-0");
    await exited(slow.child);
    expect(slow.child.signalCode).toBe("SIGTERM");
    expect(neighbour.child.signalCode).toBeNull();
    expect((await fence.takeDirty("objects")).map((entry) => entry.key)).toContain("uploads/red/1-0");
  });

  test("a server is waited for, not ended: it serves more than this write", async () => {
    await staged(pod0, "source");
    const server = startWriter(1, "red", 60_000, "server");
    await until("the server is writing", () => server.lines().length > 0);
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const waiting = new Set<string>();
    const drained = fence.drain({
      store: "objects",
      migrationId,
      graceMs: 20,
      signal: AbortSignal.timeout(500),
      ownerOf,
      onWaiting: (texts) => texts.forEach((text) => void waiting.add(text)),
    });
    await expect(drained).rejects.toMatchObject({ name: "TimeoutError" });
    expect(server.child.signalCode).toBeNull();
    expect([...waiting].join()).toContain("uploads/red/1-0");
  });

  test("a process that also writes for a neighbour is waited for, not ended", async () => {
    await staged(pod0, "source");
    const writer = startWriter(1, "red", 60_000);
    await until("the writer is in flight", () => writer.lines().length > 0);
    const [name] = (await readdir(join(control, "inflight/objects"))) as [string];
    const text = await readFile(join(control, "inflight/objects", name), "utf8");
    await writeFile(join(control, "inflight/objects/other"), text.replace("red", "green"));
    await fence.setShares(migrationId, pod0, shares("fenced"));
    await expect(drain(20, AbortSignal.timeout(400))).rejects.toMatchObject({ name: "TimeoutError" });
    expect(writer.child.signalCode).toBeNull();
  });

  test("writers in many processes race with fences and are killed at random: none passes, every change is heard of", async () => {
    await staged(pod0, "source");
    const heard = new Set<string>();
    const collect = async () => {
      for (const { id, key } of await fence.takeDirty("objects")) {
        heard.add(key);
        await fence.acknowledgeDirty("objects", id);
      }
    };
    const endWatch = fence.watchDirty("objects", collect);
    const writers = [1, 2, 3].map((number) => startWriter(number, "red,green,blue", (number - 1) * 15));
    await until("all write", () => writers.every((writer) => writer.lines().length > 10));

    for (let round = 0; round < 15; round++) {
      await sleep(Math.random() * 60);
      if (round % 3 === 2) {
        const victim = writers[round % writers.length];
        victim?.child.kill("SIGKILL");
        writers.push(startWriter(100 + round, "red,green,blue", round));
      }
      await fence.setShares(migrationId, pod0, shares("fenced"));
      await drain(2_000);
      const root = join(folder, "root/uploads");
      const objects = async () =>
        (
          await Promise.all(
            ["red", "blue"].map(async (name) => (await readdir(join(root, name))).map((n) => `${name}/${n}`)),
          )
        ).flat();
      const before = await objects();
      await sleep(40);
      // Nothing of a fenced organization changes on disk after the drain, temporary files included.
      expect(await objects()).toEqual(before);
      await fence.setShares(migrationId, pod0, shares("source"));
    }
    for (const { child } of writers) child.kill("SIGKILL");
    await Promise.all(writers.map(({ child }) => exited(child)));
    await fence.setShares(migrationId, pod0, shares("fenced"));
    await drain(100);
    await collect();
    endWatch();

    const lines = writers.flatMap((writer) => writer.lines());
    const acknowledged = lines.flatMap((line) => line.acknowledged ?? []);
    expect(acknowledged.length).toBeGreaterThan(100);
    expect(
      lines
        .filter((line) => line.refused)
        .every((line) => line.code === "WRITE_FENCED" && line.podId === pod0),
    ).toBe(true);
    // A neighbour is never refused.
    expect(lines.filter((line) => line.refused && line.organizationId === "green")).toEqual([]);
    expect(lines.filter((line) => line.refused).length).toBeGreaterThan(10);
    const begun = lines.flatMap((line) => line.begun ?? []);
    // A neighbour's writer killed at the very end is not part of this drain.
    await until("dead neighbours are reaped", async () => {
      const end = fence.watchDirty("objects", () => undefined);
      await sleep(50);
      end();
      await collect();
      return begun.every((key) => heard.has(key));
    });
    expect(acknowledged.filter((key) => !heard.has(key))).toEqual([]);
  }, 60_000);
});
