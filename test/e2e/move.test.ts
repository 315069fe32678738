/** Whole moves between live Pods, with what operators and machines do meanwhile. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import { waitFor } from "../../examples/quickstart/cluster/waiting.ts";
import { smallMove } from "../support/small-split.ts";

const NOTHING_LOST = {
  ok: true,
  lostWrites: 0,
  duplicatedWrites: 0,
  staleReads: 0,
  failedRequests: 0,
  neighbourRefusals: 0,
};

async function reached(coordinator: Coordinator, migration: string, lifecycle: string): Promise<void> {
  await waitFor(
    `${migration} ${lifecycle}`,
    async () => ((await coordinator.migration(migration)).lifecycle === lifecycle ? true : null),
    { withinMs: 45_000, everyMs: 50 },
  );
}

it("an aborted move leaves nothing of the organization, and the same one can be made after it", async () => {
  const report = await smallMove({
    beforeSplit: async ({ coordinator, layout, planFile }) => {
      const file = join(layout.folder, "given-up.yaml");
      const plan = parse(readFileSync(planFile, "utf8")) as { settings: { cutover: { approval: string } } };
      plan.settings.cutover.approval = "manual";
      writeFileSync(file, stringify({ ...plan, migration: "given-up" }));
      await coordinator.cleave("move", file);
      await reached(coordinator, "given-up", "ready");
      await coordinator.cleave("abort", "given-up", "--reason", "the night was too short");
      await reached(coordinator, "given-up", "aborted");
    },
    afterwards: async (coordinator) => {
      expect((await coordinator.migration("given-up")).reason).toBe("the night was too short");
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 120_000);
