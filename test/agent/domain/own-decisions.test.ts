import { describe, expect, it } from "vitest";
import { leaseEndMs, sourceIsSilent } from "../../../agent/domain/own-decisions.ts";
import type { Epoch } from "../../../protocol/ids.ts";

const EPOCH = 3 as Epoch;

describe("when no read lease of the source can be left (rule 12)", () => {
  it("adds to its length how long the log's last word may be out of date, and a tenth for the clocks", () => {
    // A log server that was cut off from its peers goes on answering for 2 s: a lease may begin that late.
    expect(leaseEndMs(1_000)).toBeCloseTo(3_300);
    expect(leaseEndMs(0)).toBeCloseTo(2_200);
  });

  it("waits for that long and no shorter, unless the source says that it is dormant", () => {
    expect(sourceIsSilent(EPOCH, EPOCH, 0, 1_000)).toBe(true);
    expect(sourceIsSilent(2, EPOCH, 3_299, 1_000)).toBe(false);
    expect(sourceIsSilent(2, EPOCH, 3_301, 1_000)).toBe(true);
  });
});
