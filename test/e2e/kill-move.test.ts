/** A move with kill -9 in every state. */
import { afterEach, it } from "vitest";
import { expectNothingLost, Killing, ROUNDS } from "../support/kill-in-every-state.ts";
import { smallMove } from "../support/small-split.ts";

let killing: Killing | undefined;
afterEach(async () => await killing?.stop());

it.each(ROUNDS)(
  "nothing is lost, and it is completed: round %i",
  async (round) => {
    const move = new Killing("move", round);
    killing = move;
    const report = await smallMove({
      options: { seed: 1 + round },
      beforeSplit: move.start,
      beforeAudit: () => move.finished(),
    });
    expectNothingLost(report);
  },
  400_000,
);
