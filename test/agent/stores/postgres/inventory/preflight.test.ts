/** What is found before anything is changed: rules, catalog, owners of repositories and objects. */
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { FenceMarker, Named } from "../../../../../agent/stores/common/inventory/owner-lookup.ts";
import {
  checkCatalog,
  missingOrganizations,
} from "../../../../../agent/stores/postgres/inventory/catalog-checks.ts";
import { postgresOwnerLookup } from "../../../../../agent/stores/postgres/inventory/owner-lookup.ts";
import type { Epoch, MigrationId, OrganizationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import { HOSTILE_ORGANIZATION, RULES, startPod, writer } from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let pool: pg.Pool;

beforeAll(async () => {
  cluster = await startPod();
  pool = new pg.Pool({ ...cluster.connection, max: 2 });
  pool.on("error", () => undefined);
});
afterAll(async () => {
  await pool?.end();
  await cluster?.remove();
});

describe("a catalog", () => {
  let undo = "";
  afterEach(async () => {
    if (undo !== "") await cluster.query(undo);
    undo = "";
  });

  it("that is in order has no findings", async () => {
    expect(await checkCatalog(pool, RULES)).toEqual([]);
  });

  it.each([
    [
      "a table without a rule",
      "CREATE TABLE extra (id int)",
      "DROP TABLE extra",
      "error",
      "OWNERSHIP_RULE_MISSING",
      /public\.extra/,
    ],
    [
      "a table of another schema",
      "CREATE SCHEMA more; CREATE TABLE more.extra (id int)",
      "DROP SCHEMA more CASCADE",
      "error",
      "OWNERSHIP_RULE_MISSING",
      /more\.extra/,
    ],
    [
      "an unlogged table",
      "ALTER TABLE comments SET UNLOGGED",
      "ALTER TABLE comments SET LOGGED",
      "error",
      "POSTGRES_UNFENCEABLE",
      /public\.comments is unlogged/,
    ],
    [
      "a large object",
      "SELECT lo_create(4711)",
      "SELECT lo_unlink(4711)",
      "error",
      "POSTGRES_UNFENCEABLE",
      /large objects/,
    ],
    [
      "rows without an owner",
      "INSERT INTO notes (noteable_type, noteable_id) VALUES ('Issue', 4711), ('Nothing', 1), (NULL, NULL)",
      "DELETE FROM notes WHERE noteable_id = 4711 OR noteable_type = 'Nothing' OR noteable_type IS NULL",
      "error",
      "OWNER_UNKNOWN",
      /public\.notes: 3 of 6 rows have no owner, for example \(/,
    ],
    [
      "a trigger behind the guard",
      `CREATE TRIGGER "ürgent" BEFORE INSERT ON projects FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
      `DROP TRIGGER "ürgent" ON projects`,
      "error",
      "POSTGRES_UNFENCEABLE",
      /ürgent/,
    ],
    [
      "a foreign table",
      "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing; CREATE FOREIGN TABLE far_away (id int) SERVER far",
      "DROP FOREIGN DATA WRAPPER nothing CASCADE",
      "error",
      "POSTGRES_UNFENCEABLE",
      /far_away is a foreign table/,
    ],
  ])("with %s", async (_, sql, after, severity, code, message) => {
    await cluster.query(sql);
    undo = after;
    expect(await checkCatalog(pool, RULES)).toContainEqual(
      expect.objectContaining({ severity, code, message: expect.stringMatching(message) }),
    );
  });

  it("with a prepared transaction", async () => {
    const client = await writer(cluster);
    await client.query(`BEGIN; INSERT INTO queue VALUES (9); PREPARE TRANSACTION 'left; over'`);
    undo = "ROLLBACK PREPARED 'left; over'";
    expect(await checkCatalog(pool, RULES)).toMatchObject([
      { code: "POSTGRES_PREPARED_TRANSACTION", message: expect.stringMatching(/"left; over" of app/) },
    ]);
    await client.end();
  });

  it.each([
    ["a missing table", { "public.nowhere": { organization: "id" } }, /public\.nowhere, but no such table/],
    [
      "a missing column",
      { "public.projects": { organization: "nowhere" } },
      /public\.projects has no column nowhere/,
    ],
    [
      "a missing key of the parent",
      { "public.issues": { parent: "public.projects", column: "project_id", parentKey: "nowhere" } },
      /public\.projects\.nowhere/,
    ],
    ["a partition", { "public.builds_1": { organization: "id" } }, /public\.builds_1 is a partition/],
    [
      "types that do not compare",
      { "public.issues": { parent: "public.projects", column: "title" } },
      /operator does not exist: bigint = text/,
    ],
  ])("with a rule that names %s", async (_, tables, message) => {
    const rules = Ownership.parse({ ...RULES, tables: { ...RULES.tables, ...tables } });
    expect(await checkCatalog(pool, rules)).toContainEqual(
      expect.objectContaining({ code: "OWNERSHIP_RULE_INVALID", message: expect.stringMatching(message) }),
    );
  });

  it("lacks organizations of a plan", async () => {
    const ids = ["moving", "gone", HOSTILE_ORGANIZATION, "'; --"] as OrganizationId[];
    expect(await missingOrganizations(pool, RULES, ids)).toEqual(["gone", "'; --"]);
  });
});

describe("an owner", () => {
  const rules = (sql: string, objects: unknown[] = []) =>
    Ownership.parse({ ...RULES, repositories: { sql }, objects });

  it("of a repository is what the rules' query says", async () => {
    const lookup = postgresOwnerLookup(
      pool,
      rules(
        "SELECT 'p' || id || '.git' AS path, organization_id AS organization FROM projects -- all of them\n;",
      ),
    );
    expect(await lookup.repositories()).toEqual(
      new Map([
        ["p1.git", "moving"],
        ["p2.git", "neighbour"],
        ["p3.git", "second"],
        ["p4.git", "other"],
      ]),
    );
    expect(await lookup.repository("p2.git")).toBe("neighbour");
    expect(await lookup.repository("p2.git' OR true --")).toBeNull();
    expect(await postgresOwnerLookup(pool, RULES).repositories()).toEqual(new Map());
  });

  it("what rows name is told in pages, of a moment after the marker of a fence, and not before", async () => {
    const keys = "SELECT 'uploads/' || g || '/a' AS key FROM generate_series(1, 25000) AS g;";
    const told = async (rules: Ownership, store: "git" | "objects", marker: FenceMarker | null) => {
      const found: Named[] = [];
      let pages = 0;
      const done = await postgresOwnerLookup(pool, rules).named(store, marker, (page) => {
        found.push(...page);
        pages += 1;
      });
      return { done, pages, found };
    };
    const naming = Ownership.parse({ ...RULES, objectKeys: { sql: keys } });
    const objects = await told(naming, "objects", null);
    expect([objects.done, objects.pages, objects.found.length]).toEqual([true, 3, 25_000]);
    expect(objects.found.at(-1)).toEqual({ name: "uploads/25000/a", organization: null });
    const paths = rules(
      "SELECT 'p' || id || '.git' AS path, organization_id AS organization FROM projects ORDER BY id",
    );
    expect((await told(paths, "git", null)).found[1]).toEqual({ name: "p2.git", organization: "neighbour" });
    expect(await told(RULES, "objects", null)).toEqual({ done: true, pages: 0, found: [] });

    const marker = { migrationId: "named" as MigrationId, epoch: 7 as Epoch };
    await pool.query(
      "CREATE SCHEMA IF NOT EXISTS cleave; CREATE TABLE IF NOT EXISTS cleave.marker (migration_id text, epoch bigint, token text)",
    );
    expect(await told(paths, "git", marker)).toEqual({ done: false, pages: 0, found: [] });
    await pool.query(
      "INSERT INTO cleave.marker (migration_id, epoch, token) VALUES ('named', 7, gen_random_uuid()::text)",
    );
    expect((await told(paths, "git", marker)).found).toHaveLength(4);
    for (const sql of ["SELECT 1 AS other", "SELECT NULL::text AS key"])
      await expect(
        told(Ownership.parse({ ...RULES, objectKeys: { sql } }), "objects", null),
      ).rejects.toMatchObject({ code: "OWNERSHIP_RULE_INVALID" });
  });

  it.each([
    ["OWNER_UNKNOWN", "SELECT 'a.git' AS path, NULL::text AS organization"],
    ["OWNER_UNKNOWN", "SELECT 'a.git' AS path, x AS organization FROM unnest(ARRAY['one', 'two']) AS x"],
    ["OWNERSHIP_RULE_INVALID", "SELECT 'a.git' AS wrong"],
    ["OWNERSHIP_RULE_INVALID", "SELECT nonsense FROM nowhere"],
    ["OWNERSHIP_RULE_INVALID", "SELECT 1) AS x; DROP TABLE issues; --"],
  ])("is %s by %s", async (code, sql) => {
    await expect(postgresOwnerLookup(pool, rules(sql)).repositories()).rejects.toMatchObject({ code });
  });

  it("is not asked for with anything that writes", async () => {
    const lookup = postgresOwnerLookup(
      pool,
      rules("SELECT 'a' AS path, nextval('issues_id_seq') AS organization"),
    );
    await expect(lookup.repositories()).rejects.toThrow(/read-only/);
  });

  it("of an object is in its key, by the longest prefix", () => {
    const lookup = postgresOwnerLookup(
      pool,
      rules("SELECT 1", [
        { prefix: "uploads/", organization: "next-segment" },
        { prefix: "uploads/common/", shared: true },
        { prefix: "lfs/", shared: true },
      ]),
    );
    expect(lookup.object("uploads/42/a/b.png")).toEqual({ kind: "organization", organizationId: "42" });
    expect(lookup.object("uploads/common/logo.png")).toEqual({ kind: "shared" });
    expect(lookup.object("lfs/ab/cd")).toEqual({ kind: "shared" });
    for (const key of ["elsewhere/42/a", "uploads/42", "uploads//a", "uploads", ""])
      expect([key, lookup.object(key)]).toEqual([key, null]);
  });
});
