/** A move that is aborted leaves both Pods as they were, whatever state it was in; both serve others meanwhile. */
import { expect, it } from "vitest";
import { ABORTABLE, abortEverywhere, beginBy } from "../support/abort-everywhere.ts";
import { smallMove } from "../support/small-split.ts";

it("nothing is left of a move that was aborted in any state, and one can be made after it", async () => {
  const report = await smallMove({
    withinMs: 540_000,
    options: { settlingMs: 300, rate: 10 },
    beforeSplit: (cluster) =>
      abortEverywhere({
        ...cluster,
        states: ABORTABLE,
        slow: (at) => (at === "fencing" ? "agent-pod-0" : "agent-pod-1"),
        begin: beginBy("move", cluster),
      }),
  });
  expect(report).toMatchObject({ ok: true, lostWrites: 0, duplicatedWrites: 0, failedRequests: 0 });
}, 600_000);
