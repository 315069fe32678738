/** A split that is aborted leaves the cluster as it was, whatever state it was in. */
import { expect, it } from "vitest";
import { ABORTABLE, abortEverywhere, beginBy } from "../support/abort-everywhere.ts";
import { smallSplit } from "../support/small-split.ts";

it("nothing is left of a split that was aborted in any state, and one can be made after it", async () => {
  const report = await smallSplit({
    withinMs: 540_000,
    options: { settlingMs: 300, rate: 10 },
    beforeSplit: (cluster) =>
      abortEverywhere({
        ...cluster,
        states: ABORTABLE,
        slow: (at) => (at === "fencing" ? "agent-pod-0" : "agent-pod-101"),
        begin: beginBy("split", cluster),
      }),
  });
  expect(report).toMatchObject({ ok: true, lostWrites: 0, duplicatedWrites: 0, failedRequests: 0 });
}, 600_000);
