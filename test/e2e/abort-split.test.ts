/** A split that is aborted leaves the cluster as it was, whatever state it was in. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { ABORTABLE, abortEverywhere } from "../support/abort-everywhere.ts";
import { smallSplit } from "../support/small-split.ts";

it("nothing is left of a split that was aborted in any state, and one can be made after it", async () => {
  const report = await smallSplit({
    options: { settlingMs: 300, rate: 10 },
    beforeSplit: async ({ coordinator, layout, planFile, processes }) => {
      const plan = parse(readFileSync(planFile, "utf8")) as object;
      await abortEverywhere({
        coordinator,
        layout,
        processes,
        states: ABORTABLE,
        slow: (at) => (at === "fencing" ? "agent-pod-0" : "agent-pod-101"),
        begin: async (migration, at) => {
          const file = join(layout.folder, `${migration}.yaml`);
          writeFileSync(file, stringify({ ...plan, migration }));
          await coordinator.cleave(at === "planned" ? "plan" : "split", file);
        },
      });
    },
  });
  expect(report).toMatchObject({ ok: true, lostWrites: 0, duplicatedWrites: 0, failedRequests: 0 });
}, 600_000);
