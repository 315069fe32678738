/** What says whose a row is gets another name, or goes: no write fails for it, and the guard stays as exact as it can be. */
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installGuard, verifyGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { setShares, stageRoutes } from "../../../../../agent/stores/postgres/fence/staging.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  ASSIGNMENTS,
  epoch,
  outcome,
  POD_0,
  POD_1,
  POD_2,
  RULES,
  SPLIT,
  startPod,
  writer,
} from "../../../../support/postgres/scratch.ts";

/** Two tables that are not there yet. */
const rules = Ownership.parse({
  ...RULES,
  tables: {
    ...RULES.tables,
    "public.later": { organization: "organization_id" },
    "public.later_lines": { parent: "public.later", column: "later_id" },
  },
});

let cluster: Cluster;
let db: pg.Client;
let client: pg.Client;
let number = 0;
/** By table: the place of a row of the organization that left, and of one that stays. */
const places = new Map<string, { oid: number; left: string; stays: string }>();

const ROWS: Readonly<Record<string, readonly [left: string, stays: string]>> = {
  projects: ["id = 1", "id = 2"],
  issues: ["id = 1", "id = 2"],
  comments: ["body = 'c1'", "body = 'c2'"],
  notes: ["body = 'n1'", "body = 'n2'"],
  artifacts: ["id = 1", "id = 2"],
};

async function live(phase: "source" | "opened"): Promise<void> {
  number += 1;
  // A share never goes back: each of these is looked at as if it were the first.
  await db.query("UPDATE cleave.share SET phase = 'source'");
  await setShares(db, SPLIT, { [POD_1]: phase, [POD_2]: phase }, epoch(number));
}

beforeAll(async () => {
  cluster = await startPod();
  db = await cluster.connect();
  client = await writer(cluster, { superuser: true });
  // Of its name there is a schema, too.
  await client.query("SET search_path = public");
  await installGuard(db, { ownership: rules, defaultPodId: POD_0, migrationId: SPLIT });
  await stageRoutes(db, {
    migrationId: SPLIT,
    sourcePodId: POD_0,
    defaultPodId: POD_0,
    targetPodIds: [POD_1, POD_2],
    assignments: ASSIGNMENTS,
  });
  for (const [table, [left, stays]] of Object.entries(ROWS)) {
    const place = async (condition: string) =>
      String((await db.query(`SELECT ctid FROM ${table} WHERE ${condition}`)).rows[0]?.ctid);
    const [row] = (await db.query(`SELECT '${table}'::regclass::oid::int AS oid`)).rows;
    places.set(table, { oid: row.oid, left: await place(left), stays: await place(stays) });
  }
});
afterAll(async () => {
  await client?.end();
  await db?.end();
  await cluster?.remove();
});

/** In one transaction that leaves nothing: the statement, and then what each deletion of a row comes to. */
async function deletions(statement: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  await client.query(`BEGIN; ${statement}`);
  try {
    for (const [table, { oid, ...rows }] of places) {
      const { rows: named } = await client.query(
        "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.oid = $1",
        [oid],
      );
      if (named[0] === undefined) continue;
      for (const [whose, ctid] of Object.entries(rows)) {
        await client.query("SAVEPOINT one");
        const sql = `DELETE FROM ${named[0].name} WHERE ctid = '${ctid}'`;
        found[`${table} ${whose}`] = await outcome(client.query(sql));
        await client.query("ROLLBACK TO SAVEPOINT one");
      }
    }
  } finally {
    await client.query("ROLLBACK");
  }
  return found;
}

async function attempt(...statements: string[]): Promise<string> {
  await client.query("BEGIN");
  try {
    for (const sql of statements) {
      const result = await outcome(client.query(sql));
      if (result !== "ok") return `${result}: ${sql}`;
    }
    return "ok";
  } finally {
    await client.query("ROLLBACK");
  }
}

const expected = (left: string, stays: string, tables = Object.keys(ROWS)) =>
  Object.fromEntries(
    tables.flatMap((table) => [
      [`${table} left`, left],
      [`${table} stays`, stays],
    ]),
  );

const RENAMES = [
  "ALTER TABLE projects RENAME organization_id TO org",
  'ALTER TABLE projects RENAME organization_id TO "it\'s ""org"""',
  "ALTER TABLE projects RENAME id TO project_key",
  "ALTER TABLE issues RENAME project_id TO project",
  "ALTER TABLE issues RENAME id TO issue_key",
  "ALTER TABLE notes RENAME noteable_type TO kind; ALTER TABLE notes RENAME noteable_id TO subject",
  "ALTER TABLE builds RENAME part TO piece; ALTER TABLE artifacts RENAME build_part TO build_piece",
  "ALTER TABLE projects RENAME TO repositories",
  "CREATE SCHEMA elsewhere; ALTER TABLE projects SET SCHEMA elsewhere",
  "ALTER SCHEMA public RENAME TO main",
  "ALTER TABLE projects RENAME TO projects_1; CREATE VIEW projects AS SELECT * FROM projects_1",
  "ALTER TABLE projects RENAME organization_id TO org; ALTER TABLE projects RENAME org TO organization_id",
];

describe("what has another name", () => {
  it.each(RENAMES)("no write fails while everything is here: %s", async (statement) => {
    await live("source");
    expect(await deletions(statement)).toEqual(expected("ok", "ok"));
  });

  it.each(RENAMES)("each row is whose it was: %s", async (statement) => {
    await live("opened");
    expect(await deletions(statement)).toEqual(expected("CL421 pod-1", "ok"));
  });
});

/** Whoever has written before has plans for the types of then. */
describe("what has another type", () => {
  it.each([
    "ALTER TABLE projects DROP CONSTRAINT projects_organization_id_fkey; ALTER TABLE projects ALTER organization_id TYPE varchar(40)",
    "ALTER TABLE issues ALTER project_id TYPE int",
    "ALTER TABLE issues ALTER id TYPE int",
    "ALTER TABLE notes ALTER id TYPE int; ALTER TABLE notes ALTER noteable_id TYPE int",
    "ALTER TABLE notes ALTER noteable_type TYPE varchar(20)",
    "ALTER TABLE artifacts DROP CONSTRAINT artifacts_build_id_build_part_fkey; ALTER TABLE artifacts ALTER build_part TYPE bigint",
    "ALTER TABLE projects RENAME organization_id TO org; ALTER TABLE projects DROP CONSTRAINT projects_organization_id_fkey; ALTER TABLE projects ALTER org TYPE varchar(40)",
  ])("no write of a session that goes on fails, and each row is whose it was: %s", async (statement) => {
    await live("source");
    await deletions("SELECT 1");
    expect(await deletions(statement)).toEqual(expected("ok", "ok"));
    await live("opened");
    await deletions("SELECT 1");
    expect(await deletions(statement)).toEqual(expected("CL421 pod-1", "ok"));
  });
});

describe("what is gone", () => {
  it.each([
    ["ALTER TABLE projects DROP COLUMN organization_id", Object.keys(ROWS)],
    ["DROP TABLE projects CASCADE", ["issues", "comments", "artifacts"]],
    ["ALTER TABLE notes DROP COLUMN noteable_type", ["notes"]],
  ])("%s", async (statement, tables) => {
    await live("source");
    expect(await deletions(statement)).toMatchObject(expected("ok", "ok", tables));
    // Nobody can tell whose they are.
    await live("opened");
    const found = await deletions(statement);
    for (const row of Object.keys(expected("", "", tables))) expect(found[row], row).toMatch(/^CL421 pod-/);
  });
});

describe("a table that a rule knows before there is one", () => {
  const MAKE = "CREATE TABLE later (id bigint PRIMARY KEY, organization_id text, body text)";

  beforeEach(() => live("opened"));

  it.each([
    ["made", [MAKE]],
    ["renamed", [MAKE.replace("later", "early"), "ALTER TABLE early RENAME TO later"]],
    [
      "partitioned",
      [
        "CREATE TABLE later (id bigint, organization_id text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE later_1 PARTITION OF later FOR VALUES FROM (0) TO (1000)",
      ],
    ],
    [
      "given the column",
      ["CREATE TABLE later (id bigint PRIMARY KEY)", "ALTER TABLE later ADD organization_id text"],
    ],
  ])("is guarded at once when it is %s", async (_, statements) => {
    const insert = (whose: string) => `INSERT INTO later (id, organization_id) VALUES (1, '${whose}')`;
    expect(await attempt(...statements, insert("neighbour"))).toBe("ok");
    expect(await attempt(...statements, insert("moving"))).toMatch(/^CL421 pod-1/);
    expect(await attempt(...statements, "TRUNCATE later")).toMatch(/^CL421 pod-/);
  });

  it("and followed when its column is renamed", async () => {
    const rename = "ALTER TABLE later RENAME organization_id TO org";
    expect(await attempt(MAKE, rename, "INSERT INTO later VALUES (1, 'neighbour')")).toBe("ok");
    expect(await attempt(MAKE, rename, "INSERT INTO later VALUES (1, 'moving')")).toMatch(/^CL421 pod-1/);
  });

  it("with another that finds its owners by it", async () => {
    const lines = "CREATE TABLE later_lines (id bigint PRIMARY KEY, later_id bigint)";
    const insert = "INSERT INTO later VALUES (1, 'neighbour'); INSERT INTO later_lines VALUES (1, 1)";
    expect(await attempt(MAKE, lines, insert)).toBe("ok");
    expect(await attempt(MAKE, lines, "INSERT INTO later_lines VALUES (1, 7)")).toMatch(/^CL421/);
  });

  it("takes the place of one that is swapped out", async () => {
    const swap =
      "CREATE TABLE projects_new (LIKE projects INCLUDING ALL); INSERT INTO projects_new SELECT * FROM projects; ALTER TABLE projects RENAME TO projects_old; ALTER TABLE projects_new RENAME TO projects";
    expect(await attempt(swap, "UPDATE projects SET name = 'x' WHERE id = 2")).toBe("ok");
    expect(await attempt(swap, "UPDATE projects SET name = 'x' WHERE id = 1")).toMatch(/^CL421 pod-1/);
    expect(await attempt(swap, "UPDATE issues SET title = 'x' WHERE id = 1")).toMatch(/^CL421 pod-1/);
  });

  it("is not guarded without the column, and its writes go on", async () => {
    expect(await attempt("CREATE TABLE later (id bigint PRIMARY KEY); INSERT INTO later VALUES (1)")).toBe(
      "ok",
    );
  });
});

describe("the agent", () => {
  it("says which rule does not fit any more, leaves the functions alone, and makes them by the new rules", async () => {
    await live("opened");
    expect(await verifyGuard(db, rules)).toEqual([]);
    await client.query("ALTER TABLE projects RENAME organization_id TO org");
    try {
      const fault = {
        code: "OWNERSHIP_RULE_INVALID",
        message: "public.projects has no column organization_id",
      };
      expect(await verifyGuard(db, rules)).toMatchObject([fault]);
      const options = { defaultPodId: POD_0, migrationId: SPLIT };
      await expect(installGuard(db, { ...options, ownership: rules })).rejects.toMatchObject(fault);
      expect(await deletions("SELECT 1")).toEqual(expected("CL421 pod-1", "ok"));
      const renamed = Ownership.parse({
        ...rules,
        tables: { ...rules.tables, "public.projects": { organization: "org" } },
      });
      await installGuard(db, { ...options, ownership: renamed });
      expect(await verifyGuard(db, renamed)).toEqual([]);
      expect(await deletions("SELECT 1")).toEqual(expected("CL421 pod-1", "ok"));
      expect(await deletions("ALTER TABLE projects RENAME org TO organization")).toEqual(
        expected("CL421 pod-1", "ok"),
      );
    } finally {
      await client.query("ALTER TABLE projects RENAME org TO organization_id");
    }
    await installGuard(db, { ownership: rules, defaultPodId: POD_0, migrationId: SPLIT });
  });

  it("finds nothing to do when the name comes back", async () => {
    await client.query(
      "ALTER TABLE projects RENAME organization_id TO org; ALTER TABLE issues RENAME TO tasks",
    );
    await client.query(
      "ALTER TABLE projects RENAME org TO organization_id; ALTER TABLE tasks RENAME TO issues",
    );
    expect(await verifyGuard(db, rules)).toEqual([]);
  });
});
