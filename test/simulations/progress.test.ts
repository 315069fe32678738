import { expect, test } from "vitest";
import { progressLine } from "../../simulations/commands/progress.ts";

const SOME = { runs: 1_200, failed: 0, seeds: 10_000, endsAfterMs: null };

test("says how many of how many, what failed, how fast, and how long it still takes", () => {
  expect(progressLine(SOME, 60_000)).toBe("1,200 of 10,000 seeds, 0 failed, 1,200 a minute, 7 min 20 s left");
});

test("ends with whatever is over first, and says nothing of an end that it cannot know", () => {
  expect(progressLine({ ...SOME, endsAfterMs: 120_000 }, 60_000)).toContain(", 1 min 0 s left");
  expect(progressLine({ runs: 0, failed: 0, seeds: 10, endsAfterMs: null }, 500)).toBe(
    "0 of 10 seeds, 0 failed, 0 a minute",
  );
  expect(progressLine({ runs: 5, failed: 1, seeds: null, endsAfterMs: 90_000 }, 60_000)).toBe(
    "5 seeds, 1 failed, 5 a minute, 30.0 s left",
  );
});
