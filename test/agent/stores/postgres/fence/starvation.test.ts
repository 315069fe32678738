/** Whom a fence keeps waiting, and who keeps it: writers that always overlap, and an agent that died meanwhile. */
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { lowerFence, raiseFence } from "../../../../../agent/stores/postgres/fence/raise.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  guardAndStage,
  lendFrom,
  outcome,
  POD_1,
  POD_2,
  SPLIT,
  startPod,
  writer,
} from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let db: pg.Client;
let opened: pg.Client[] = [];
let number = 0;

beforeAll(async () => {
  cluster = await startPod();
  await guardAndStage(cluster);
  db = await cluster.connect();
});
afterAll(async () => {
  await db?.end();
  await cluster?.remove();
});
beforeEach(async () => {
  await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: null });
  await cluster.query("UPDATE issues SET title = 'one' WHERE id = 1");
});
afterEach(async () => {
  await Promise.all(opened.map((client) => client.end().catch(() => undefined)));
  opened = [];
});

async function connect(options: { superuser?: boolean } = {}): Promise<pg.Client> {
  const client = await writer(cluster, options);
  opened.push(client);
  return client;
}

async function fence(graceMs = 2_000) {
  number += 1;
  return raiseFence(db, lendFrom(cluster), {
    migrationId: SPLIT,
    epoch: epoch(number),
    targetPodIds: [POD_1, POD_2],
    graceMs,
  });
}

const phases = async () =>
  (await cluster.query<{ phase: string }>("SELECT DISTINCT phase FROM cleave.share")).map((row) => row.phase);
const WRITE = "UPDATE issues SET title = 'written' WHERE id = 1";

describe("32 writers of one organization, always overlapping", () => {
  it.each(["READ COMMITTED", "REPEATABLE READ"])("do not starve the fence in %s", async (level) => {
    await cluster.query(
      "INSERT INTO issues (id, project_id, title) SELECT i, 1, 'hot ' || i FROM generate_series(2000, 2031) AS i ON CONFLICT DO NOTHING",
    );
    const clients = await Promise.all(Array.from({ length: 32 }, () => connect()));
    const stop = new AbortController();
    let written = 0;
    let refused = 0;
    const running = clients.map(async (client, index) => {
      while (!stop.signal.aborted) {
        const result = await outcome(
          client.query(
            `BEGIN ISOLATION LEVEL ${level}; UPDATE issues SET title = title WHERE id = ${2000 + index}; SELECT pg_sleep(0.02); COMMIT`,
          ),
        );
        if (result === "ok") written += 1;
        else {
          await client.query("ROLLBACK");
          refused += 1;
          expect(["CL503", "40001"]).toContain(result);
        }
      }
    });
    await sleep(300);
    expect(written).toBeGreaterThan(32);
    const { drainMs, stragglers } = await fence(2_000);
    const atFence = written;
    await sleep(100);
    stop.abort();
    await Promise.all(running);
    expect(stragglers).toEqual([]);
    expect(drainMs).toBeLessThan(2_000);
    // Answers that were on their way when the fence came up; none of a write after it.
    expect(written - atFence).toBeLessThanOrEqual(32);
    expect(refused).toBeGreaterThan(0);
  });
});

describe("a fence whose agent dies while it waits for a writer", () => {
  async function abandoned(straggler: pg.Client): Promise<void> {
    await straggler.query("BEGIN");
    await straggler.query(WRITE);
    const agent = await cluster.connect();
    agent.on("error", () => undefined);
    const { stream } = (agent as unknown as { connection: { stream: Socket } }).connection;
    number += 1;
    const options = { migrationId: SPLIT, epoch: epoch(number), targetPodIds: [POD_1, POD_2], graceMs: 300 };
    // Nobody is terminated for it: the process that would do so is gone.
    const raising = raiseFence(agent, () => new Promise(() => undefined), options);
    raising.catch(() => undefined);
    await sleep(100);
    stream.destroy();
  }

  it("does not come up after it was lowered through the log", async () => {
    const straggler = await connect();
    await abandoned(straggler);
    await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: epoch(number) });
    await straggler.query("COMMIT");
    await sleep(200);
    expect(await phases()).toEqual(["source"]);
    expect(await outcome((await connect()).query(WRITE))).toBe("ok");
  });

  it("refuses newcomers no longer than grace and termination take", async () => {
    const straggler = await connect();
    await abandoned(straggler);
    const newcomer = await connect();
    expect(await outcome(newcomer.query("UPDATE issues SET title = 'x' WHERE id = 3"))).toBe("CL503");
    await sleep(4_500);
    expect(await outcome(newcomer.query("UPDATE issues SET title = 'x' WHERE id = 3"))).toBe("ok");
    await straggler.query("COMMIT");
    expect(await phases()).toEqual(["source"]);
  });
});
