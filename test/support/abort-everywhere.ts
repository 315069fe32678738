/** One migration after the other, each aborted in the moment in which it reaches another state; nothing of it is left. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { parse, stringify } from "yaml";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import type { Processes } from "../../examples/quickstart/cluster/processes.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { changes, type Footprint, footprintOf } from "./footprint.ts";
import { hold, letGo } from "./hold.ts";
import { LifecycleWatch } from "./lifecycle-watch.ts";

/** From each of these a migration can be aborted; `transferring` is never the end of a log. */
export const ABORTABLE: readonly Lifecycle[] = [
  "planned",
  "preflight",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
];

const WITHIN_MS = 90_000;
const REST_MS = 4_000;

export interface Aborting {
  readonly coordinator: Coordinator;
  readonly layout: Layout;
  readonly processes: Processes;
  readonly states: readonly Lifecycle[];
  /** The source's agent: it stands still from the fence to the abort, so that `fencing` lasts. */
  readonly sourceAgent: string;
  /** Plans and starts it (in `planned`: only plans it) under that name, with a cutover that needs no approval. */
  readonly begin: (migration: string, at: Lifecycle) => Promise<void>;
}

/** `begin` of a split or move, by the plan that the demo wrote. */
export function beginBy(
  kind: "split" | "move",
  { coordinator, layout, planFile }: Pick<Aborting, "coordinator" | "layout"> & { readonly planFile: string },
): Aborting["begin"] {
  const plan = parse(readFileSync(planFile, "utf8")) as object;
  return async (migration, at) => {
    const file = join(layout.folder, `${migration}.yaml`);
    writeFileSync(file, stringify({ ...plan, migration }));
    await coordinator.cleave(at === "planned" ? "plan" : kind, file);
  };
}

export async function abortEverywhere(options: Aborting): Promise<void> {
  const { coordinator, layout, states } = options;
  const before = await atRest(coordinator, layout);
  for (const at of states) {
    const migration = `gone-in-${at}`;
    await abortAt(options, migration, at);
    expect((await coordinator.migration(migration)).lifecycle, migration).toBe("aborted");
    await settled(coordinator, layout, before, migration);
  }
}

/** What an earlier migration tidies up after its window is gone: nothing changes any more. */
async function atRest(coordinator: Coordinator, layout: Layout): Promise<Footprint> {
  for (;;) {
    const first = await footprintOf(coordinator, layout);
    await sleep(REST_MS);
    const second = await footprintOf(coordinator, layout);
    if (changes(first, second).length === 0) return second;
  }
}

async function abortAt(options: Aborting, migration: string, at: Lifecycle): Promise<void> {
  const { coordinator, layout, processes, sourceAgent } = options;
  const aborted = Promise.withResolvers<void>();
  let resume: (() => void) | null = null;
  const watch = new LifecycleWatch(layout, migration, (lifecycle) => {
    if (lifecycle === "fencing" && at === "fencing") resume = processes.pause(sourceAgent);
    if (lifecycle !== at) return;
    abort(layout, migration).then(() => aborted.resolve(), aborted.reject);
  });
  await watch.start();
  if (at === "matching") hold(layout.folder);
  try {
    const begun = options.begin(migration, at);
    const late = sleep(WITHIN_MS, undefined, { ref: false }).then(async () => {
      const { lifecycle, waitingFor } = await coordinator.migration(migration);
      throw new Error(`${migration} is ${lifecycle} and waits for ${waitingFor.join("; ")}`);
    });
    await Promise.race([aborted.promise, late, begun.then(() => aborted.promise)]);
    // Where it is aborted while its command still waits for an answer, that answer is whatever it is.
    await begun.catch(() => undefined);
  } finally {
    (resume as (() => void) | null)?.();
    letGo(layout.folder);
    await watch.stop();
  }
}

/** Without a process in between: some states last for milliseconds. */
async function abort(layout: Layout, migration: string): Promise<void> {
  const response = await fetch(`${layout.coordinatorUrl}/v1/migrations/${migration}/abort`, {
    method: "POST",
    headers: { authorization: `Bearer ${layout.token}`, "content-type": "application/json" },
    body: JSON.stringify({ reason: "a test aborts in every state" }),
  });
  if (!response.ok) throw new Error(await response.text());
}

/** What agents remove takes a moment; then nothing is different. */
async function settled(
  coordinator: Coordinator,
  layout: Layout,
  before: readonly string[],
  migration: string,
): Promise<void> {
  const until = performance.now() + WITHIN_MS;
  for (;;) {
    const left = changes(before, await footprintOf(coordinator, layout));
    if (left.length === 0) return;
    if (performance.now() > until) expect(left, migration).toEqual([]);
    await sleep(200);
  }
}
