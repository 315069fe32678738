/** A small schema, what deployments do to it, and whole rows as PostgreSQL writes them: for tests of changes of the schema. */
import { Ownership } from "../../../protocol/ownership.ts";
import type { Cluster } from "./postgres.ts";

/** Organization 2 moves. */
export const SCHEMA = `
SET search_path = public;
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL, name text);
CREATE TABLE notes (id bigint PRIMARY KEY, project_id bigint, body text, size int DEFAULT 1);
CREATE TABLE events (id bigint, project_id bigint, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (2);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2) TO (3);
CREATE TABLE notes_new (LIKE notes INCLUDING ALL);
CREATE TABLE later (id bigint PRIMARY KEY, org_id bigint, body text);`;
export const DATA = `
SET search_path = public;
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 3) g;
INSERT INTO projects SELECT g, 1 + g % 3, 'project ' || g FROM generate_series(1, 9) g;
INSERT INTO notes SELECT g, 1 + g % 9, 'note ' || g FROM generate_series(1, 200) g;
INSERT INTO events SELECT g, 1 + g % 9, 1 + g % 2, 'event ' || g FROM generate_series(1, 200) g;
INSERT INTO notes_new SELECT * FROM notes WHERE id > 20;
INSERT INTO later SELECT g, 1 + g % 3, 'later ' || g FROM generate_series(1, 30) g;`;

export const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.notes": { parent: "public.projects", column: "project_id" },
    "public.events": { parent: "public.projects", column: "project_id" },
    "public.later": { organization: "org_id" },
    // There before the table is.
    "public.made": { organization: "org_id" },
    "public.made_lines": { parent: "public.made", column: "made_id" },
    "public.notes_new": { local: true },
  },
});

export interface Change {
  readonly statement: string;
  /** What is run on the target; default the same, "" for nothing. */
  readonly there?: string;
  /** Written after it on the source. */
  readonly later?: string;
}

export const EVENT_3 = "CREATE TABLE public.events_3 PARTITION OF public.events FOR VALUES FROM (3) TO (4)";
/** A table with rows becomes a partition. */
export const ATTACH = `CREATE TABLE public.old_events (LIKE public.events);
INSERT INTO public.old_events SELECT g, 1 + g % 9, 3, 'old ' || g FROM generate_series(1001, 1100) g;
ALTER TABLE public.events ATTACH PARTITION public.old_events FOR VALUES FROM (3) TO (4)`;
const SWAP =
  "ALTER TABLE public.notes RENAME TO notes_old; ALTER TABLE public.notes_new RENAME TO notes; ALTER TABLE public.notes_old RENAME TO notes_new";

const MAKE =
  "CREATE TABLE public.made (id bigint PRIMARY KEY, org_id bigint, body text); CREATE TABLE public.made_lines (id bigint PRIMARY KEY, made_id bigint)";

export const changes: readonly Change[] = [
  {
    statement: MAKE,
    later:
      "INSERT INTO public.made SELECT g, 2, 'made' FROM generate_series(1, 20) g; INSERT INTO public.made_lines SELECT g, g FROM generate_series(1, 20) g; UPDATE public.made SET body = 'again' WHERE id < 9",
  },
  {
    statement: "ALTER TABLE public.notes ADD COLUMN colour text DEFAULT 'red'",
    later: "UPDATE public.notes SET colour = 'blue' WHERE id % 2 = 0",
  },
  {
    statement: "ALTER TABLE public.notes ADD COLUMN colour text DEFAULT 'red'",
    there: "ALTER TABLE public.notes ADD COLUMN colour text DEFAULT 'green'",
  },
  { statement: "ALTER TABLE public.notes ADD COLUMN drawn float8 NOT NULL DEFAULT random()" },
  { statement: "ALTER TABLE public.notes ADD COLUMN given bigint GENERATED ALWAYS AS IDENTITY" },
  {
    statement: "ALTER TABLE public.notes DROP COLUMN size",
    later: "INSERT INTO public.notes VALUES (901, 1, 'short')",
  },
  {
    statement:
      "ALTER TABLE public.notes DROP COLUMN size; ALTER TABLE public.notes ADD COLUMN size int DEFAULT 7",
    later: "INSERT INTO public.notes VALUES (902, 1, 'again')",
  },
  {
    statement: "ALTER TABLE public.notes RENAME COLUMN body TO text",
    later: "UPDATE public.notes SET text = text || '!'",
  },
  { statement: "ALTER TABLE public.notes ALTER COLUMN body TYPE text USING upper(body)" },
  {
    statement: "ALTER TABLE public.notes ALTER COLUMN size TYPE bigint USING size * 1000",
    later: "UPDATE public.notes SET size = size + 5000000000 WHERE id < 50",
  },
  {
    statement: "ALTER TABLE public.notes ALTER COLUMN body TYPE int USING length(body)",
    later: "INSERT INTO public.notes VALUES (903, 1, 4)",
  },
  { statement: "ALTER TABLE public.projects ALTER COLUMN name TYPE varchar(40) USING reverse(name)" },
  // Notes of writers name rows by keys that no row can have any more.
  {
    statement:
      "UPDATE public.later SET body = 'before'; ALTER TABLE public.later ALTER COLUMN id TYPE uuid USING lpad(id::text, 32, '0')::uuid",
    there: "ALTER TABLE public.later ALTER COLUMN id TYPE uuid USING lpad(id::text, 32, '0')::uuid",
    later: "UPDATE public.later SET body = 'again' WHERE org_id = 2",
  },
  {
    statement:
      "ALTER TABLE public.later ADD COLUMN uid uuid NOT NULL DEFAULT gen_random_uuid(); UPDATE public.later SET body = 'before'; ALTER TABLE public.later DROP CONSTRAINT later_pkey; ALTER TABLE public.later ADD PRIMARY KEY (uid)",
    there:
      "ALTER TABLE public.later ADD COLUMN uid uuid NOT NULL DEFAULT gen_random_uuid(); ALTER TABLE public.later DROP CONSTRAINT later_pkey; ALTER TABLE public.later ADD PRIMARY KEY (uid)",
    later: "UPDATE public.later SET body = 'again' WHERE id < 15; DELETE FROM public.later WHERE id > 28",
  },
  {
    statement: "ALTER TABLE public.notes ALTER COLUMN size SET DEFAULT 9",
    later: "INSERT INTO public.notes (id, project_id) VALUES (904, 1)",
  },
  { statement: "CREATE INDEX on_body ON public.notes (body)" },
  { statement: "CREATE INDEX CONCURRENTLY on_body ON public.notes (body)", there: "" },
  {
    statement: "CREATE UNIQUE INDEX only_body ON public.notes (body); DROP INDEX public.only_body",
    there: "",
  },
  { statement: "ALTER TABLE public.notes ALTER COLUMN body SET NOT NULL", there: "" },
  {
    statement: EVENT_3,
    later: "INSERT INTO public.events SELECT g, 1 + g % 9, 3, 'new' FROM generate_series(2001, 2050) g",
  },
  {
    statement: ATTACH,
    there: EVENT_3,
    later:
      "UPDATE public.events SET body = body || '!' WHERE day = 3 AND id < 1050; DELETE FROM public.events WHERE id > 1090; INSERT INTO public.events VALUES (1200, 1, 3, 'one more')",
  },
  {
    statement: `CREATE TABLE public.whole (LIKE public.events INCLUDING ALL); INSERT INTO public.whole SELECT id + 5000, project_id, 4, body FROM public.events; ALTER TABLE public.events ATTACH PARTITION public.whole FOR VALUES FROM (4) TO (5)`,
    there: "CREATE TABLE public.events_4 PARTITION OF public.events FOR VALUES FROM (4) TO (5)",
  },
  { statement: "ALTER TABLE public.events DETACH PARTITION public.events_1; DROP TABLE public.events_1" },
  {
    statement: "ALTER TABLE public.events DETACH PARTITION public.events_1; DROP TABLE public.events_1",
    there: "",
  },
  { statement: "DROP TABLE public.events_1", there: "" },
  {
    statement: `DROP TABLE public.events_1; CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (1) TO (2); INSERT INTO public.events SELECT g, 1 + g % 9, 1 + g % 2, 'anew' FROM generate_series(1, 200) g WHERE g % 2 = 0`,
    there: "",
  },
  {
    statement: "TRUNCATE public.events_1",
    there: "",
    later: "INSERT INTO public.events SELECT g, 1 + g % 9, 1, 'anew' FROM generate_series(2, 100, 2) g",
  },
  {
    statement: "TRUNCATE public.events",
    there: "",
    later: "INSERT INTO public.events SELECT g, 1 + g % 9, 1, 'anew' FROM generate_series(2, 100, 2) g",
  },
  {
    statement: "TRUNCATE public.notes",
    there: "",
    later: "INSERT INTO public.notes SELECT g, 1 + g % 9, 'anew' FROM generate_series(1, 20) g",
  },
  {
    statement: "TRUNCATE public.notes, public.projects",
    there: "",
    later:
      "INSERT INTO public.projects SELECT g, 2, 'p' FROM generate_series(1, 9) g; INSERT INTO public.notes SELECT g, 1 + g % 9, 'anew' FROM generate_series(1, 20) g",
  },
  {
    statement: SWAP,
    later:
      "INSERT INTO public.notes VALUES (905, 1, 'after'); UPDATE public.notes SET body = 'swapped' WHERE id = 28",
  },
  {
    statement: SWAP,
    there: "",
    later:
      "INSERT INTO public.notes VALUES (905, 1, 'after'); UPDATE public.notes SET body = 'swapped' WHERE id = 28",
  },
  {
    statement:
      "ALTER TABLE public.later RENAME TO gone; CREATE TABLE public.later (LIKE public.gone INCLUDING ALL); INSERT INTO public.later SELECT id + 100, org_id, body FROM public.gone; DROP TABLE public.gone",
    there: "",
  },
  {
    statement: "CREATE TABLE public.staging AS SELECT * FROM public.notes; DROP TABLE public.staging",
    there: "",
  },
  {
    statement:
      "ALTER TABLE public.notes DISABLE TRIGGER ALL; UPDATE public.notes SET body = 'unseen'; ALTER TABLE public.notes ENABLE TRIGGER ALL",
    there: "",
  },
];

const OURS: Readonly<Record<string, string>> = {
  orgs: "id = 2",
  projects: "org_id = 2",
  notes: "project_id IN (SELECT id FROM public.projects WHERE org_id = 2)",
  events: "project_id IN (SELECT id FROM public.projects WHERE org_id = 2)",
  later: "org_id = 2",
  made: "org_id = 2",
  made_lines: "made_id IN (SELECT id FROM public.made WHERE org_id = 2)",
};

/** The same in another schema, without the organizations, of which there is one table. */
export const within = (schema: string, sql: string): string =>
  sql.replaceAll("public", schema).replace(/^.*\borgs\b.*\n/m, "");

/** Whole rows of the organization; columns by name, for Pods may have them in different orders. */
export async function rowsOf(cluster: Cluster, schema = "public"): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const [table, condition] of Object.entries(OURS)) {
    if (table === "orgs" && schema !== "public") continue;
    const [known] = await cluster.query("SELECT to_regclass($1) AS oid", [`${schema}.${table}`]);
    if (known?.["oid"] === null) continue;
    const rows = await cluster.query(
      `SELECT (SELECT string_agg(key || '=' || COALESCE(value, 'null'), ',' ORDER BY key) FROM jsonb_each_text(to_jsonb(r))) AS row
         FROM ${schema}.${table} r WHERE ${within(schema, condition)} ORDER BY 1`,
    );
    found[table] = rows.map((row) => String(row["row"]));
  }
  return found;
}
