/** A split, and a rollback after it, with kill -9 in every state of both. */
import { afterEach, it } from "vitest";
import { expectNothingLost, Killing, ROUNDS } from "../support/kill-in-every-state.ts";
import { smallRollback } from "../support/small-split.ts";

let under: Killing[] = [];
afterEach(async () => {
  await Promise.all(under.map((killing) => killing.stop()));
});

it.each(ROUNDS)(
  "nothing is lost, and both are completed: round %i",
  async (round) => {
    const split = new Killing("split", round);
    const back = new Killing("rollback", round);
    under = [split, back];
    const report = await smallRollback({
      withinMs: 540_000,
      options: { seed: 1 + round },
      first: split.start,
      beforeSplit: async (cluster) => {
        await split.finished();
        await split.stop();
        await back.start(cluster);
      },
      beforeAudit: () => back.finished(),
    });
    expectNothingLost(report);
  },
  600_000,
);
