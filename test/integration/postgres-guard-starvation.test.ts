/** Writers that always overlap never keep the fence waiting for as long as its grace. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { lowerFence, raiseFence } from "../../agent/stores/postgres/guard/fence.ts";
import type { Cluster } from "../support/postgres.ts";
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
} from "../support/scratch-postgres.ts";

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
