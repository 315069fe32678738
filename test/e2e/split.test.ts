/** A whole split with what machines do meanwhile: a second coordinator, servers that go away. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import type { Layout } from "../../examples/quickstart/cluster/layout.ts";
import { freePort } from "../../examples/quickstart/cluster/ports.ts";
import type { Processes } from "../../examples/quickstart/cluster/processes.ts";
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

/** NATS, and then a target's PostgreSQL, while the split follows. */
async function disturb(coordinator: Coordinator, layout: Layout, processes: Processes): Promise<void> {
  await reached(coordinator, "demo-split", "following");
  const startNats = await processes.kill("nats");
  await sleep(1_000);
  startNats();
  const target = layout.pods[1];
  const [pid] = readFileSync(join(target?.dataDirectory ?? "", "postmaster.pid"), "utf8").split("\n");
  // An immediate shutdown: as after a crash, its WAL has to be replayed.
  process.kill(Number(pid), "SIGQUIT");
}

it("two coordinators decide once, while NATS and a target's PostgreSQL are away", async () => {
  let disturbed: Promise<void> | undefined;
  const report = await smallSplit({
    options: { settlingMs: 2_000 },
    beforeSplit: async ({ coordinator, layout, processes }) => {
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
      disturbed = disturb(coordinator, layout, processes);
      // Whoever waits for it is told below.
      disturbed.catch(() => undefined);
    },
    afterwards: async (coordinator) => {
      await disturbed;
      const events = await coordinator.events();
      const types = events.map(({ type }) => type);
      for (const once of ["SeedingCompleted", "ConsensusReached", "AuthorityTransferred"])
        expect(types.filter((type) => type === once)).toHaveLength(1);
      expect(types.filter((type) => type === "Opened")).toHaveLength(2);
      // A fence may have been lowered when the server went away, and each is another one.
      const epochs = events.flatMap((event) => (event.type === "FenceRaised" ? [event.epoch] : []));
      expect(epochs.length).toBeGreaterThan(0);
      expect(new Set(epochs).size).toBe(epochs.length);
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 120_000);
