/** `cleave analyze` on schemas that it has never seen: with and without constraints, by number, UUID and text. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import {
  type Analysis,
  analyze,
  type TableReport,
} from "../../../agent/stores/postgres/inventory/analyze.ts";
import { renderDrawing } from "../../../agent/stores/postgres/inventory/drawing.ts";
import { renderRules } from "../../../agent/stores/postgres/inventory/render.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { Cluster, PASSWORD, USER } from "../../support/postgres/postgres.ts";

let cluster: Cluster;
let admin: pg.Client;
let number = 0;
const open: pg.Client[] = [];

beforeAll(async () => {
  cluster = await Cluster.start({ podId: "pod-0" });
  admin = await cluster.connect();
});
afterAll(async () => {
  await Promise.all(open.map((client) => client.end()));
  await admin?.end();
  await cluster?.remove();
});

const urlOf = (name: string) =>
  `postgresql://${USER}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${cluster.port}/${name}`;

/** A database of its own with this schema. */
async function database(sql: string): Promise<{ db: pg.Client; url: string }> {
  const name = `analyzed_${++number}`;
  await admin.query(`CREATE DATABASE ${name}`);
  const db = new pg.Client({ connectionString: urlOf(name) });
  // What uses it says that it broke.
  db.on("error", () => undefined);
  await db.connect();
  open.push(db);
  await db.query(sql);
  await db.query("ANALYZE");
  return { db, url: urlOf(name) };
}

function of(analysis: Analysis, table: string): TableReport {
  const found = analysis.tables.find(
    (report) => report.table === table || report.table === `public.${table}`,
  );
  if (found === undefined) throw new Error(`no report of ${table}`);
  return found;
}

/** How many rows of each table the rules give to an organization. */
async function countsOf(
  db: pg.Client,
  analysis: Analysis,
  organization: unknown,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { table, sql } of analysis.tables) {
    if (sql === null) continue;
    const { rows } = await db.query(`SELECT count(*)::int AS n FROM (${sql}) s`, [organization]);
    counts[table.replace("public.", "")] = rows[0].n;
  }
  return counts;
}

describe("a schema with constraints", () => {
  let db: pg.Client;
  let analysis: Analysis;

  beforeAll(async () => {
    ({ db } = await database(`
      CREATE TABLE tenants (id bigint PRIMARY KEY, name text);
      CREATE TABLE people (id bigint PRIMARY KEY, home_tenant bigint REFERENCES tenants);
      CREATE TABLE spaces (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants, parent_id bigint REFERENCES spaces);
      CREATE TABLE docs (id bigint PRIMARY KEY, space_id bigint NOT NULL REFERENCES spaces, author_id bigint NOT NULL REFERENCES people, template_id bigint REFERENCES docs);
      CREATE TABLE drafts (id bigint PRIMARY KEY, doc_id bigint REFERENCES docs);
      CREATE TABLE stars (doc_id bigint NOT NULL REFERENCES docs, person_id bigint NOT NULL REFERENCES people);
      CREATE TABLE runs (id bigint, day int, space_id bigint NOT NULL REFERENCES spaces, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
      CREATE TABLE runs_1 PARTITION OF runs FOR VALUES IN (1);
      CREATE TABLE runs_2 PARTITION OF runs DEFAULT;
      CREATE TABLE steps (run_id bigint NOT NULL, day int NOT NULL, at int, PRIMARY KEY (run_id, day, at), FOREIGN KEY (run_id, day) REFERENCES runs);
      CREATE TABLE remarks (id bigint PRIMARY KEY, on_type text NOT NULL, on_id bigint NOT NULL);
      CREATE TABLE loose (id bigint PRIMARY KEY, doc_id bigint REFERENCES docs);
      CREATE UNLOGGED TABLE caches (id bigint PRIMARY KEY, space_id bigint NOT NULL REFERENCES spaces);
      CREATE TABLE settings (name text PRIMARY KEY);
      INSERT INTO tenants VALUES (1, 'one'), (2, 'two');
      INSERT INTO people VALUES (1, 1), (2, NULL), (3, NULL);
      INSERT INTO spaces VALUES (10, 1, NULL), (11, 1, 10), (20, 2, NULL);
      INSERT INTO docs VALUES (100, 10, 1, NULL), (101, 11, 2, 100), (200, 20, 1, 100);
      INSERT INTO drafts VALUES (1, 100), (2, 200);
      INSERT INTO stars VALUES (100, 1), (200, 1), (200, 1);
      INSERT INTO runs VALUES (1, 1, 10), (1, 2, 20);
      INSERT INTO steps VALUES (1, 1, 1), (1, 1, 2), (1, 2, 1);
      INSERT INTO remarks VALUES (1, 'Doc', 100), (2, 'Space', 20), (3, 'Doc', 200);
      INSERT INTO loose VALUES (1, 100), (2, NULL);`));
    analysis = await analyze(db, { root: "tenants" });
  });

  it("follows declared keys, compositions and partitions, and selects exactly what is an organization's", async () => {
    expect(of(analysis, "spaces")).toMatchObject({
      certainty: "declared",
      rule: { organization: "tenant_id" },
    });
    expect(of(analysis, "steps")).toMatchObject({
      certainty: "declared",
      rule: { parent: "public.runs", column: ["run_id", "day"], parentKey: ["id", "day"] },
    });
    expect(of(analysis, "runs")).toMatchObject({ partitions: 2, certainty: "declared" });
    expect(analysis.tables.map(({ table }) => table)).not.toContain("public.runs_1");
    expect(of(analysis, "docs").path).toEqual([
      "public.docs (space_id)",
      "public.spaces (tenant_id)",
      "public.tenants",
    ]);
    expect(await countsOf(db, analysis, 1)).toEqual({
      tenants: 1,
      spaces: 2,
      docs: 2,
      drafts: 1,
      stars: 1,
      runs: 1,
      steps: 2,
      remarks: 1,
      loose: 1,
      caches: 0,
    });
  });

  it("says how sure it is", () => {
    expect(of(analysis, "drafts")).toMatchObject({
      certainty: "measured",
      because: expect.stringContaining("2 rows"),
    });
    expect(of(analysis, "remarks")).toMatchObject({
      certainty: "measured",
      rule: {
        typeColumn: "on_type",
        idColumn: "on_id",
        parents: { Doc: "public.docs", Space: "public.spaces" },
      },
    });
    expect(of(analysis, "loose")).toMatchObject({ certainty: "partial" });
    expect(of(analysis, "loose").blockers[0]?.message).toContain("1 of 2 rows");
  });

  it("does not give a shared table to the organization that some of its rows name", () => {
    const people = of(analysis, "people");
    expect(people.rule).toBeNull();
    expect(people.suggestion).toMatch(/^clusterWide or shared: 1 of 2 rows that public.docs refers to/);
    expect(of(analysis, "settings").suggestion).toMatch(/^local/);
  });

  it("names what keeps a table from being moved", () => {
    const messages = (table: string) =>
      of(analysis, table)
        .blockers.map(({ message }) => message)
        .join("\n");
    expect(messages("stars")).toContain("no key");
    expect(of(analysis, "stars").replicaIdentityNeeded).toBe("REPLICA IDENTITY FULL");
    expect(messages("caches")).toContain("unlogged");
    expect(messages("docs")).toContain(
      "1 of 2 rows refer by template_id to a row of public.docs of another organization",
    );
    expect(of(analysis, "spaces").changeRecord).toBe("suffices but for deletions");
    expect(of(analysis, "docs").changeRecord).toBe("needs the parent");
  });

  it("writes rules that agents read, and takes them back without a question", async () => {
    const text = renderRules(analysis);
    const rules = Ownership.parse(parse(text));
    expect(rules.tables["public.docs"]).toEqual(of(analysis, "docs").rule);
    expect(text).toContain("# UNEXPLAINED");
    const again = await analyze(db, {
      root: "public.tenants",
      rules: {
        ...rules,
        tables: {
          ...rules.tables,
          "public.people": { clusterWide: true },
          "public.settings": { local: true },
        },
      },
    });
    expect(of(again, "people")).toMatchObject({ certainty: "rules file", rule: { clusterWide: true } });
    expect(again.tables.filter(({ rule }) => rule === null)).toEqual([]);
    expect(renderDrawing(again)).toContain(">tenants</text>");
  });
});

it("a schema without any constraint is explained by names that the rows bear out, and by nothing less", async () => {
  const { db } = await database(`
    CREATE TABLE accounts (id serial PRIMARY KEY, name text);
    CREATE TABLE invoices (id serial PRIMARY KEY, account_id int, total int);
    CREATE TABLE "invoiceLines" (id serial PRIMARY KEY, "invoiceId" int, "accountName" text);
    CREATE TABLE liars (id serial PRIMARY KEY, account_id int);
    CREATE TABLE coincidences (id serial PRIMARY KEY, weight int);
    CREATE TABLE attachments (id serial PRIMARY KEY, holder_class text, holder_id int);
    INSERT INTO accounts (name) SELECT 'a' || g FROM generate_series(1, 5) g;
    INSERT INTO invoices (account_id, total) SELECT 1 + g % 5, g FROM generate_series(1, 50) g;
    INSERT INTO "invoiceLines" ("invoiceId") SELECT 1 + g % 50 FROM generate_series(1, 200) g;
    INSERT INTO liars (account_id) SELECT g FROM generate_series(1, 9) g;
    INSERT INTO coincidences (weight) SELECT 1 + g % 5 FROM generate_series(1, 20) g;
    INSERT INTO attachments (holder_class, holder_id) VALUES ('Billing::Invoice', 3), ('invoice-line', 4), ('Martian', 1);`);
  const analysis = await analyze(db, { root: "accounts" });
  expect(of(analysis, "invoices")).toMatchObject({
    certainty: "measured",
    rule: { organization: "account_id" },
  });
  expect(of(analysis, "invoiceLines")).toMatchObject({
    certainty: "measured",
    rule: { parent: "public.invoices", column: "invoiceId" },
  });
  expect(of(analysis, "liars").rule).toBeNull();
  expect(of(analysis, "coincidences").rule).toBeNull();
  expect(of(analysis, "attachments")).toMatchObject({
    certainty: "partial",
    because: expect.stringContaining("Martian (1 rows)"),
  });
  expect(await countsOf(db, analysis, 2)).toMatchObject({ invoices: 10, invoiceLines: 40 });
});

it("keys are UUIDs or hostile text, tables and columns have names that break what does not quote them", async () => {
  const table = pg.escapeIdentifier(`we"ird; DROP TABLE orgs--'$x$ü`);
  const column = pg.escapeIdentifier(`ref"'; --\\ %s ☃`);
  const { db } = await database(`
    CREATE SCHEMA "Crm"; CREATE SCHEMA other;
    CREATE TABLE "Crm"."Org" (ref uuid PRIMARY KEY);
    CREATE TABLE other.things (id text PRIMARY KEY, owner uuid NOT NULL);
    CREATE TABLE ${table} (${column} text NOT NULL REFERENCES other.things, n int, PRIMARY KEY (${column}, n));
    INSERT INTO "Crm"."Org" SELECT gen_random_uuid() FROM generate_series(1, 3);
    INSERT INTO other.things SELECT 'it''s "' || row_number() OVER (), ref FROM "Crm"."Org", generate_series(1, 4);
    INSERT INTO ${table} SELECT id, 1 FROM other.things;`);
  const analysis = await analyze(db, { root: "Crm.Org" });
  expect(of(analysis, "other.things")).toMatchObject({
    certainty: "measured",
    rule: { organization: "owner" },
  });
  const { rows } = await db.query('SELECT ref FROM "Crm"."Org" LIMIT 1');
  expect(Object.values(await countsOf(db, analysis, rows[0].ref))).toEqual([1, 4, 4]);
});

it("five hundred tables take seconds", async () => {
  const tables = Array.from(
    { length: 500 },
    (_, i) =>
      `CREATE TABLE t${i} (id bigint PRIMARY KEY, up bigint NOT NULL REFERENCES ${i < 20 ? "orgs" : `t${i % 20}`}, other bigint REFERENCES t${Math.max(0, i - 30)});`,
  );
  const { db } = await database(`CREATE TABLE orgs (id bigint PRIMARY KEY); ${tables.join("\n")}`);
  const analysis = await analyze(db, { root: "orgs" });
  expect(analysis.tables.filter(({ certainty }) => certainty === "declared")).toHaveLength(500);
}, 60_000);

describe("the command", () => {
  const run = promisify(execFile);
  const cleave = async (...args: string[]) => {
    try {
      const { stdout, stderr } = await run(
        process.execPath,
        [join(import.meta.dirname, "../../../bin/cleave.mjs"), "analyze", ...args],
        {
          env: { ...process.env, NO_COLOR: "1" },
        },
      );
      return { code: 0, stdout, stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, stdout, stderr };
    }
  };

  it("prints a table, writes the files, and ends with 3 while something is unexplained", async () => {
    const { url } = await database(`
      CREATE TABLE orgs (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY, org_id int NOT NULL REFERENCES orgs);
      CREATE TABLE b (id int PRIMARY KEY);`);
    const folder = mkdtempSync(join(tmpdir(), "cleave-analyze-"));
    try {
      const [rules, svg] = [join(folder, "ownership.yaml"), join(folder, "graph.svg")];
      const found = await cleave("--database", url, "--root", "orgs", "--out", rules, "--svg", svg);
      expect(found).toMatchObject({ code: 3, stderr: "" });
      expect(found.stdout).toContain("public.b: no rule");
      expect(readFileSync(svg, "utf8")).toMatch(/^<svg /);
      Ownership.parse(parse(readFileSync(rules, "utf8")));
      const one = await cleave("--database", url, "--root", "orgs", "--table", "a", "--json");
      expect(one.code).toBe(0);
      expect(JSON.parse(one.stdout).tables[0].sql).toContain('"org_id" IN ($1)');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("says what is wrong with its input, with a code and a next step", async () => {
    const { url } = await database("CREATE TABLE orgs (a int, b int, PRIMARY KEY (a, b))");
    const cases: [string[], number, RegExp][] = [
      [["--database", url], 2, /required option '--root/],
      [["--database", url, "--root", "nothing"], 1, /OWNERSHIP_RULE_INVALID: there is no table nothing/],
      [
        ["--database", url, "--root", "orgs"],
        1,
        /OWNERSHIP_RULE_INVALID: public.orgs has no key of one column/,
      ],
      [
        ["--database", url.replace(encodeURIComponent(PASSWORD), "wrong"), "--root", "orgs"],
        1,
        /POSTGRES_AUTHENTICATION[\s\S]*next:/,
      ],
      [["--database", "postgresql://x@127.0.0.1:1/x", "--root", "orgs"], 1, /POSTGRES_UNREACHABLE/],
      [["--database", url, "--root", "orgs", "--sample", "many"], 1, /CONFIG_INVALID/],
    ];
    for (const [args, code, text] of cases) {
      const found = await cleave(...args);
      expect(found.code, args.join(" ")).toBe(code);
      expect(found.stderr).toMatch(text);
    }
  });
});
