import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import {
  installGuard,
  removeGuard,
  verifyGuard,
} from "../../../../../agent/stores/postgres/fence/install.ts";
import { raiseFence } from "../../../../../agent/stores/postgres/fence/raise.ts";
import { releaseRoutes } from "../../../../../agent/stores/postgres/fence/staging.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  guardAndStage,
  lendFrom,
  outcome,
  POD_0,
  POD_1,
  POD_2,
  RULES,
  SPLIT,
  startPod,
  writer,
} from "../../../../support/postgres/scratch.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function pod(): Promise<{ cluster: Cluster; db: pg.Client }> {
  const cluster = await startPod();
  cleanups.push(() => cluster.remove());
  const db = await cluster.connect();
  cleanups.push(() => db.end());
  return { cluster, db };
}

/** Whoever waits makes everybody wait who comes behind. */
async function waitingLocks(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ waiting: number }>(
    "SELECT count(*)::int AS waiting FROM pg_locks WHERE NOT granted",
  );
  return rows[0]?.waiting ?? 0;
}

const INSTALL = { ownership: RULES, defaultPodId: POD_0, migrationId: SPLIT };

/** Everything in the catalog that anybody could have made. */
const TRACES = `
SELECT 'schema ' || nspname AS what FROM pg_namespace UNION ALL
SELECT 'relation ' || oid::regclass FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_' UNION ALL
SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE oid > 16383 UNION ALL
SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal UNION ALL
SELECT 'event trigger ' || evtname FROM pg_event_trigger ORDER BY 1`;

/** A statement past the guard of the schema, as a superuser may do it. */
const unseen = (sql: string) =>
  `ALTER EVENT TRIGGER cleave_guard_ddl DISABLE; ${sql}; ALTER EVENT TRIGGER cleave_guard_ddl ENABLE ALWAYS`;

describe("installing", () => {
  it("is whole, is idempotent, and removing leaves no trace", async () => {
    const { cluster, db } = await pod();
    const before = await cluster.query(TRACES);
    expect(await verifyGuard(db, RULES)).toMatchObject([{ code: "POSTGRES_GUARD_MISSING" }]);
    await installGuard(db, INSTALL);
    expect(await verifyGuard(db, RULES)).toEqual([]);
    const triggers = "SELECT oid, xmin FROM pg_trigger ORDER BY oid";
    const installed = await cluster.query(triggers);
    await installGuard(db, INSTALL);
    expect(await cluster.query(triggers)).toEqual(installed);
    await guardAndStage(cluster);
    await expect(releaseRoutes(db, SPLIT)).resolves.toEqual({ guardNeeded: false });
    await removeGuard(db);
    expect(await cluster.query(TRACES)).toEqual(before);
    await removeGuard(db);
  });

  it("is removed with what a staging that was cut off commits after the abort", async () => {
    const { cluster, db } = await pod();
    await installGuard(db, INSTALL);
    const cutOff = await cluster.connect();
    cleanups.push(() => cutOff.end());
    await cutOff.query("BEGIN");
    await cutOff.query("INSERT INTO cleave.share VALUES ('split-1', 'pod-1', 'pod-0', NULL, 'source')");
    await cutOff.query("INSERT INTO cleave.route VALUES ('moving', 'pod-0', 'split-1', 'pod-1')");
    const released = releaseRoutes(db, SPLIT);
    // Long enough for a release that does not wait to have looked.
    await sleep(200);
    await cutOff.query("COMMIT");
    expect(await released).toEqual({ guardNeeded: false });
    expect(await cluster.query("SELECT FROM cleave.route UNION ALL SELECT FROM cleave.share")).toEqual([]);
  });

  it("waits for a writer in flight without making others wait, and says for whom", async () => {
    const { cluster, db } = await pod();
    const inFlight = await writer(cluster);
    const other = await writer(cluster);
    cleanups.push(
      () => inFlight.end(),
      () => other.end(),
    );
    await inFlight.query("BEGIN; UPDATE issues SET title = 'a' WHERE id = 1; UPDATE builds SET state = 'a'");
    const told: string[] = [];
    let installed = false;
    const onWaiting = (what: string, who: readonly string[]) => told.push(`${what}: ${who.join()}`);
    const installing = installGuard(db, { ...INSTALL, onWaiting }).then(() => {
      installed = true;
    });
    const waits: number[] = [];
    let queued = 0;
    for (let write = 0; write < 200; write += 1) {
      const startedAt = performance.now();
      // Behind an attempt there would be nobody to see, so later on it is only looked.
      if (write <= 100) await other.query("UPDATE issues SET title = 'b' WHERE id = 2");
      waits.push(performance.now() - startedAt);
      if (write > 100) queued += await waitingLocks(other);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(installed).toBe(false);
    // An attempt takes 50 ms. Once the transaction is an old one, there is none any more.
    expect(Math.max(...waits)).toBeLessThan(500);
    expect(queued).toBe(0);
    expect(told.join()).toMatch(/^public\.\w+: pid \d+, user app, application 'writer', transaction since /);
    await inFlight.query("COMMIT");
    await installing;
    expect(await verifyGuard(db, RULES)).toEqual([]);
  });

  it("waits for readers without making them wait when it is removed", async () => {
    const { cluster, db } = await pod();
    await installGuard(db, INSTALL);
    const [reading, other] = [await writer(cluster), await writer(cluster)];
    cleanups.push(
      () => reading.end(),
      () => other.end(),
    );
    await reading.query("BEGIN; SELECT count(*) FROM builds");
    const removing = removeGuard(db);
    const waits: number[] = [];
    let queued = 0;
    for (let read = 0; read < 150; read += 1) {
      const startedAt = performance.now();
      if (read <= 80) await other.query("SELECT count(*) FROM builds");
      waits.push(performance.now() - startedAt);
      if (read > 80) queued += await waitingLocks(other);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(Math.max(...waits)).toBeLessThan(500);
    expect(queued).toBe(0);
    await reading.query("COMMIT");
    await removing;
  });

  it("gets its lock between transactions that follow each other without a gap", async () => {
    const { cluster, db } = await pod();
    let on = true;
    const writers = await Promise.all([1, 2, 3].map(() => writer(cluster)));
    cleanups.push(...writers.map((one) => () => one.end()));
    const writing = writers.map(async (one) => {
      while (on) {
        await one.query("BEGIN; INSERT INTO notes (body) VALUES ('x'); SELECT pg_sleep(0.06)");
        await one.query("COMMIT");
      }
    });
    await installGuard(db, INSTALL);
    on = false;
    await Promise.all(writing);
    expect(await verifyGuard(db, RULES)).toEqual([]);
  }, 40_000);

  it.each([
    [
      "a disabled trigger",
      unseen(`ALTER TABLE issues DISABLE TRIGGER "~cleave_guard"`),
      /public\.issues: its row guard is disabled/,
    ],
    [
      "a trigger that fires for some only",
      unseen(`ALTER TABLE issues ENABLE TRIGGER "~cleave_guard"`),
      /public\.issues: its row guard is disabled/,
    ],
    [
      "a dropped trigger",
      `DROP TRIGGER "~cleave_guard_truncate" ON builds_2_leaf`,
      /public\.builds_2_leaf: its truncate guard is missing/,
    ],
    [
      "a partition's disabled trigger",
      unseen(`ALTER TABLE builds_1 DISABLE TRIGGER "~cleave_guard"`),
      /public\.builds_1: its row guard is disabled/,
    ],
    [
      "a replaced trigger",
      `CREATE OR REPLACE TRIGGER "~cleave_guard" BEFORE INSERT ON issues FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
      /public\.issues: its row guard is altered/,
    ],
    [
      "an altered function",
      "CREATE OR REPLACE FUNCTION cleave.admit(organization text, relation text, present boolean) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'",
      /cleave\.admit was altered/,
    ],
    [
      "a disabled event trigger",
      "ALTER EVENT TRIGGER cleave_guard_ddl DISABLE",
      /event trigger cleave_guard_ddl/,
    ],
  ])("is found out and repaired after %s", async (_, sql, message) => {
    const { cluster, db } = await pod();
    await installGuard(db, INSTALL);
    await cluster.query(sql);
    const findings = await verifyGuard(db, RULES);
    expect(findings.map((finding) => finding.message).join("\n")).toMatch(message);
    expect(new Set(findings.map((finding) => finding.code))).toEqual(new Set(["POSTGRES_GUARD_MISSING"]));
    await installGuard(db, INSTALL);
    expect(await verifyGuard(db, RULES)).toEqual([]);
  });

  it("stays whole when a table's owner disables all triggers, and lets nobody but superusers replace its own", async () => {
    const { cluster, db } = await pod();
    await installGuard(db, INSTALL);
    await cluster.query(
      "ALTER TABLE issues OWNER TO app; ALTER TABLE builds OWNER TO app; ALTER TABLE builds_1 OWNER TO app; ALTER TABLE comments OWNER TO app",
    );
    const owner = await writer(cluster);
    for (const table of ["issues", "builds", "builds_1"])
      for (const way of [
        "DISABLE TRIGGER USER",
        'ENABLE REPLICA TRIGGER "~cleave_guard"',
        "ENABLE TRIGGER USER",
      ])
        await owner.query(`ALTER TABLE ${table} ${way}`);
    expect(await verifyGuard(db, RULES)).toEqual([]);
    const OTHER = "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()";
    for (const sql of [
      `DROP TRIGGER "~cleave_guard" ON issues`,
      `ALTER TRIGGER "~cleave_guard" ON issues RENAME TO a`,
      `CREATE OR REPLACE TRIGGER "~cleave_guard" BEFORE INSERT ON issues ${OTHER}`,
    ])
      await expect(owner.query(sql)).rejects.toMatchObject({ code: "42501" });
    expect(await verifyGuard(db, RULES)).toEqual([]);
    // What is the owner's is the owner's.
    await owner.query(`CREATE TRIGGER mine BEFORE UPDATE ON issues ${OTHER}; DROP TRIGGER mine ON issues`);
    await owner.query("DROP TABLE comments");
    await owner.end();
  });

  it("covers partitions that are made or attached later", async () => {
    const { cluster, db } = await pod();
    await guardAndStage(cluster);
    await cluster.query("CREATE TABLE builds_3 PARTITION OF builds FOR VALUES IN (3)");
    await cluster.query(
      "CREATE TABLE builds_4 (LIKE builds); ALTER TABLE builds ATTACH PARTITION builds_4 FOR VALUES IN (4)",
    );
    expect(await verifyGuard(db, RULES)).toEqual([]);
    await raiseFence(db, lendFrom(cluster), {
      migrationId: SPLIT,
      epoch: epoch(1),
      targetPodIds: [POD_1, POD_2],
      graceMs: 100,
    });
    for (const sql of [
      "INSERT INTO builds VALUES (9, 3, 1)",
      "INSERT INTO builds_4 VALUES (9, 4, 1)",
      "TRUNCATE builds_3 CASCADE",
      "TRUNCATE builds_4 CASCADE",
    ])
      expect([sql, await outcome(cluster.query(sql))]).toEqual([sql, "CL503"]);
  });

  it("is refused when it would serve another default Pod", async () => {
    const { db } = await pod();
    await installGuard(db, INSTALL);
    await expect(installGuard(db, { ...INSTALL, defaultPodId: POD_1 })).rejects.toMatchObject({
      code: "POSTGRES_IDENTITY",
    });
  });

  it("is refused in a schema of somebody else's", async () => {
    const { cluster, db } = await pod();
    await cluster.query("CREATE SCHEMA cleave AUTHORIZATION app");
    await expect(installGuard(db, INSTALL)).rejects.toMatchObject({ code: "POSTGRES_UNFENCEABLE" });
  });
});
