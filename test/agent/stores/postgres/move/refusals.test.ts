/** What would be found only after the last row was copied is found by preflight, with the object's name. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connect, discard } from "../../../../../agent/stores/postgres/server/connection.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";

const SCHEMA = `
CREATE TYPE state AS ENUM ('open', 'closed');
CREATE DOMAIN short AS varchar(20);
CREATE TYPE place AS (x int, y int);
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE words (word text);
CREATE FUNCTION folded(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN lower(value); END';
CREATE TABLE notes (id bigint PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs, name varchar(40) UNIQUE, price numeric(10, 4), at timestamptz(6),
  state state NOT NULL DEFAULT 'open', label short, place place, code text, key uuid NOT NULL DEFAULT gen_random_uuid());`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.notes": { organization: "org_id" }, "public.words": { local: true } },
});

const DATA = `
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 3) g;
INSERT INTO notes (id, org_id, name, price, state, label, place, code) SELECT g, 1 + g % 3, 'note ' || g, g / 7.0,
  CASE WHEN g % 2 = 0 THEN 'open' ELSE 'closed' END::state, 'label ' || g, (g, g)::place, 'Code ' || g FROM generate_series(1, 60) g;`;

let pods: MovePods;
beforeEach(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  await pods.source.query(DATA);
});
afterEach(async () => {
  await pods?.remove();
});

const both = async (sql: string) => {
  await pods.source.query(sql);
  await pods.target.query(sql);
};
const errors = async () =>
  [...(await pods.preflight(FROM)), ...(await pods.preflight(TO))].filter(
    ({ severity }) => severity === "error",
  );

it("nothing is found where nothing is wrong, and the rows go over", async () => {
  await both(
    "CREATE UNIQUE INDEX by_code ON notes (folded(code)) WHERE state = 'open'; CREATE INDEX ON notes (org_id, (price * 2))",
  );
  await pods.target.query(
    "INSERT INTO orgs VALUES (9, 'x'); INSERT INTO notes (id, org_id, name, code) VALUES (9000, 9, 'another', 'another')",
  );
  // Somebody whom the cluster knows elsewhere; that is another check's.
  expect((await errors()).filter(({ code }) => code !== "TARGET_HOLDS_ORGANIZATION")).toEqual([]);
  await pods.follow();
});

type Row = readonly [
  what: string,
  on: "source" | "target" | "both",
  sql: string,
  code: string,
  message: RegExp,
];
const NEIGHBOUR = "INSERT INTO orgs VALUES (9, 'x');";
const REFUSED: readonly Row[] = [
  [
    "a shorter text",
    "target",
    "ALTER TABLE notes ALTER COLUMN name TYPE varchar(10)",
    "SCHEMA_DIFFERS",
    /notes\.name is character varying\(40\), and character varying\(10\)/,
  ],
  [
    "fewer digits",
    "target",
    "ALTER TABLE notes ALTER COLUMN price TYPE numeric(8, 2)",
    "SCHEMA_DIFFERS",
    /notes\.price is numeric\(10,4\), and numeric\(8,2\)/,
  ],
  [
    "a coarser clock",
    "target",
    "ALTER TABLE notes ALTER COLUMN at TYPE timestamptz(0)",
    "SCHEMA_DIFFERS",
    /notes\.at/,
  ],
  [
    "a label that is missing",
    "source",
    "ALTER TYPE state ADD VALUE 'merged'",
    "SCHEMA_DIFFERS",
    /the type state has no merged/,
  ],
  [
    "a domain of less",
    "target",
    "ALTER TABLE notes ALTER COLUMN label TYPE text; DROP DOMAIN short; CREATE DOMAIN short AS varchar(5); ALTER TABLE notes ALTER COLUMN label TYPE short",
    "SCHEMA_DIFFERS",
    /label is public\.short character varying\(20\), and public\.short character varying\(5\) on the target/,
  ],
  [
    "a domain that is stricter",
    "target",
    "ALTER DOMAIN short ADD CHECK (VALUE <> 'label 1')",
    "SCHEMA_DIFFERS",
    /the type short has further constraints/,
  ],
  [
    "attributes in another order",
    "target",
    "ALTER TABLE notes DROP COLUMN place; DROP TYPE place; CREATE TYPE place AS (y int, x int); ALTER TABLE notes ADD COLUMN place place",
    "SCHEMA_DIFFERS",
    /place/,
  ],
  [
    "a constraint of the target",
    "target",
    "ALTER TABLE notes ADD CONSTRAINT cheap CHECK (price < 5)",
    "TARGET_REFUSES_ROWS",
    /public\.notes.*cheap/,
  ],
  [
    "NOT NULL of the target",
    "target",
    "ALTER TABLE notes ALTER COLUMN at SET NOT NULL",
    "TARGET_REFUSES_ROWS",
    /NOT NULL of at/,
  ],
  [
    "a unique value that is taken",
    "target",
    `${NEIGHBOUR} INSERT INTO notes (id, org_id, name) VALUES (9000, 9, 'note 4')`,
    "KEY_COLLISION",
    /public\.notes has other rows with \(name\) = \(note 4\)/,
  ],
  [
    "a unique expression that is taken",
    "both",
    "CREATE UNIQUE INDEX ON notes (lower(code))",
    "KEY_COLLISION",
    /public\.notes has other rows with \(lower\(code\)\) = \(code 4\)/,
  ],
  [
    "a unique value under a condition that is taken",
    "both",
    "CREATE UNIQUE INDEX ON notes (code) WHERE code ~ '^Code'",
    "KEY_COLLISION",
    /with \(code\) = \(Code 4\)/,
  ],
  [
    "a trigger that fires always",
    "target",
    "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION other(); ALTER TABLE notes ENABLE ALWAYS TRIGGER audit",
    "TARGET_REFUSES_ROWS",
    /the trigger audit of public\.notes is enabled ALWAYS/,
  ],
  [
    "a trigger that fires for replicas",
    "target",
    "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION other(); ALTER TABLE notes ENABLE REPLICA TRIGGER audit",
    "TARGET_REFUSES_ROWS",
    /the trigger audit of public\.notes is enabled for replicas/,
  ],
  [
    "an index over a function that needs a search_path",
    "both",
    "CREATE INDEX by_word ON notes (folded(code)); CREATE OR REPLACE FUNCTION folded(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN value || (SELECT count(*) FROM words); END'",
    "TARGET_REFUSES_ROWS",
    /the index by_word of public\.notes.*words/,
  ],
  [
    "a generated column in the key",
    "both",
    "ALTER TABLE notes DROP CONSTRAINT notes_pkey; ALTER TABLE notes ADD COLUMN made bigint GENERATED ALWAYS AS (id * 2) STORED; ALTER TABLE notes ADD PRIMARY KEY (made)",
    "REPLICA_IDENTITY_MISSING",
    /public\.notes has no key/,
  ],
  [
    "no replica identity but the primary key's, which has a generated column",
    "both",
    "ALTER TABLE notes DROP CONSTRAINT notes_pkey; ALTER TABLE notes ADD COLUMN made bigint GENERATED ALWAYS AS (id * 2) STORED; ALTER TABLE notes ADD PRIMARY KEY (made); CREATE UNIQUE INDEX plain ON notes (id); ALTER TABLE notes ALTER COLUMN id SET NOT NULL",
    "REPLICA_IDENTITY_MISSING",
    /REPLICA IDENTITY USING INDEX plain/,
  ],
  [
    "a key that the target has not",
    "source",
    "CREATE UNIQUE INDEX by_key ON notes (key); ALTER TABLE notes REPLICA IDENTITY USING INDEX by_key",
    "SCHEMA_DIFFERS",
    /no unique key of key on the target/,
  ],
];

const NEIGHBOURS_OF: Readonly<Record<string, string>> = {
  "a unique expression that is taken": `${NEIGHBOUR} INSERT INTO notes (id, org_id, name, code) VALUES (9000, 9, 'x', 'CODE 4')`,
  "a unique value under a condition that is taken": `${NEIGHBOUR} INSERT INTO notes (id, org_id, name, code) VALUES (9000, 9, 'x', 'Code 4')`,
};

describe("preflight finds", () => {
  it.each(REFUSED)("%s", async (what, on, sql, code, message) => {
    if (on === "both") await both(sql);
    else await pods[on].query(sql);
    const neighbour = NEIGHBOURS_OF[what];
    if (neighbour !== undefined) await pods.target.query(neighbour);
    const found = await errors();
    expect(
      found.find((one) => one.code === code && message.test(one.message)),
      JSON.stringify(found),
    ).toBeDefined();
    expect(found.filter((one) => one.code === "INTERNAL")).toEqual([]);
  });

  it("no free replication origin", async () => {
    const [row] = await pods.target.query<{ own: boolean }>(
      "SELECT current_setting('max_active_replication_origins', true) IS NOT NULL AS own",
    );
    await pods.target.stop();
    await pods.target.resume({
      [row?.own ? "max_active_replication_origins" : "max_replication_slots"]: "1",
    });
    await pods.target.query(
      "SELECT pg_replication_origin_create('another'), pg_replication_origin_advance('another', '0/1')",
    );
    expect((await errors()).find(({ code }) => code === "POSTGRES_SETTING")?.message).toMatch(
      /no replication origin is free/,
    );
  });
});

it("the key of the stream is the replica identity, also where the primary key is another", async () => {
  await both(
    "CREATE UNIQUE INDEX by_key ON notes (key); ALTER TABLE notes REPLICA IDENTITY USING INDEX by_key",
  );
  expect(await errors()).toEqual([]);
  await pods.follow();
  await pods.source.query(
    "UPDATE notes SET code = code || '!' WHERE org_id = 2; DELETE FROM notes WHERE id = 4",
  );
  const { source, target } = await pods.fence(1);
  expect(target).toBe(source);
  await pods.transfer(1);
  const ROWS = "SELECT * FROM notes WHERE org_id = 2 ORDER BY id";
  expect(await pods.target.query(ROWS)).toEqual(await pods.source.query(ROWS));
});

it("bytes that are no text are found where the server does not look", async () => {
  const clusters = await Promise.all(
    [FROM, TO].map((podId) =>
      Cluster.start({ podId, settings: { wal_level: "logical" }, initdb: ["-E", "SQL_ASCII"] }),
    ),
  );
  const other = MovePods.of(clusters[0] as Cluster, clusters[1] as Cluster, RULES, ["2"]);
  try {
    for (const cluster of clusters) await cluster.query(SCHEMA);
    await other.source.query(DATA);
    const refused = async () =>
      (await other.preflight(TO))
        .filter(({ severity }) => severity === "error")
        .map(({ message }) => message);
    expect(await refused()).toEqual([]);
    // A later one stops the stream, and is named too.
    await other.follow();
    await other.source.query("UPDATE notes SET code = chr(200) || 'x' WHERE id = 4");
    const until = Date.now() + 10_000;
    while (!/invalid byte sequence/.test(JSON.stringify(other.status(TO).problems)) && Date.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(JSON.stringify(other.status(TO).problems)).toMatch(/CHANGE_NOT_APPLICABLE.*invalid byte sequence/);
    await Promise.all([other.reach(FROM, "release"), other.reach(TO, "release")]);
    expect((await refused()).join()).toMatch(/the bytes of public\.notes \(SQL_ASCII\)/);
  } finally {
    await other.remove();
  }
});

it("an abort in one database leaves the role to the other database of the server", async () => {
  await pods.follow();
  // As another agent would, that moves something into a second database of the same server.
  await pods.target.query("CREATE DATABASE second");
  const second = await connect(
    { ...pods.target.connection, database: "second" },
    { applicationName: "cleave" },
  );
  const { ensureApplyRole } = await import("../../../../../agent/stores/postgres/move/apply-role.ts");
  await second.query("CREATE SCHEMA cleave");
  await ensureApplyRole(second);
  await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
  const ROLE = "SELECT rolname FROM pg_roles WHERE rolname = 'cleave_apply'";
  expect(await pods.target.query(ROLE)).toHaveLength(1);
  expect(await pods.target.query("SELECT FROM pg_namespace WHERE nspname = 'cleave'")).toEqual([]);
  discard(second);
});
