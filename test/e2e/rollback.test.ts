/** One organization of a split goes back with everything that was written on its new Pod; aborted in every state first. */
import { expect, it } from "vitest";
import { ABORTABLE, abortEverywhere } from "../support/abort-everywhere.ts";
import { smallRollback } from "../support/small-split.ts";

it("a rollback that was aborted in any state leaves nothing, and one that is not loses nothing", async () => {
  let history = "";
  const report = await smallRollback({
    withinMs: 540_000,
    beforeSplit: async ({ coordinator, layout, processes, organizations = [] }) =>
      abortEverywhere({
        coordinator,
        layout,
        processes,
        // It is planned and started in one record.
        states: ABORTABLE.filter((state) => state !== "planned"),
        slow: (at) => (at === "fencing" ? "agent-pod-100" : "agent-pod-0"),
        begin: async (migration) => {
          await coordinator.cleave(
            "rollback",
            "demo-split",
            "--organizations",
            ...organizations,
            "--name",
            migration,
          );
        },
      }),
    afterwards: async (coordinator) => {
      const last = (await coordinator.status()).migrations.find(
        ({ kind, lifecycle }) => kind === "rollback" && lifecycle === "retaining",
      );
      history = await coordinator.cleave("history", last?.migrationId ?? "");
    },
  });
  expect(report).toMatchObject({
    ok: true,
    lostWrites: 0,
    duplicatedWrites: 0,
    staleReads: 0,
    failedRequests: 0,
  });
  expect(history).toContain("rollback of demo-split: 1 organizations from pod-100 back to pod-0");
}, 600_000);
