/**
 * Small splits, moves and rollbacks in which processes are killed with -9: each process in every state of the lifecycle. A
 * run is long and a kill is short, so one run has a kill in each of its states, of one process after the other.
 */
import { describe, expect, it } from "vitest";
import { BUSIEST } from "../../examples/quickstart/run-move.ts";
import { ROLLBACK } from "../../examples/quickstart/run-rollback.ts";
import { MIGRATION } from "../../examples/quickstart/split.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import { type Kill, Saboteur } from "./saboteur.ts";
import { smallMove, smallRollback, smallSplit } from "./small-split.ts";

/**
 * Where a process can be met. `transferring` cannot be: consensus and transfer are one record of the log, so nobody ever sees
 * a log that ends between them. What comes after `retaining` is killed in test/e2e/lifecycle.test.ts.
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

const STORIES = {
  split: {
    run: smallSplit,
    migration: MIGRATION,
    processes: ["coordinator", "agent-pod-0", "agent-pod-100"],
    /** A target that makes the others wait in `matching`. */
    slow: "agent-pod-101",
  },
  // With one target it is that one, even when it is the one to be killed.
  move: {
    run: smallMove,
    migration: BUSIEST,
    processes: ["coordinator", "agent-pod-0", "agent-pod-1"],
    slow: "agent-pod-1",
  },
  // Planned and started in one record, so that nobody meets it in `planned`.
  rollback: {
    run: smallRollback,
    migration: ROLLBACK,
    processes: ["coordinator", "agent-pod-100", "agent-pod-0"],
    slow: "agent-pod-0",
  },
} as const;

/** Who is killed where: in three rounds everybody is killed everywhere, and nobody in two states that follow each other. */
function roundOf(story: keyof typeof STORIES, round: number): Kill[] {
  const { processes, slow } = STORIES[story];
  return STATES.filter((at) => story !== "rollback" || at !== "planned").map((at): Kill => {
    const delayMs = DELAY_MS[at];
    return {
      name: processes[(STATES.indexOf(at) + round) % processes.length] as string,
      at,
      ...(delayMs === undefined ? {} : { delayMs }),
      ...(at === "matching" ? { pausedFromFence: slow } : {}),
    };
  });
}

export function killInEveryState(story: keyof typeof STORIES): void {
  const { run, migration, processes } = STORIES[story];
  describe(`kill -9 in a ${story}`, () => {
    const rounds = processes.map((_, round) => roundOf(story, round));
    it.each(rounds.map((kills, round) => [describeRound(kills), kills, round] as const))(
      "%s: nothing is lost, and it is completed",
      async (_, kills, round) => {
        let saboteur: Saboteur | undefined;
        const report = await run({
          beforeAudit: async () => await saboteur?.finished(),
          options: { seed: 1 + round },
          beforeSplit: async ({ coordinator, layout, planFile, processes: running }) => {
            saboteur = new Saboteur(layout, running, kills, migration);
            await saboteur.start();
            const [first] = kills;
            if (first?.at !== "planned") return;
            // The coordinator may be killed between its decision and its answer.
            const answered = coordinator.cleave("plan", planFile);
            await (first.name === "coordinator" ? answered.catch(() => undefined) : answered);
            await saboteur.finished();
            await coordinator.migration(migration);
          },
        }).finally(() => saboteur?.stop());
        expect(saboteur?.killed.map(({ at, name }) => `${name} in ${at}`).sort()).toEqual(
          kills.map(({ at, name }) => `${name} in ${at}`).sort(),
        );
        // Neighbours of a source whose agent is dead wait for it as everybody does, so `neighbourRefusals` may count.
        const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
        expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual(NOTHING);
      },
      400_000,
    );
  });
}

const describeRound = (kills: readonly Kill[]) => kills.map(({ name, at }) => `${name} in ${at}`).join(", ");
