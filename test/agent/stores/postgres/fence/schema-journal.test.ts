/** Every change of the schema is a row, by whomever, and by the transaction that makes it. */
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readSchemaGeneration } from "../../../../../agent/stores/postgres/fence/schema-journal.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import { guardAndStage, startPod } from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let db: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  cluster = await startPod();
  await guardAndStage(cluster);
  [db, other] = [await cluster.connect(), await cluster.connect()];
  await db.query("CREATE TABLE public.builds_3 (LIKE builds); CREATE TYPE public.mood AS ENUM ('well')");
});
afterAll(async () => {
  await Promise.all([db?.end(), other?.end()]);
  await cluster?.remove();
});

interface Change {
  readonly tag: string;
  readonly objects: readonly string[];
  readonly relations: readonly string[] | null;
}

/** What was noted since `generation`. */
async function since(generation: number): Promise<Change[]> {
  const { rows } = await db.query<Change>(
    "SELECT tag, objects, relations FROM cleave.schema_change ORDER BY id",
  );
  return rows.slice(generation);
}

const changes: readonly [string, readonly string[] | null][] = [
  ["ALTER TABLE issues ADD COLUMN colour text DEFAULT 'red'", ["public.issues"]],
  ["ALTER TABLE issues RENAME COLUMN colour TO color", ["public.issues"]],
  ["ALTER TABLE issues ALTER COLUMN color TYPE varchar USING upper(color)", ["public.issues"]],
  ["ALTER TABLE issues DROP COLUMN color", ["public.issues"]],
  ['ALTER TABLE issues DISABLE TRIGGER "~cleave_guard"', ["public.issues"]],
  ['ALTER TABLE issues ENABLE ALWAYS TRIGGER "~cleave_guard"', ["public.issues"]],
  ["CREATE INDEX by_title ON issues (title)", []],
  ["CREATE INDEX CONCURRENTLY by_title_too ON issues (title)", []],
  ["DROP INDEX by_title", []],
  ["ALTER TABLE builds ATTACH PARTITION builds_3 FOR VALUES IN (3)", ["public.builds"]],
  ["ALTER TABLE builds_3 ALTER COLUMN state SET DEFAULT 'new'", ["public.builds"]],
  ["TRUNCATE builds_3, artifacts", ["public.artifacts", "public.builds"]],
  ["TRUNCATE comments", ["public.comments"]],
  ["ALTER TABLE builds DETACH PARTITION builds_3 CONCURRENTLY", null],
  ["DROP TABLE builds_3", ["public.builds_3"]],
  ["CREATE TABLE public.unheard_of (id int)", ["public.unheard_of"]],
  ["ALTER TABLE unheard_of RENAME TO heard_of", ["public.heard_of"]],
  ["CREATE TABLE public.copied AS SELECT 1 AS one", ["public.copied"]],
  ["ALTER TYPE mood ADD VALUE 'unwell'", null],
  ["CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'", []],
  ["CREATE VIEW public.seen AS SELECT * FROM issues", []],
  [
    "CREATE TRIGGER other BEFORE INSERT ON issues FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    [],
  ],
  ["DROP TRIGGER other ON issues", []],
];

for (const [statement, relations] of changes)
  it(`${statement}`, async () => {
    const before = await readSchemaGeneration(db);
    await db.query(statement);
    const noted = await since(before);
    expect(noted.length).toBeGreaterThan(0);
    expect(await readSchemaGeneration(db)).toBe(before + noted.length);
    const named = noted.some((one) => one.relations === null)
      ? null
      : [...new Set(noted.flatMap((one) => one.relations ?? []))].sort();
    expect(named).toEqual(relations);
  });

it("notes nothing of what is a session's own, of what was rolled back, and of Cleave's own tables", async () => {
  const before = await readSchemaGeneration(db);
  await db.query(
    "CREATE TEMP TABLE mine (id int); ALTER TABLE mine ADD COLUMN more int; CREATE INDEX ON mine (more); DROP TABLE mine",
  );
  await db.query("BEGIN; CREATE TABLE vain (id int); ROLLBACK");
  await db.query("CREATE PUBLICATION cleave_some FOR TABLE issues; DROP PUBLICATION cleave_some");
  await db.query("CREATE TABLE cleave.more (id int); GRANT SELECT ON issues TO app");
  expect(await since(before)).toEqual([]);
});

it("counts what others commit, in whatever order", async () => {
  const before = await readSchemaGeneration(db);
  await other.query("BEGIN; CREATE TABLE public.slow (id int)");
  await db.query("CREATE TABLE public.fast (id int)");
  expect(await readSchemaGeneration(db)).toBe(before + 1);
  await other.query("COMMIT");
  expect(await readSchemaGeneration(db)).toBe(before + 2);
});

it("notes what somebody does who is no superuser, and lets him", async () => {
  await db.query("GRANT CREATE ON SCHEMA public TO app");
  const before = await readSchemaGeneration(db);
  await db.query(
    "SET ROLE app; CREATE TABLE public.theirs (id int); ALTER TABLE public.theirs ADD COLUMN more int; DROP TABLE public.theirs; RESET ROLE",
  );
  expect((await since(before)).map(({ tag }) => tag)).toEqual(["CREATE TABLE", "ALTER TABLE", "DROP TABLE"]);
});
