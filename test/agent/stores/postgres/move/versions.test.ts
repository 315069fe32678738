/** A move on the newest PostgreSQL that npm has installed, whatever the others run on. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { Worlds } from "../../../../support/postgres/histories.ts";
import { HistoryRun } from "../../../../support/postgres/history-runs.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import { isPackaged } from "../../../../support/postgres/versions.ts";

const VERSION = "18";

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.things": { organization: "org_id" }, "public.lines": { organization: "org_id" } },
});
/** The rows of one are told apart by all of their columns, of which one is generated. */
const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY);
CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (size * 2) STORED);
ALTER TABLE things REPLICA IDENTITY FULL;
CREATE TABLE lines (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (size * 2) STORED);`;

describe.skipIf(!isPackaged(VERSION))(`PostgreSQL ${VERSION}`, () => {
  let pods: MovePods;
  beforeAll(async () => {
    // Read when the first server is started.
    process.env["CLEAVE_TEST_POSTGRES"] ??= VERSION;
    pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  }, 60_000);
  afterAll(() => pods?.remove());

  it("follows tables with generated columns, and fails no statement of the application", async () => {
    await pods.source.query(`INSERT INTO orgs SELECT generate_series(1, 3);
    INSERT INTO things SELECT g, 1 + g % 3, g FROM generate_series(1, 60) g; INSERT INTO lines SELECT g, 1 + g % 3, g FROM generate_series(1, 60) g`);
    expect((await pods.preflight(FROM)).filter(({ severity }) => severity === "error")).toEqual([]);
    await pods.follow();
    for (const table of ["things", "lines"])
      await pods.source.query(
        `UPDATE ${table} SET size = size + 1 WHERE id % 2 = 0; DELETE FROM ${table} WHERE id % 5 = 0; INSERT INTO ${table} VALUES (100, 2, 7)`,
      );
    const { evidence } = await pods.fenceWhenCompared(1);
    expect(evidence.target).toBe(evidence.source);
    for (const table of ["things", "lines"]) {
      const rows = `SELECT * FROM ${table} WHERE org_id = 2 ORDER BY id`;
      expect(await pods.target.query(rows)).toEqual(await pods.source.query(rows));
    }
    await pods.reach(FROM, "serve", { epoch: 1 });
    await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
  });

  it("a column that is virtual keeps nobody from writing", async () => {
    for (const podId of [FROM, TO]) await pods.restart(podId);
    pods.migrationId = "move-2" as MigrationId;
    const both = async (sql: string) => {
      for (const cluster of [pods.source, pods.target]) await cluster.query(sql);
    };
    await both("ALTER TABLE lines ADD COLUMN thrice int GENERATED ALWAYS AS (size * 3) VIRTUAL");
    await pods.source.query(
      "ALTER TABLE lines REPLICA IDENTITY FULL; CREATE ROLE deploying SUPERUSER; ALTER ROLE deploying SET event_triggers = off",
    );
    const found = [...(await pods.preflight(FROM)), ...(await pods.preflight(TO))];
    for (const [code, message] of [
      ["REPLICA_IDENTITY_MISSING", "public.lines is told apart by all of its columns"],
      ["POSTGRES_UNFENCEABLE", "ALTER ROLE deploying RESET event_triggers"],
    ])
      expect(found).toContainEqual(
        expect.objectContaining({ code, message: expect.stringContaining(message as string) }),
      );
    await pods.source.query("ALTER TABLE lines REPLICA IDENTITY DEFAULT; DROP ROLE deploying");
    await pods.follow();
    for (const sql of [
      "ALTER TABLE lines DROP CONSTRAINT lines_pkey",
      "UPDATE lines SET size = size + 1",
      "ALTER TABLE lines ADD PRIMARY KEY (id)",
      "UPDATE lines SET size = size + 1 WHERE id % 2 = 0; DELETE FROM lines WHERE id % 7 = 0",
    ])
      await pods.source.query(sql);
    const { epoch, evidence } = await pods.fenceWhenCompared(1);
    expect(evidence.target).toBe(evidence.source);
    const rows = "SELECT * FROM lines WHERE org_id = 2 ORDER BY id";
    expect(await pods.target.query(rows)).toEqual(await pods.source.query(rows));
    await pods.reach(FROM, "serve", { epoch });
    await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
  });

  it("follows histories", async () => {
    const worlds = new Worlds(18, 4);
    const run = await HistoryRun.start(pods, worlds);
    try {
      for (let round = 0; round < 3; round++)
        expect(
          await run.play(new Map(worlds.all.map((world) => [world, world.next(new Set())]))),
          worlds.seed.toString(),
        ).toBeNull();
    } finally {
      await run.end();
    }
  }, 60_000);
});
