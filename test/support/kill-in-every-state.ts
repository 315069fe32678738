/** Small splits, moves and rollbacks, in each of which one process is killed with -9 in every second state of the lifecycle. */
import { describe, expect, it } from "vitest";
import { BUSIEST } from "../../examples/quickstart/run-move.ts";
import { ROLLBACK } from "../../examples/quickstart/run-rollback.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { type Kill, Saboteur } from "./saboteur.ts";
import { smallMove, smallRollback, smallSplit } from "./small-split.ts";

/**
 * Where a process can be met: states that do not follow each other share a run. `transferring` cannot be: consensus and transfer
 * are one record of the log, so nobody ever sees a log that ends between them. What comes after `retaining` is killed in
 * test/e2e/lifecycle.test.ts.
 */
const RUNS: readonly (readonly Lifecycle[])[] = [
  ["planned", "seeding", "ready", "matching", "retaining"],
  ["preflight", "following", "fencing", "activating"],
];

const NOTHING = { lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };

/** In these the work of a state is hit in its middle; the cutover's are over within milliseconds. */
const DELAY_MS: Partial<Record<Lifecycle, number>> = { preflight: 100, seeding: 400, following: 200 };

const STORIES = {
  split: {
    run: smallSplit,
    migration: MIGRATION,
    /** A target that makes the others wait in `matching`. */
    slowBeside: (name: string) => (name === "agent-pod-101" ? "agent-pod-100" : "agent-pod-101"),
  },
  // With one target it is that one, even when it is the one to be killed.
  move: { run: smallMove, migration: BUSIEST, slowBeside: () => "agent-pod-1" },
  // Planned and started in one record, so that nobody meets it in `planned`.
  rollback: { run: smallRollback, migration: ROLLBACK, slowBeside: () => "agent-pod-0" },
} as const;

export function killInEveryState(name: string, story: keyof typeof STORIES = "split"): void {
  const { run, migration, slowBeside } = STORIES[story];
  describe(`kill -9 of ${name}`, () => {
    const runs = RUNS.map((states) => states.filter((at) => story !== "rollback" || at !== "planned"));
    it.each(runs.map((states) => [states.join(" and in "), states] as const))(
      "in %s: nothing is lost, and it is completed",
      async (_, states) => {
        const other = slowBeside(name);
        const kills = states.map((at): Kill => {
          const delayMs = DELAY_MS[at];
          return {
            at,
            ...(delayMs === undefined ? {} : { delayMs }),
            ...(at === "matching" ? { pausedFromFence: other } : {}),
          };
        });
        let saboteur: Saboteur | undefined;
        const report = await run({
          beforeAudit: async () => await saboteur?.finished(),
          options: { seed: 1 + runs.indexOf(states) },
          beforeSplit: async ({ coordinator, layout, planFile, processes }) => {
            saboteur = new Saboteur(layout, processes, name, kills, migration);
            await saboteur.start();
            if (!states.includes("planned")) return;
            // The coordinator may be killed between its decision and its answer.
            const answered = coordinator.cleave("plan", planFile);
            await (name === "coordinator" ? answered.catch(() => undefined) : answered);
            await saboteur.finished();
            await coordinator.migration(migration);
          },
        }).finally(() => saboteur?.stop());
        expect(saboteur?.killedAt).toEqual(states);
        // Neighbours of a source whose agent is dead wait for it as everybody does, so `neighbourRefusals` may count.
        const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
        expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual(NOTHING);
      },
      400_000,
    );
  });
}
