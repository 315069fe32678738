/** Small splits, in each of which one process is killed with -9 in two states of the lifecycle. */
import { describe, expect, it } from "vitest";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { type Kill, Saboteur } from "./saboteur.ts";
import { smallSplit } from "./small-split.ts";

/**
 * Where a process can be met: an early and a late state share a run. `transferring` cannot be: consensus and transfer
 * are one record of the log, so nobody ever sees a log that ends between them. Of the ends, only `retaining` is reached
 * by a split that succeeds.
 */
const RUNS: readonly (readonly Lifecycle[])[] = [
  ["planned", "ready"],
  ["preflight", "matching"],
  ["seeding", "activating"],
  ["following", "fencing"],
  ["retaining"],
];

const NOTHING = { lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };

/** In these the work of a state is hit in its middle; the cutover's are over within milliseconds. */
const DELAY_MS: Partial<Record<Lifecycle, number>> = { preflight: 100, seeding: 400, following: 200 };

export function killInEveryState(name: string): void {
  describe(`kill -9 of ${name}`, () => {
    it.each(RUNS.map((states) => [states.join(" and in "), states] as const))(
      "in %s: nothing is lost, and the split is completed",
      async (_, states) => {
        const other = name === "agent-pod-101" ? "agent-pod-100" : "agent-pod-101";
        const kills = states.map((at): Kill => {
          const delayMs = DELAY_MS[at];
          return {
            at,
            ...(delayMs === undefined ? {} : { delayMs }),
            ...(at === "matching" ? { pausedFromFence: other } : {}),
          };
        });
        let saboteur: Saboteur | undefined;
        const report = await smallSplit({
          options: { seed: 1 + RUNS.indexOf(states) },
          beforeSplit: async ({ coordinator, layout, planFile, processes }) => {
            saboteur = new Saboteur(layout, processes, name, kills);
            await saboteur.start();
            if (!states.includes("planned")) return;
            // The coordinator may be killed between its decision and its answer.
            const answered = coordinator.cleave("plan", planFile);
            await (name === "coordinator" ? answered.catch(() => undefined) : answered);
            await saboteur.finished();
            await coordinator.migration(MIGRATION);
          },
        }).finally(() => saboteur?.stop());
        expect(saboteur?.killedAt).toEqual(states);
        // Neighbours of a source whose agent is dead wait for it as everybody does, so `neighbourRefusals` may count.
        const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
        expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual(NOTHING);
      },
      120_000,
    );
  });
}
