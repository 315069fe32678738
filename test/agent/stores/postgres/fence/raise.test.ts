/** Rule 4, line by line: when the fence is up, every write that it did not see has ended. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  awaitMarker,
  lowerFence,
  raiseFence,
  readMarker,
} from "../../../../../agent/stores/postgres/fence/raise.ts";
import { setShares } from "../../../../../agent/stores/postgres/fence/staging.ts";
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

const titleOf = async (id: number) =>
  (await cluster.query<{ title: string }>("SELECT title FROM issues WHERE id = $1", [id]))[0]?.title;
const phases = async () =>
  (await cluster.query<{ phase: string }>("SELECT DISTINCT phase FROM cleave.share")).map((row) => row.phase);

const WRITE = "UPDATE issues SET title = 'written' WHERE id = 1";
const NEIGHBOUR = "UPDATE issues SET title = title WHERE id = 2";

describe("a writer that comes after the fence", () => {
  it("is refused with CL503, and neighbours write on", async () => {
    const client = await connect();
    await fence();
    await expect(client.query(WRITE)).rejects.toMatchObject({
      code: "CL503",
      message: "organization moving is read-only for a moment",
      hint: "Try again.",
    });
    expect(await outcome(client.query(NEIGHBOUR))).toBe("ok");
    await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: null });
    expect(await outcome(client.query(WRITE))).toBe("ok");
  });

  it.each([
    ["READ COMMITTED", "CL503"],
    ["REPEATABLE READ", "40001"],
    ["SERIALIZABLE", "40001"],
  ])("is refused in %s with a snapshot from before (%s)", async (level, state) => {
    const client = await connect();
    await client.query(`BEGIN ISOLATION LEVEL ${level}`);
    await client.query("SELECT count(*) FROM issues");
    await fence();
    expect(await outcome(client.query(WRITE))).toBe(state);
    await client.query("ROLLBACK");
    expect(await titleOf(1)).not.toBe("written");
  });

  it.each(["REPEATABLE READ", "SERIALIZABLE"])(
    "of a neighbour is let through in %s with a snapshot from before",
    async (level) => {
      const client = await connect();
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      await client.query("SELECT count(*) FROM issues");
      await fence();
      expect(await outcome(client.query(NEIGHBOUR))).toBe("ok");
      expect(await outcome(client.query("COMMIT"))).toBe("ok");
    },
  );

  it.each(["REPEATABLE READ", "SERIALIZABLE"])(
    "in %s with a snapshot from before a fence that was lowered again, never writes on what it saw then",
    async (level) => {
      const client = await connect();
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      await client.query("SELECT count(*) FROM issues");
      await fence();
      await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: null });
      expect(await outcome(client.query(WRITE))).toBe("40001");
    },
  );

  it.each([
    ["an INSERT", "INSERT INTO issues (project_id, title) VALUES (1, 'new')"],
    ["a DELETE", "DELETE FROM comments WHERE issue_id = 1"],
    [
      "INSERT ON CONFLICT",
      "INSERT INTO issues (id, project_id, title) VALUES (1, 1, 'c') ON CONFLICT (id) DO UPDATE SET title = 'written'",
    ],
    [
      "ON CONFLICT that hits a fenced row from a neighbour's",
      "INSERT INTO issues (id, project_id, title) VALUES (1, 2, 'c') ON CONFLICT (id) DO UPDATE SET title = 'written'",
    ],
    [
      "MERGE",
      "MERGE INTO issues USING (VALUES (1)) AS v (id) ON issues.id = v.id WHEN MATCHED THEN UPDATE SET title = 'written'",
    ],
    [
      "a data-modifying CTE",
      "WITH changed AS (UPDATE issues SET title = 'written' WHERE id = 1 RETURNING *) SELECT * FROM changed",
    ],
    ["a partition's row", "UPDATE builds_1 SET state = 'written' WHERE id = 1"],
    ["a cascade from a fenced parent", "DELETE FROM projects WHERE id = 1"],
  ])("is refused as %s", async (_, sql) => {
    const client = await connect();
    await fence();
    expect(await outcome(client.query(sql))).toBe("CL503");
  });

  it("is refused as COPY", async () => {
    const client = await connect();
    await fence();
    const copy = async (projectId: number) => {
      const stream = client.query(copyFrom("COPY issues (project_id, title) FROM STDIN"));
      const ended = new Promise((resolve, reject) => stream.on("finish", resolve).on("error", reject));
      stream.end(`${projectId}\tcopied ${projectId}\n`);
      return ended;
    };
    expect(await outcome(copy(1))).toBe("CL503");
    expect(await outcome(copy(2))).toBe("ok");
  });

  it.each([
    ["TRUNCATE", "TRUNCATE comments"],
    ["TRUNCATE … CASCADE from a table without an owner", "TRUNCATE organizations CASCADE"],
    ["TRUNCATE of a partitioned table", "TRUNCATE builds CASCADE"],
    ["TRUNCATE of one leaf", "TRUNCATE builds_2_leaf CASCADE"],
  ])("is refused as %s", async (_, sql) => {
    const client = await connect({ superuser: true });
    await client.query("BEGIN");
    expect(await outcome(client.query(sql))).toBe("ok");
    await client.query("ROLLBACK");
    await fence();
    expect(await outcome(client.query(sql))).toBe("CL503");
  });

  it("is refused although it is a superuser with triggers off", async () => {
    const client = await connect({ superuser: true });
    await client.query("SET session_replication_role = replica");
    await fence();
    expect(await outcome(client.query(WRITE))).toBe("CL503");
    expect(await outcome(client.query("TRUNCATE comments"))).toBe("CL503");
    expect(await outcome(client.query("ALTER TABLE issues DISABLE TRIGGER ALL"))).toBe("CL503");
    expect(await outcome(client.query(WRITE))).toBe("CL503");
  });

  it.each([
    ["ALTER TABLE issues ADD COLUMN more int"],
    ["ALTER TABLE issues DISABLE TRIGGER ALL"],
    ['DROP TRIGGER "~cleave_guard" ON issues'],
    ["DROP TABLE comments"],
    ["CREATE TABLE more AS SELECT 1 AS one"],
    ["SELECT 1 AS one INTO more"],
    ["DROP SCHEMA cleave CASCADE"],
    [
      "CREATE OR REPLACE FUNCTION cleave.admit(organization text, relation text, present boolean) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    ],
  ])("is refused as DDL: %s", async (sql) => {
    const client = await connect({ superuser: true });
    await fence();
    expect(await outcome(client.query(sql))).toBe("CL503");
    await client.query(
      "CREATE TEMP TABLE mine AS SELECT 1 AS one; ALTER TABLE mine ADD COLUMN two int; DROP TABLE mine",
    );
  });
});

describe("a writer in flight", () => {
  it("finishes within the grace, all of its statements included, and the fence comes after it", async () => {
    const client = await connect();
    await client.query("BEGIN");
    await client.query("UPDATE issues SET title = 'first' WHERE id = 1");
    const raising = fence();
    await sleep(150);
    expect(await phases()).toEqual(["source"]);
    // Newcomers are kept out meanwhile, and neighbours are not.
    const newcomer = await connect();
    expect(await outcome(newcomer.query("UPDATE issues SET title = 'x' WHERE id = 3"))).toBe("CL503");
    expect(await outcome(newcomer.query(NEIGHBOUR))).toBe("ok");
    expect(await outcome(client.query("UPDATE issues SET title = 'last' WHERE id = 1"))).toBe("ok");
    expect(await outcome(client.query("COMMIT"))).toBe("ok");
    const { stragglers, drainMs } = await raising;
    expect(stragglers).toEqual([]);
    expect(drainMs).toBeGreaterThan(140);
    expect(await titleOf(1)).toBe("last");
    expect(await outcome(client.query(WRITE))).toBe("CL503");
  });

  it("is not kept waiting by a newcomer that already holds its row", async () => {
    const client = await connect();
    const newcomer = await connect();
    await client.query("BEGIN");
    await client.query(WRITE);
    const raising = fence(5_000);
    await sleep(50);
    // The newcomer locks the row of `projects` before its trigger asks; were it to queue behind the fence, the
    // writer in flight would wait for it and the fence for the writer.
    const refused = outcome(newcomer.query("UPDATE projects SET name = 'b' WHERE id = 1"));
    expect(await outcome(client.query("UPDATE projects SET name = 'a' WHERE id = 1"))).toBe("ok");
    await client.query("COMMIT");
    expect(await refused).toBe("CL503");
    const { drainMs, stragglers } = await raising;
    expect(stragglers).toEqual([]);
    expect(drainMs).toBeLessThan(900);
  });

  it.each(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])(
    "in %s that does not finish is terminated, named, and leaves nothing",
    async (level) => {
      const before = await titleOf(1);
      const client = await connect();
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      await client.query("UPDATE issues SET title = 'straggling' WHERE id = 1");
      const { stragglers, drainMs } = await fence(200);
      expect(stragglers).toHaveLength(1);
      expect(stragglers[0]).toMatch(
        /user app, application 'writer', idle in transaction.*UPDATE issues SET title = 'straggling'/,
      );
      expect(drainMs).toBeLessThan(600);
      expect(await outcome(client.query("COMMIT"))).not.toBe("ok");
      expect(await titleOf(1)).toBe(before);
    },
  );

  it("in the middle of a long statement is terminated too", async () => {
    const client = await connect();
    const long = outcome(
      client.query(
        "WITH w AS (UPDATE issues SET title = 'slow' WHERE id = 1 RETURNING 1) SELECT pg_sleep(30) FROM w",
      ),
    );
    await sleep(100);
    expect((await fence(200)).stragglers).toHaveLength(1);
    expect(await long).not.toBe("ok");
  });

  it("that is a neighbour's is neither waited for nor terminated, however long it takes", async () => {
    const client = await connect();
    await client.query("BEGIN");
    await client.query(NEIGHBOUR);
    const { stragglers, drainMs } = await fence(1_000);
    expect(stragglers).toEqual([]);
    expect(drainMs).toBeLessThan(500);
    expect(await outcome(client.query(NEIGHBOUR))).toBe("ok");
    expect(await outcome(client.query("COMMIT"))).toBe("ok");
  });

  it("with an owner still unknown is waited for: it may turn out to be anyone's", async () => {
    const client = await connect();
    await client.query("BEGIN");
    await client.query("INSERT INTO notes (noteable_type, noteable_id) VALUES ('Issue', 987654)");
    expect((await fence(100)).stragglers).toHaveLength(1);
  });

  it("with DDL is waited for", async () => {
    const client = await connect({ superuser: true });
    await client.query("BEGIN");
    await client.query("ALTER TABLE queue ADD COLUMN more int");
    expect((await fence(100)).stragglers).toHaveLength(1);
  });

  it("that is prepared stops the fence, by name, and nothing is fenced", async () => {
    const client = await connect();
    await client.query("BEGIN");
    await client.query(WRITE);
    await client.query("PREPARE TRANSACTION 'it''s prepared'");
    const named =
      /the prepared transaction 'it''s prepared' of user app, prepared at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d/;
    await expect(fence(100)).rejects.toMatchObject({
      code: "DRAIN_INCOMPLETE",
      message: expect.stringMatching(named),
    });
    expect(await phases()).toEqual(["source"]);
    expect(await outcome(client.query("UPDATE issues SET title = 'three' WHERE id = 3"))).toBe("ok");
    await client.query("ROLLBACK PREPARED 'it''s prepared'");
    await fence();
    expect(await phases()).toEqual(["fenced"]);
  });
});

describe("the fence itself", () => {
  it("is raised again at once, and refuses an older epoch", async () => {
    await fence();
    const again = await raiseFence(db, lendFrom(cluster), {
      migrationId: SPLIT,
      epoch: epoch(number),
      targetPodIds: [POD_1, POD_2],
      graceMs: 0,
    });
    expect(again.stragglers).toEqual([]);
    await expect(
      raiseFence(db, lendFrom(cluster), {
        migrationId: SPLIT,
        epoch: epoch(number - 1),
        targetPodIds: [POD_1, POD_2],
        graceMs: 0,
      }),
    ).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE" });
  });

  it("outlives a crash of the server", async () => {
    await fence();
    await db.end();
    await cluster.kill();
    await cluster.resume();
    db = await cluster.connect();
    const client = await connect();
    expect(await outcome(client.query(WRITE))).toBe("CL503");
    expect(await outcome(client.query(NEIGHBOUR))).toBe("ok");
  });

  it("is closed by setShares only when no writer is in flight", async () => {
    const client = await connect();
    await client.query("BEGIN");
    await client.query(WRITE);
    const closing = () => setShares(db, SPLIT, { [POD_1]: "transferred", [POD_2]: "source" }, null);
    await expect(closing()).rejects.toMatchObject({ code: "DRAIN_INCOMPLETE" });
    await client.query("COMMIT");
    await closing();
    expect(await outcome(client.query(WRITE))).toBe("CL421 pod-1");
    expect(await outcome(client.query("UPDATE issues SET title = 'three' WHERE id = 3"))).toBe("ok");
  });

  it("has a marker only while it is up; the same one when asked again", async () => {
    expect(await readMarker(db, SPLIT, epoch(number + 1))).toBeNull();
    expect(await awaitMarker(db, SPLIT, epoch(number + 1))).toBeNull();
    const marker = await fence();
    expect(await readMarker(db, SPLIT, epoch(number))).toEqual({ token: marker.token });
    expect(await awaitMarker(db, SPLIT, epoch(number))).toEqual({ token: marker.token });
    number -= 1;
    expect((await fence()).token).toBe(marker.token);
    // Lowered, and perhaps written to since: what its marker proved is no longer all, so it is not raised again.
    await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: epoch(number) });
    number -= 1;
    await expect(fence()).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE" });
    expect(await phases()).toEqual(["source"]);
    const [row] = await cluster.query<{ behind: boolean }>(
      "SELECT $1::pg_lsn <= pg_current_wal_flush_lsn() AS behind",
      [marker.lsn],
    );
    expect(row?.behind).toBe(true);
  });
});
