/** Whole splits with what operators and machines do meanwhile: an abort, a second coordinator, servers that go away. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import { freePort } from "../../examples/quickstart/cluster/ports.ts";
import { startNode } from "../../examples/quickstart/cluster/start.ts";
import { waitFor } from "../../examples/quickstart/cluster/waiting.ts";
import { smallSplit } from "../support/small-split.ts";

const NOTHING_LOST = { ok: true, lostWrites: 0, duplicatedWrites: 0, staleReads: 0, failedRequests: 0 };

async function reached(coordinator: Coordinator, migration: string, lifecycle: string): Promise<void> {
  await waitFor(
    `${migration} ${lifecycle}`,
    async () => ((await coordinator.migration(migration)).lifecycle === lifecycle ? true : null),
    { withinMs: 45_000, everyMs: 50 },
  );
}

function otherPlan(planFile: string, layout: Layout, migration: string): string {
  const file = join(layout.folder, `${migration}.yaml`);
  const plan = parse(readFileSync(planFile, "utf8")) as { settings: { cutover: { approval: string } } };
  plan.settings.cutover.approval = "manual";
  writeFileSync(file, stringify({ ...plan, migration }));
  return file;
}

it("an aborted split leaves the new Pods empty, so that the same split can be made after it", async () => {
  const report = await smallSplit({
    beforeSplit: async ({ coordinator, layout, planFile }) => {
      await coordinator.cleave("split", otherPlan(planFile, layout, "given-up"));
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

it("two coordinators decide once", async () => {
  const report = await smallSplit({
    beforeSplit: async ({ layout, processes }) => {
      const port = await freePort();
      const config = parse(readFileSync(join(layout.folder, "coordinator.yaml"), "utf8")) as object;
      const file = join(layout.folder, "coordinator-b.yaml");
      const own = {
        ...config,
        id: "coordinator-b",
        listen: { host: "127.0.0.1", port },
        stateDirectory: join(layout.folder, "coordinator-b"),
      };
      writeFileSync(file, stringify(own), { mode: 0o600 });
      startNode(processes, "coordinator-b", "coordinator/main.ts", "--config", file);
    },
    afterwards: async (coordinator) => {
      const types = (await coordinator.events()).map((event) => event.type);
      for (const once of ["SeedingCompleted", "FenceRaised", "ConsensusReached", "AuthorityTransferred"])
        expect(types.filter((type) => type === once)).toHaveLength(1);
      expect(types.filter((type) => type === "Opened")).toHaveLength(2);
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 90_000);

it("goes on after NATS and a target's PostgreSQL were away", async () => {
  let disturbed: Promise<void> | undefined;
  const report = await smallSplit({
    options: { settlingMs: 2_000 },
    beforeSplit: async ({ coordinator, layout, processes }) => {
      disturbed = (async () => {
        await reached(coordinator, "demo-split", "following");
        const startNats = await processes.kill("nats");
        await sleep(1_000);
        startNats();
        const target = layout.pods[1];
        const [pid] = readFileSync(join(target?.dataDirectory ?? "", "postmaster.pid"), "utf8").split("\n");
        // An immediate shutdown: as after a crash, its WAL has to be replayed.
        process.kill(Number(pid), "SIGQUIT");
      })();
      // Whoever waits for it is told below.
      disturbed.catch(() => undefined);
    },
    afterwards: async () => await disturbed,
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 120_000);
