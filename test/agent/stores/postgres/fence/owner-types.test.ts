/** Keys of organizations have one text each: what could be written in two ways is refused, and what could not passes. */
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { installGuard, verifyGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { isWritten } from "../../../../../agent/stores/postgres/fence/owner-types.ts";
import { setShares, stageRoutes } from "../../../../../agent/stores/postgres/fence/staging.ts";
import { checkCatalog } from "../../../../../agent/stores/postgres/inventory/catalog-checks.ts";
import { postgresOwnerLookup } from "../../../../../agent/stores/postgres/inventory/owner-lookup.ts";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";
import { epoch, outcome, POD_0, POD_1, SPLIT } from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let databases = 0;
beforeAll(async () => {
  cluster = await Cluster.start({ podId: POD_0 });
});
afterAll(() => cluster?.remove());

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.notes": { organization: "org" } },
  repositories: { sql: "SELECT 'group/' || id || '.git' AS path, org AS organization FROM notes" },
  objects: [{ prefix: "uploads/", organization: "next-segment" }],
});

/** A database of its own with a root of one type and a column that refers to it of another. */
async function withKeys(
  root: string,
  column: string,
  work: (db: pg.Client) => Promise<void>,
  before = "",
): Promise<void> {
  const name = `keys_${++databases}`;
  await cluster.query(`CREATE DATABASE ${name}`);
  const db = await cluster.connect(name);
  try {
    await db.query(
      `${before}; CREATE TABLE orgs (id ${root} PRIMARY KEY); CREATE TABLE notes (id bigint PRIMARY KEY, org ${column} NOT NULL)`,
    );
    await work(db);
  } finally {
    await db.end();
  }
}

const INSTALL = { ownership: RULES, defaultPodId: POD_0, migrationId: SPLIT };

describe("is refused before anything begins, by name", () => {
  it.each([
    ["numeric", "7 and 7.0"],
    ["timestamptz", "two time zones"],
    ["timestamp", "two date styles"],
    ["date", "two date styles"],
    ["double precision", "0 and -0"],
    ["interval", "1 day and 24 hours"],
    ["bytea", "hex and escape"],
    ["jsonb", "1 and 1.0"],
    ["money", "two locales"],
    ["cents", "a domain over one of these", "CREATE DOMAIN cents AS numeric"],
    [
      "text COLLATE loose",
      "ACME and acme",
      "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    ],
    [
      "slug",
      "the same by a domain",
      "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE DOMAIN slug AS text COLLATE loose",
    ],
  ])("a root key of %s (%s)", async (type, _why, before = "") => {
    await withKeys(
      type,
      type,
      async (db) => {
        const found = (await checkCatalog(db, RULES)).filter(({ code }) => code === "OWNERSHIP_RULE_INVALID");
        expect(found.map(({ message }) => message).join()).toMatch(/public\.orgs\.id, .*root\.key/);
        await expect(installGuard(db, INSTALL)).rejects.toMatchObject({
          code: "OWNERSHIP_RULE_INVALID",
          message: expect.stringMatching(/public\.orgs\.id/),
        });
        const { rows } = await db.query("SELECT FROM pg_namespace WHERE nspname = 'cleave'");
        expect(rows).toEqual([]);
      },
      before,
    );
  });

  it.each([
    ["bigint", "numeric"],
    ["bigint", "text"],
    ["uuid", "text"],
    ["text", "uuid"],
  ])("a key of %s that a column holds as %s", async (root, column) => {
    await withKeys(root, column, async (db) => {
      await expect(installGuard(db, INSTALL)).rejects.toMatchObject({
        code: "OWNERSHIP_RULE_INVALID",
        message: expect.stringMatching(/public\.notes\.org/),
      });
    });
  });
});

describe("is fenced whichever way it is written", () => {
  it.each([
    ["bigint", "integer", "7", ["7", "007", "' 7 '"]],
    ["char(5)", "char(9)", "a", ["'a'", "'a    '"]],
    ["varchar(9)", "text", "a", ["'a'"]],
    [
      "uuid",
      "uuid",
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'{a0eebc999c0b4ef8bb6d6bb9bd380a11}'"],
    ],
    ["mood", "mood", "fine", ["'fine'"], "CREATE TYPE mood AS ENUM ('fine')"],
    ["slug", "slug", "a", ["'a'"], "CREATE DOMAIN slug AS text CHECK (VALUE <> '')"],
  ])("a key of %s in a column of %s", async (root, column, organization, spellings, before = "") => {
    await withKeys(
      root,
      column,
      async (db) => {
        expect((await checkCatalog(db, RULES)).filter(({ severity }) => severity === "error")).toEqual([]);
        await installGuard(db, INSTALL);
        await stageRoutes(db, {
          migrationId: SPLIT,
          sourcePodId: POD_0,
          defaultPodId: POD_0,
          targetPodIds: [POD_1],
          assignments: new Map([[organization as OrganizationId, POD_1]]),
        });
        await setShares(db, SPLIT, { [POD_1]: "fenced" } as never, epoch(1));
        for (const [at, spelling] of spellings.entries())
          expect(await outcome(db.query(`INSERT INTO notes VALUES (${at}, ${spelling})`)), spelling).toBe(
            "CL503",
          );
      },
      before,
    );
  });
});

it("a type that is altered later is found by the next look at the guard", async () => {
  await withKeys("bigint", "bigint", async (db) => {
    await installGuard(db, INSTALL);
    expect(await verifyGuard(db, RULES)).toEqual([]);
    await db.query("ALTER TABLE notes ALTER COLUMN org TYPE numeric");
    expect((await verifyGuard(db, RULES)).map(({ code }) => code)).toContain("OWNERSHIP_RULE_INVALID");
  });
});

it("repositories and objects belong to nobody known where their key is written in another way", async () => {
  await withKeys("uuid", "uuid", async (db) => {
    const lookup = postgresOwnerLookup(db, RULES);
    const written = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    await eventually(() => expect(lookup.object(`uploads/${written.toUpperCase()}/x`)).toBeNull());
    expect(lookup.object(`uploads/${written}/x`)).toEqual({ kind: "organization", organizationId: written });
    const loose = postgresOwnerLookup(db, {
      ...RULES,
      repositories: { sql: "SELECT 'a.git' AS path, upper(org::text) AS organization FROM notes" },
    });
    await db.query(`INSERT INTO notes VALUES (1, '${written}')`);
    await expect(loose.repositories()).rejects.toMatchObject({
      code: "OWNER_UNKNOWN",
      message: expect.stringMatching(/a\.git/),
    });
    expect([...(await lookup.repositories())]).toEqual([["group/1.git", written]]);
  });
});

it("a key is written as PostgreSQL writes it", () => {
  for (const text of ["0", "7", "-7", "9007199254740993"]) expect(isWritten("integer", text)).toBe(true);
  for (const text of ["07", "+7", "7.0", " 7", "-0", ""]) expect(isWritten("integer", text)).toBe(false);
  expect(isWritten("text", "007")).toBe(true);
});
