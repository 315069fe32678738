/** What is aborted leaves the cluster as it was, whatever state it was in, and can be made after it. */
import { expect, it } from "vitest";
import { ABORTABLE, abortEverywhere, beginBy } from "../support/abort-everywhere.ts";
import { smallMove, smallRollback } from "../support/small-split.ts";

const NOTHING_LOST = { ok: true, lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };
const QUICK = { settlingMs: 300, rate: 10 };

it("nothing is left of a split and of a rollback that were aborted in any state", async () => {
  let history = "";
  const report = await smallRollback({
    withinMs: 540_000,
    options: QUICK,
    first: (cluster) =>
      abortEverywhere({
        ...cluster,
        states: ABORTABLE,
        sourceAgent: "agent-pod-0",
        begin: beginBy("split", cluster),
      }),
    beforeSplit: (cluster) =>
      abortEverywhere({
        ...cluster,
        // It is planned and started in one record.
        states: ABORTABLE.filter((state) => state !== "planned"),
        sourceAgent: "agent-pod-100",
        begin: async (migration) => {
          const { coordinator, organizations = [] } = cluster;
          const named = [...organizations, "--name", migration];
          await coordinator.cleave("rollback", "demo-split", "--organizations", ...named);
        },
      }),
    afterwards: async (coordinator) => {
      const last = (await coordinator.status()).migrations.find(
        ({ kind, lifecycle }) => kind === "rollback" && lifecycle === "retaining",
      );
      history = await coordinator.cleave("history", last?.migrationId ?? "");
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
  expect(history).toContain("rollback of demo-split: 1 organizations from pod-100 back to pod-0");
}, 600_000);

it("nothing is left of a move that was aborted in any state; both Pods serve others meanwhile", async () => {
  const report = await smallMove({
    withinMs: 540_000,
    options: QUICK,
    beforeSplit: (cluster) =>
      abortEverywhere({
        ...cluster,
        states: ABORTABLE,
        sourceAgent: "agent-pod-0",
        begin: beginBy("move", cluster),
      }),
    afterwards: async (coordinator) => {
      const { reason } = await coordinator.migration("gone-in-ready");
      expect(reason).toBe("a test aborts in every state");
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 600_000);
