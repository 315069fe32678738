/** Defects in the agent's loop that a test of the part alone finds sooner than the simulator. */
import type { StoreMutant } from "./store-mutant.ts";

export const LOOP_HUNTS: readonly StoreMutant[] = [
  {
    name: "clocks-order-migrations",
    says: "A rollback that is planned by a clock that is behind is not older than what it takes back.",
    edits: [
      {
        file: "agent/domain/guard.ts",
        find: "migration.plannedSequence >= newest.migration.plannedSequence",
        replace: "migration.plannedAt >= newest.migration.plannedAt",
      },
    ],
    tests: {
      file: "test/agent/domain/guard.test.ts",
      name: "asks no planner's clock which migration is the newer one",
    },
  },
  {
    name: "lease-begins-with-the-answer",
    says: "A read lease is counted from when the log's answer came, however old its word is by then.",
    edits: [
      {
        file: "agent/loop/read-lease.ts",
        find: "this.#askedAt = askedAt;",
        replace: "this.#askedAt = Math.max(askedAt, this.#clock.monotonic());",
      },
    ],
    tests: { file: "test/agent/loop/read-lease.test.ts", name: "begins when the log was asked" },
  },
];
