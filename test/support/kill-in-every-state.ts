/** One small split per state of the lifecycle, each with a kill -9 of the same process in that state. */
import { describe, expect, it } from "vitest";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { type Kill, Saboteur } from "./saboteur.ts";
import { smallSplit } from "./small-split.ts";

/**
 * Where a process can be met. `transferring` cannot be: consensus and transfer are one record of the log, so nobody
 * ever sees a log that ends between them. Of the ends, only `retaining` is reached by a split that succeeds.
 */
const STATES: readonly Lifecycle[] = [
  "planned",
  "preflight",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
  "activating",
  "retaining",
];

const NOTHING = { lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };

/** In these the work of a state is hit in its middle; the cutover's are over within milliseconds. */
const DELAY_MS: Partial<Record<Lifecycle, number>> = { preflight: 100, seeding: 400, following: 200 };

export function killInEveryState(name: string): void {
  describe(`kill -9 of ${name}`, () => {
    it.each(STATES)(
      "in %s: nothing is lost, and the split is completed",
      async (at) => {
        const delayMs = DELAY_MS[at];
        const other = name === "agent-pod-101" ? "agent-pod-100" : "agent-pod-101";
        const kill: Kill = {
          name,
          at,
          ...(delayMs === undefined ? {} : { delayMs }),
          ...(at === "matching" ? { pausedFromFence: other } : {}),
        };
        let saboteur: Saboteur | undefined;
        const report = await smallSplit({
          options: { seed: 1 + STATES.indexOf(at) },
          beforeSplit: async ({ coordinator, layout, planFile, processes }) => {
            saboteur = new Saboteur(layout, processes, kill);
            await saboteur.start();
            if (at !== "planned") return;
            await coordinator.cleave("plan", planFile);
            await saboteur.finished();
            await coordinator.status();
          },
        }).finally(() => saboteur?.stop());
        expect(saboteur?.goneAt, "the process was killed").not.toBeNull();
        // Neighbours of a source whose agent is dead wait for it as everybody does, so `neighbourRefusals` may count.
        const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
        expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual(NOTHING);
      },
      120_000,
    );
  });
}
