/** A move that is aborted leaves both Pods as they were, whatever state it was in; both serve others meanwhile. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { ABORTABLE, abortEverywhere } from "../support/abort-everywhere.ts";
import { smallMove } from "../support/small-split.ts";

it("nothing is left of a move that was aborted in any state, and one can be made after it", async () => {
  const report = await smallMove({
    options: { settlingMs: 300, rate: 10 },
    beforeSplit: async ({ coordinator, layout, planFile, processes }) => {
      const plan = parse(readFileSync(planFile, "utf8")) as object;
      await abortEverywhere({
        coordinator,
        layout,
        processes,
        states: ABORTABLE,
        slow: (at) => (at === "fencing" ? "agent-pod-0" : "agent-pod-1"),
        begin: async (migration, at) => {
          const file = join(layout.folder, `${migration}.yaml`);
          writeFileSync(file, stringify({ ...plan, migration }));
          await coordinator.cleave(at === "planned" ? "plan" : "move", file);
        },
      });
    },
  });
  expect(report).toMatchObject({ ok: true, lostWrites: 0, duplicatedWrites: 0, failedRequests: 0 });
}, 600_000);
