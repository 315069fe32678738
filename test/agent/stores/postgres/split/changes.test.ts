/**
 * What is changed on a split's source after it was checked: found by the next checks, refused by the flip when it comes
 * between them and the fence, refused by the guard under the fence and after the transfer. One row for each statement.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import type { ErrorCode } from "../../../../../protocol/errors.ts";
import {
  type Assembly,
  assemble,
  MIGRATION,
  never,
  SOURCE,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";

const TARGET = targetId(0);
let pods: Assembly;
let source: PostgresStore;
let target: PostgresStore;
let epoch = 0;

const SCHEMA = `
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, part int, organization_id bigint, body text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE queue (id bigint PRIMARY KEY);
CREATE MATERIALIZED VIEW counts AS SELECT organization_id AS of, count(*) FROM notes GROUP BY 1; CREATE UNIQUE INDEX ON counts (of);
CREATE ROLE app LOGIN PASSWORD 'app of the tests' NOSUPERUSER;
GRANT CREATE, USAGE ON SCHEMA public TO app;
ALTER TABLE notes OWNER TO app; ALTER TABLE organizations OWNER TO app; ALTER TABLE events OWNER TO app;
ALTER TABLE events_1 OWNER TO app; ALTER TABLE events_2 OWNER TO app; ALTER TABLE queue OWNER TO app;
ALTER MATERIALIZED VIEW counts OWNER TO app;
CREATE SEQUENCE keys; ALTER SEQUENCE keys OWNER TO app;
CREATE FUNCTION elsewhere() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.organization_id := 1; RETURN NEW; END';
`;

interface Row {
  readonly what: string;
  readonly sql: string;
  readonly undo?: string;
  /** Of the next checks; null when what was changed is none of their business. */
  readonly code: ErrorCode | null;
  readonly says: RegExp;
  /** A superuser's statement. Default: the application's, which owns the tables. */
  readonly by?: "superuser";
}

const CHANGES: readonly Row[] = [
  {
    what: "an unlogged partition",
    sql: "CREATE UNLOGGED TABLE events_3 PARTITION OF events FOR VALUES IN (3); INSERT INTO events (part, organization_id) SELECT 3, 9 FROM generate_series(1, 50)",
    undo: "DROP TABLE events_3",
    code: "POSTGRES_UNFENCEABLE",
    says: /CREATE TABLE \(.*public\.events_3/,
    by: "superuser",
  },
  {
    what: "a partition that becomes unlogged",
    sql: "ALTER TABLE events_2 SET UNLOGGED",
    undo: "ALTER TABLE events_2 SET LOGGED",
    code: "POSTGRES_UNFENCEABLE",
    says: /ALTER TABLE \(.*public\.events_2/,
  },
  {
    what: "a table that becomes unlogged",
    sql: "ALTER TABLE notes SET UNLOGGED",
    undo: "ALTER TABLE notes SET LOGGED",
    code: "POSTGRES_UNFENCEABLE",
    says: /public\.notes/,
  },
  {
    what: "a sequence that becomes unlogged",
    sql: "ALTER SEQUENCE keys SET UNLOGGED",
    undo: "ALTER SEQUENCE keys SET LOGGED",
    code: "POSTGRES_UNFENCEABLE",
    says: /ALTER SEQUENCE \(sequence public\.keys\)/,
  },
  {
    what: "a second database",
    sql: "CREATE DATABASE late STRATEGY file_copy",
    undo: "DROP DATABASE late",
    code: "POSTGRES_UNFENCEABLE",
    says: /a table, trigger, database or tablespace/,
    by: "superuser",
  },
  {
    what: "a tablespace",
    sql: "SET allow_in_place_tablespaces = on; CREATE TABLESPACE late LOCATION ''",
    undo: "DROP TABLESPACE late",
    code: "POSTGRES_TABLESPACE",
    says: /database or tablespace/,
    by: "superuser",
  },
  {
    what: "a table without a rule",
    sql: 'CREATE TABLE "ne""w" (id int)',
    undo: 'DROP TABLE "ne""w"',
    code: "OWNERSHIP_RULE_MISSING",
    says: /public\."ne""w"/,
  },
  {
    what: "a table without a rule that replaces one",
    sql: "ALTER TABLE queue RENAME TO queue_old; CREATE TABLE queue (id bigint PRIMARY KEY)",
    undo: "DROP TABLE queue; ALTER TABLE queue_old RENAME TO queue",
    code: "OWNERSHIP_RULE_MISSING",
    says: /ALTER TABLE \(table public\.queue_old\)/,
  },
  {
    what: "a column of a rule that is renamed",
    sql: "ALTER TABLE notes RENAME organization_id TO org",
    undo: "ALTER TABLE notes RENAME org TO organization_id",
    code: "OWNERSHIP_RULE_INVALID",
    says: /ALTER TABLE/,
  },
  {
    what: "a trigger that puts rows into a fenced organization behind the guard",
    sql: `CREATE TRIGGER "~~late" BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION elsewhere()`,
    undo: `DROP TRIGGER "~~late" ON notes`,
    code: "POSTGRES_UNFENCEABLE",
    says: /CREATE TRIGGER \(.*~~late/,
  },
  {
    what: "such a trigger on a partition",
    sql: `CREATE TRIGGER "~~late" BEFORE INSERT ON events_1 FOR EACH ROW EXECUTE FUNCTION elsewhere()`,
    undo: `DROP TRIGGER "~~late" ON events_1`,
    code: "POSTGRES_UNFENCEABLE",
    says: /events_1/,
  },
  {
    what: "a large object",
    sql: "SELECT lo_create(4711)",
    undo: "SELECT lo_unlink(4711)",
    code: "POSTGRES_UNFENCEABLE",
    says: /a large object was made/,
  },
  {
    what: "all triggers of a table disabled by its owner",
    sql: "ALTER TABLE notes DISABLE TRIGGER USER",
    undo: "ALTER TABLE notes ENABLE TRIGGER USER",
    code: null,
    says: /ALTER TABLE \(table public\.notes\)/,
  },
  {
    what: "the guard's trigger dropped",
    sql: `DROP TRIGGER "~cleave_guard" ON notes`,
    code: "POSTGRES_GUARD_MISSING",
    says: /DROP TRIGGER \(trigger "~cleave_guard" on public\.notes\)/,
    by: "superuser",
  },
  {
    what: "a guard's trigger disabled in the catalog",
    sql: "SET allow_system_table_mods = on; UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'notes'::regclass AND tgname = '~cleave_guard'",
    undo: 'ALTER TABLE notes ENABLE ALWAYS TRIGGER "~cleave_guard"',
    code: "POSTGRES_GUARD_MISSING",
    says: /event triggers do not see/,
    by: "superuser",
  },
  {
    what: "the guard's event trigger disabled",
    sql: "ALTER EVENT TRIGGER cleave_guard_ddl DISABLE",
    undo: "ALTER EVENT TRIGGER cleave_guard_ddl ENABLE ALWAYS",
    code: "POSTGRES_GUARD_MISSING",
    says: /event triggers do not see/,
    by: "superuser",
  },
  {
    what: "a persistence changed in the catalog",
    sql: "SET allow_system_table_mods = on; UPDATE pg_class SET relpersistence = 'u' WHERE oid = 'queue'::regclass",
    undo: "SET allow_system_table_mods = on; UPDATE pg_class SET relpersistence = 'p' WHERE oid = 'queue'::regclass",
    code: null,
    says: /event triggers do not see/,
    by: "superuser",
  },
  {
    what: "a partition as the nightly job makes it",
    sql: "CREATE TABLE events_4 PARTITION OF events FOR VALUES IN (4)",
    undo: "DROP TABLE events_4",
    code: null,
    says: /events_4/,
    by: "superuser",
  },
  {
    what: "a partition that is detached without locking",
    sql: "ALTER TABLE events DETACH PARTITION events_2 CONCURRENTLY",
    undo: "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES IN (2)",
    code: "OWNERSHIP_RULE_MISSING",
    says: /CONCURRENTLY/,
    by: "superuser",
  },
  {
    what: "a column of a deployment",
    sql: "ALTER TABLE notes ADD COLUMN extra text DEFAULT 'x'",
    undo: "ALTER TABLE notes DROP COLUMN extra",
    code: null,
    says: /ALTER TABLE \(table public\.notes\)/,
  },
  {
    what: "an index of a deployment",
    sql: "CREATE INDEX CONCURRENTLY by_body ON notes (md5(body))",
    undo: "DROP INDEX by_body",
    code: null,
    says: /CREATE INDEX/,
  },
];

/** Nobody else sees it, and no fence concerns it. */
const OF_A_SESSION = [
  "CREATE TEMPORARY TABLE mine (id serial PRIMARY KEY); ALTER TABLE mine ADD body text; DROP TABLE mine",
  "CREATE TEMPORARY VIEW mine AS SELECT 1; CREATE OR REPLACE TEMPORARY VIEW mine AS SELECT 2; DROP VIEW mine",
  "CREATE TEMPORARY TABLE mine (id int); CREATE TRIGGER t BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION elsewhere(); DROP TRIGGER t ON mine",
  "CREATE TEMPORARY TABLE mine (id int); CREATE INDEX ON mine (id); CREATE TEMPORARY VIEW seen AS SELECT * FROM mine; DROP TABLE mine CASCADE",
];

/** What applications do all the time, and no check depends on. */
const HARMLESS = [
  "TRUNCATE queue",
  "REFRESH MATERIALIZED VIEW counts",
  "REFRESH MATERIALIZED VIEW CONCURRENTLY counts",
  "REINDEX TABLE notes",
  "COMMENT ON TABLE notes IS 'rows'",
  ...OF_A_SESSION,
  "ANALYZE notes",
  "VACUUM notes",
  "INSERT INTO notes (organization_id, body) VALUES (9, 'x')",
];

async function run(sql: string, by: "app" | "superuser" = "app"): Promise<string> {
  const client = await pods.source.connect();
  try {
    // The superuser of the tests has a schema of his own name.
    await client.query(by === "app" ? "SET SESSION AUTHORIZATION app" : "SET search_path = public");
    // Alone, for some of them must not be in a block.
    for (const statement of sql.split("; ")) await client.query(statement);
    return "done";
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    await client.end();
  }
}

const check = () => source.preflight(pods.duty(SOURCE, "serve"), "fence", never);
const errorsOf = async () =>
  (await check()).filter(({ severity }) => severity === "error").map(({ code }) => code);

/** A fence of the next epoch, right after it lowered again. */
async function fenceAndLower(): Promise<void> {
  epoch += 1;
  await source.reach(pods.duty(SOURCE, "fence", { epoch, phase: "fenced" }), never);
  await source.reach(pods.duty(SOURCE, "serve", { epoch, phase: "source" }), never);
}

beforeAll(async () => {
  const tables = {
    "public.events": { organization: "organization_id" },
    "public.queue": { local: true },
  } as const;
  pods = await assemble({ schema: SCHEMA, tables });
  source = pods.store(SOURCE);
  target = pods.store(TARGET);
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  await until(target, ({ verified }) => verified);
}, 60_000);
afterAll(() => pods.remove(), 60_000);

describe("between the checks and the fence", () => {
  it.each(CHANGES)(
    "$what: the flip refuses, and the next checks say what is wrong",
    async (row) => {
      expect(await errorsOf()).toEqual([]);
      expect(await run(row.sql, row.by)).toBe("done");
      epoch += 1;
      const fencing = source.reach(pods.duty(SOURCE, "fence", { epoch, phase: "fenced" }), never);
      await expect(fencing).rejects.toMatchObject({
        code: "CHECKS_OUTDATED",
        message: expect.stringMatching(row.says),
      });
      // Nothing is fenced, for anybody.
      expect(await run("INSERT INTO events (part, organization_id) VALUES (1, 1)")).toBe("done");
      const found = await errorsOf();
      if (row.code === null) expect(found).toEqual([]);
      else expect(found).toContain(row.code);
      if (row.undo !== undefined) expect(await run(row.undo, row.by)).toBe("done");
      else await source.reach(pods.duty(SOURCE, "serve", { epoch, phase: "source" }), never);
      await expect.poll(errorsOf, { timeout: 15_000 }).toEqual([]);
      await fenceAndLower();
    },
    30_000,
  );

  it.each(HARMLESS)("%s: is no reason to check again", async (sql) => {
    expect(await errorsOf()).toEqual([]);
    expect(await run(sql)).toBe("done");
    await fenceAndLower();
  });

  it("an agent that was started again knows what was checked", async () => {
    expect(await errorsOf()).toEqual([]);
    expect(await run("ALTER TABLE queue ADD COLUMN extra int")).toBe("done");
    const again = pods.store(SOURCE);
    epoch += 1;
    const fencing = again.reach(pods.duty(SOURCE, "fence", { epoch, phase: "fenced" }), never);
    await expect(fencing).rejects.toMatchObject({ code: "CHECKS_OUTDATED" });
    await again.close();
  });
});

describe("under the fence and after the transfer", () => {
  beforeAll(async () => {
    expect(await errorsOf()).toEqual([]);
    epoch += 1;
    const fenced = { epoch, phase: "fenced" } as const;
    await Promise.all([
      source.reach(pods.duty(SOURCE, "fence", fenced), never),
      target.reach(pods.duty(TARGET, "match", fenced), never),
    ]);
    expect(target.status(MIGRATION)?.evidence?.digest).toBe(source.status(MIGRATION)?.evidence?.digest);
  });

  it.each([
    "ALTER TABLE events DETACH PARTITION events_2 CONCURRENTLY",
    "ALTER TABLE events DETACH PARTITION events_2",
    "ALTER TABLE notes SET UNLOGGED",
    "ALTER TABLE notes DISABLE TRIGGER USER",
    "CREATE TABLE late (id int)",
    `CREATE TRIGGER "~~late" BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION elsewhere()`,
    "TRUNCATE events_1",
  ])("%s: refused, and nothing of it is left", async (sql) => {
    expect(await run(sql)).toBe("CL503");
    const [row] = await pods.source.query(
      "SELECT count(*)::int AS pending FROM pg_inherits WHERE inhdetachpending",
    );
    expect(row).toEqual({ pending: 0 });
  });

  it.each(OF_A_SESSION)("%s: done, for it is a session's own", async (sql) => {
    expect(await run(sql)).toBe("done");
  });

  it("an owner who disables all triggers of a table after the transfer writes no dormant row", async () => {
    await target.reach(pods.duty(TARGET, "activate", { epoch, phase: "transferred" }), never);
    await target.reach(pods.duty(TARGET, "open", { epoch, phase: "opened" }), never);
    await source.reach(pods.duty(SOURCE, "yield", { epoch, phase: "opened" }), never);
    for (const table of ["notes", "events", "events_1"]) {
      expect(await run(`ALTER TABLE ${table} DISABLE TRIGGER USER`)).toBe("done");
      expect(await run(`ALTER TABLE ${table} DISABLE TRIGGER "~cleave_guard"`)).toBe("done");
      expect(await run(`ALTER TABLE ${table} ENABLE REPLICA TRIGGER "~cleave_guard"`)).toBe("done");
    }
    expect(await run("INSERT INTO notes (organization_id, body) VALUES (1, 'lost')")).toBe("CL421");
    expect(await run("INSERT INTO events_1 (part, organization_id) VALUES (1, 1)")).toBe("CL421");
    expect(await run("INSERT INTO notes (organization_id, body) VALUES (9, 'kept')")).toBe("done");
  });
});
