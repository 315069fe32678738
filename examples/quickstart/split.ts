/** A migration as an operator would do it: a plan, `cleave split` or `cleave move`, and watching. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import type { MigrationStatus } from "../../coordinator/api/ports.ts";
import type { PlanInput } from "../../protocol/plan.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { Progress } from "./progress.ts";

export const MIGRATION = "demo-split";
const LOOK_EVERY_MS = 200;
/** Nothing in the demo takes this long, at any size that fits a laptop. */
const GIVE_UP_MS = 15 * 60_000;

interface Step {
  readonly title: string;
  readonly lifecycles: readonly MigrationStatus["lifecycle"][];
}

const stepsOf = ({ copying }: Wording): readonly Step[] => [
  { title: "Checking every Pod before anything is changed", lifecycles: ["planned", "preflight"] },
  { title: copying, lifecycles: ["seeding"] },
  { title: "Following what changes, and comparing", lifecycles: ["following"] },
  { title: "Cutover", lifecycles: ["ready", "fencing", "matching", "transferring", "activating"] },
];

/** What the steps are called. */
export interface Wording {
  readonly migration: string;
  readonly copying: string;
}

export const SPLIT: Wording = { migration: MIGRATION, copying: "Copying Pod 0 to the new Pods" };

/** Writes the plan of the demo: approval at the first consensus, since nobody sits in front of it. */
export function writePlan(
  folder: string,
  options: {
    readonly kind: "split" | "move";
    readonly migration?: string;
    /** Pod → organizations. */
    readonly assignments: ReadonlyMap<string, readonly string[]>;
    readonly settlingMs: number;
    readonly source?: string;
  },
): string {
  const { kind, assignments, settlingMs } = options;
  const migration = options.migration ?? MIGRATION;
  const plan: PlanInput = {
    migration,
    kind,
    source: options.source ?? "pod-0",
    assignments: [...assignments].map(([pod, organizations]) => ({ pod, organizations: [...organizations] })),
    settings: {
      settlingMs,
      cutover: { approval: "auto", drainGraceMs: 100, deadlineMs: 20_000 },
    },
  };
  const file = join(folder, migration === MIGRATION ? "plan.yaml" : `${migration}.yaml`);
  writeFileSync(file, stringify(plan));
  return file;
}

/** Shows the migration's steps until the targets serve. `onFollowing` runs beside the step of that name. */
export async function watchMigration(
  coordinator: Coordinator,
  progress: Progress,
  wording: Wording,
  onFollowing: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const end = performance.now() + GIVE_UP_MS;
  const look = async () => await coordinator.migration(wording.migration);
  const steps = stepsOf(wording);
  for (const [at, { title, lifecycles }] of steps.entries()) {
    const later = steps.slice(at + 1).flatMap((step) => step.lifecycles);
    await progress.step(title, async (detail) => {
      const beside = lifecycles.includes("following") ? onFollowing() : Promise.resolve();
      for (;;) {
        const migration = await look();
        if (migration.lifecycle === "retaining" || later.includes(migration.lifecycle)) break;
        if (migration.lifecycle === "refused" || migration.lifecycle === "aborted")
          throw new Error(`${wording.migration} was ${migration.lifecycle}: ${why(migration)}`);
        if (migration.lifecycle === "ready" && migration.possibleCommands.includes("approve")) {
          const gaveUp = migration.attempts >= 3 && migration.reason !== null;
          if (gaveUp) throw new Error(`the cutover did not succeed: ${why(migration)}`);
        }
        if (performance.now() > end) throw new Error(`${wording.migration} waits for: ${why(migration)}`);
        detail(migration.waitingFor[0] ?? migration.lifecycle);
        await sleep(LOOK_EVERY_MS);
      }
      detail("");
      await beside;
    });
  }
}

/** Shows how what is dormant is removed, until nothing of it is left. */
export function watchRemoval(coordinator: Coordinator, progress: Progress, migration: string): Promise<void> {
  return watchUntil(coordinator, progress, migration, {
    title: "Removing what is dormant, on every Pod",
    look: (status) => {
      if (status.lifecycle === "completed") return null;
      if (status.lifecycle === "retaining" && !status.removalCheck?.open)
        throw new Error(`${migration} is not finalized: ${why(status)}`);
      return status.waitingFor[0] ?? status.lifecycle;
    },
  });
}

/** Waits until what was left behind is level with what the new Pods have. */
export function watchLevel(coordinator: Coordinator, progress: Progress, migration: string): Promise<void> {
  return watchUntil(coordinator, progress, migration, {
    title: "The last changes flow back",
    look: ({ reverseReplication }) => {
      const stores = reverseReplication.flatMap((way) => Object.values(way.stores));
      const open = stores.filter(({ lag, verified }) => lag.amount !== 0 || !verified);
      if (stores.length > 0 && open.length === 0) return null;
      return open.map(({ problem }) => problem?.message ?? "behind").join("; ");
    },
  });
}

/** Waits until nothing speaks against ending the retention: under traffic a copy is never level for long. */
export function watchReverseReplication(
  coordinator: Coordinator,
  progress: Progress,
  migration: string,
): Promise<void> {
  return watchUntil(coordinator, progress, migration, {
    title: "What the new Pods change flows back within its bounds",
    look: ({ waitingFor }) => waitingFor.find((reason) => reason.startsWith("reverse replication")) ?? null,
  });
}

/** Looks at a migration until `look`, which says what is still waited for, returns null. */
async function watchUntil(
  coordinator: Coordinator,
  progress: Progress,
  migration: string,
  { title, look }: { readonly title: string; readonly look: (status: MigrationStatus) => string | null },
): Promise<void> {
  const end = performance.now() + GIVE_UP_MS;
  await progress.step(title, async (detail) => {
    for (;;) {
      const status = await coordinator.migration(migration);
      const waiting = look(status);
      detail(waiting ?? "");
      if (waiting === null) return;
      if (performance.now() > end) throw new Error(`${migration} waits for: ${waiting}; ${why(status)}`);
      await sleep(LOOK_EVERY_MS);
    }
  });
}

function why(migration: MigrationStatus): string {
  const findings = migration.findings
    .filter((finding) => finding.severity === "error")
    .map((finding) => `${finding.code}: ${finding.message}`);
  return [...findings, ...(migration.reason ? [migration.reason] : []), ...migration.waitingFor].join("; ");
}
