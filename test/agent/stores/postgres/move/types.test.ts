/** Organizations whose keys are of extensions' types, or collated in their own way, and whose tables are partitioned. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

const TYPES = [
  { name: "ltree", type: "ltree", of: (n: number) => `a.b${n}` },
  { name: "hstore", type: "hstore", of: (n: number) => `a=>${n}, b=>2` },
  { name: "cube", type: "cube", of: (n: number) => `(1,${n})` },
  { name: "citext", type: "citext", of: (n: number) => `Name ${n}` },
  { name: "isbn", type: "isbn", of: (n: number) => `978-0-393-04${String(n).padStart(3, "0")}-?` },
  { name: "collated", type: `text COLLATE "und-x-icu"`, of: (n: number) => `name ${n}` },
] as const;

const SCHEMA = `
CREATE SCHEMA "Ext e";
${["ltree", "hstore", "cube", "citext", "isn"].map((name) => `CREATE EXTENSION ${name} SCHEMA "Ext e";`).join(" ")}
SET search_path = public, "Ext e";
CREATE TABLE orgs (id text COLLATE "und-x-icu" PRIMARY KEY);
${TYPES.map(
  ({ name, type }) => `
CREATE TABLE ${name}s (id ${type} PRIMARY KEY, org_id text COLLATE "POSIX" NOT NULL, note text);
CREATE TABLE ${name}_items (${name}_id ${type} NOT NULL REFERENCES ${name}s ON DELETE CASCADE ON UPDATE CASCADE, n int NOT NULL, note text, PRIMARY KEY (${name}_id, n));`,
).join("\n")}
CREATE TABLE logs (id bigint NOT NULL, org_id text NOT NULL, day date NOT NULL, body text) PARTITION BY RANGE (day);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE UNIQUE INDEX logs_key ON logs (id, day);
ALTER TABLE logs REPLICA IDENTITY USING INDEX logs_key;
`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.logs": { organization: "org_id" },
    ...Object.fromEntries(
      TYPES.flatMap(({ name }) => [
        [`public.${name}s`, { organization: "org_id" }],
        [`public.${name}_items`, { parent: `public.${name}s`, column: `${name}_id` }],
      ]),
    ),
  },
});

const PATH = `SET search_path = public, "Ext e";`;
const rows = (from: number, to: number, org: string) =>
  TYPES.flatMap(({ name, of }) =>
    Array.from({ length: to - from }, (_, at) => {
      const value = of(from + at).replaceAll("'", "''");
      return `INSERT INTO ${name}s VALUES ('${value}', '${org}', 'new'); INSERT INTO ${name}_items VALUES ('${value}', 1, 'new'), ('${value}', 2, 'new');`;
    }),
  ).join("\n");

let pods: MovePods;

beforeAll(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["moving"]);
  pods.reverseReplication = [TO];
  await pods.source.query("INSERT INTO orgs VALUES ('moving'), ('staying')");
  await pods.source.query(PATH + rows(100, 110, "moving") + rows(110, 120, "staying"));
  await pods.source.query(
    "INSERT INTO logs SELECT n, CASE n % 2 WHEN 0 THEN 'moving' ELSE 'staying' END, '2026-01-03', 'x' FROM generate_series(1, 20) n",
  );
}, 60_000);
afterAll(() => pods?.remove(), 60_000);

/** Whole, by SQL that shares nothing with the product. */
async function contents(cluster: MovePods["source"]): Promise<unknown> {
  const all: Record<string, unknown> = {};
  for (const { name } of TYPES) {
    all[name] = await cluster.query(
      `SELECT id::text, note FROM ${name}s WHERE org_id = 'moving' ORDER BY id::text COLLATE "C"`,
    );
    all[`${name} items`] = await cluster.query(
      `SELECT i.${name}_id::text AS id, n, i.note FROM ${name}_items i WHERE i.${name}_id::text IN (SELECT id::text FROM ${name}s WHERE org_id = 'moving') ORDER BY i.${name}_id::text COLLATE "C", n`,
    );
  }
  all["logs"] = await cluster.query("SELECT * FROM logs WHERE org_id = 'moving' ORDER BY id");
  return all;
}

it("go to another Pod whole, while they are written to, and change nothing for anybody", async () => {
  expect((await pods.preflight(TO)).filter(({ severity }) => severity === "error")).toEqual([]);
  expect((await pods.preflight(FROM)).filter(({ severity }) => severity === "error")).toEqual([]);
  await pods.follow();
  await pods.source.query(
    `${PATH}${rows(120, 125, "moving")}${rows(125, 130, "staying")}
     ${TYPES.map(({ name }) => `UPDATE ${name}s SET note = 'changed' WHERE id IN (SELECT id FROM ${name}s LIMIT 5); UPDATE ${name}_items SET note = 'changed' WHERE n = 1; DELETE FROM ${name}_items WHERE n = 2;`).join("\n")}
     UPDATE citexts SET id = 'NAME 101' WHERE id = 'name 101'; UPDATE collateds SET id = 'other' WHERE id = 'name 102'; DELETE FROM ltrees WHERE id = 'a.b103';
     UPDATE logs SET body = 'changed' WHERE id < 10; DELETE FROM logs WHERE id > 18`,
  );
  await pods.source.query("CREATE INDEX ON logs (body)");
  await pods.target
    .query("UPDATE logs SET body = 'x'; UPDATE ltrees SET note = 'x'", [])
    .catch(() => undefined);
  await eventually(async () => {
    expect(await contents(pods.target)).toEqual(await contents(pods.source));
  }, 20_000);
  const { epoch, evidence } = await pods.fenceWhenCompared(1);
  expect(evidence.source).toBeDefined();
  expect(evidence.target).toBe(evidence.source);
  await pods.transfer(epoch);
  await pods.target.query(
    `${PATH} UPDATE citexts SET note = 'there' WHERE org_id = 'moving'; UPDATE logs SET body = 'there'`,
  );
  await eventually(async () => {
    expect(await contents(pods.source)).toEqual(await contents(pods.target));
  }, 20_000);
}, 90_000);
