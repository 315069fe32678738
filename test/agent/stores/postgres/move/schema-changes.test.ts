/**
 * Changes of the schema while a move follows, each as one statement of a deployment: either the organization arrives as it
 * is on the source, or there is no fence and the reason is said. What is compared shares nothing with the product: whole
 * rows as PostgreSQL writes them, of both servers.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ErrorCode } from "../../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

/** Organization 2 moves. */
const SCHEMA = `
SET search_path = public;
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL, name text);
CREATE TABLE notes (id bigint PRIMARY KEY, project_id bigint, body text, size int DEFAULT 1);
CREATE TABLE events (id bigint, project_id bigint, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (2);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2) TO (3);
CREATE TABLE notes_new (LIKE notes INCLUDING ALL);
CREATE TABLE later (id bigint PRIMARY KEY, org_id bigint, body text);`;
const DATA = `
SET search_path = public;
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 3) g;
INSERT INTO projects SELECT g, 1 + g % 3, 'project ' || g FROM generate_series(1, 9) g;
INSERT INTO notes SELECT g, 1 + g % 9, 'note ' || g FROM generate_series(1, 200) g;
INSERT INTO events SELECT g, 1 + g % 9, 1 + g % 2, 'event ' || g FROM generate_series(1, 200) g;
INSERT INTO notes_new SELECT * FROM notes WHERE id > 20;
INSERT INTO later SELECT g, 1 + g % 3, 'later ' || g FROM generate_series(1, 30) g;`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.notes": { parent: "public.projects", column: "project_id" },
    "public.events": { parent: "public.projects", column: "project_id" },
    "public.later": { organization: "org_id" },
    "public.notes_new": { local: true },
  },
});

interface Row {
  readonly statement: string;
  /** What is run on the target; default the same, "" for nothing. */
  readonly there?: string;
  /** Written after it on the source. */
  readonly later?: string;
}

const EVENT_3 = "CREATE TABLE public.events_3 PARTITION OF public.events FOR VALUES FROM (3) TO (4)";
/** A table with rows becomes a partition. */
const ATTACH = `CREATE TABLE public.old_events (LIKE public.events);
INSERT INTO public.old_events SELECT g, 1 + g % 9, 3, 'old ' || g FROM generate_series(1001, 1100) g;
ALTER TABLE public.events ATTACH PARTITION public.old_events FOR VALUES FROM (3) TO (4)`;
const SWAP =
  "ALTER TABLE public.notes RENAME TO notes_old; ALTER TABLE public.notes_new RENAME TO notes; ALTER TABLE public.notes_old RENAME TO notes_new";

const changes: readonly Row[] = [
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

const named = changes.map(
  (change) =>
    [`${change.statement}${change.there === undefined ? "" : ` there: ${change.there}`}`, change] as const,
);

let pods: MovePods;
let number = 0;

beforeAll(async () => {
  pods = await MovePods.start("", RULES, ["2"]);
});
afterAll(() => pods?.remove());
beforeEach(async () => {
  if (number > 0) {
    await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
    for (const podId of [FROM, TO]) await pods.restart(podId);
  }
  number += 1;
  pods.migrationId = `move-${number}` as MigrationId;
  for (const cluster of [pods.source, pods.target])
    await cluster.query(`DROP SCHEMA public CASCADE; CREATE SCHEMA public; ${SCHEMA}`);
  await pods.source.query(DATA);
  await pods.follow();
});

const OURS: Readonly<Record<string, string>> = {
  orgs: "id = 2",
  projects: "org_id = 2",
  notes: "project_id IN (SELECT id FROM public.projects WHERE org_id = 2)",
  events: "project_id IN (SELECT id FROM public.projects WHERE org_id = 2)",
  later: "org_id = 2",
};

/** Whole rows of the organization; columns by name, for Pods may have them in different orders. */
async function rowsOf(cluster: MovePods["source"]): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const [table, condition] of Object.entries(OURS)) {
    const rows = await cluster.query(
      `SELECT (SELECT string_agg(key || '=' || COALESCE(value, 'null'), ',' ORDER BY key) FROM jsonb_each_text(to_jsonb(r))) AS row
         FROM public.${table} r WHERE ${condition} ORDER BY 1`,
    );
    found[table] = rows.map((row) => String(row["row"]));
  }
  return found;
}

describe("while the move follows", () => {
  it.each(named)("%s", async (_, { statement, there = statement, later }) => {
    await pods.source.query(statement);
    if (later !== undefined) await pods.source.query(later);
    if (there !== "") await pods.target.query(there);
    await pods.source.query("UPDATE public.projects SET name = 'last' WHERE id = 1");
    const { epoch, evidence } = await pods.fenceWhenCompared(number * 10);
    expect(evidence.target).toBe(evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
  });
});

describe("between the check and the fence", () => {
  it.each(named)("%s", async (_, { statement, later }) => {
    const epoch = number * 10;
    await pods.source.query(statement);
    if (later !== undefined) await pods.source.query(later);
    const refusal = await pods
      .reach(FROM, "fence", { epoch, phase: "fenced" })
      .catch((error: unknown) => error);
    if (refusal === undefined) {
      // It was compared already.
      await pods.reach(TO, "match", { epoch, phase: "fenced" });
      expect(pods.status(TO).evidence?.digest).toBe(pods.status(FROM).evidence?.digest);
      expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
      return;
    }
    // By the rows that were not compared, or by the check that saw another schema.
    expect(refusal).toMatchObject({ code: expect.stringMatching(/^(SCHEMA_CHANGED|CHECKS_OUTDATED)$/) });
    // Nobody was refused for it.
    await pods.source.query("UPDATE public.projects SET name = 'goes on' WHERE id = 1");
  });
});

describe("under the fence", () => {
  it.each([
    "ALTER TABLE public.notes ADD COLUMN colour text",
    "ALTER TABLE public.notes RENAME TO notes_old",
    "ALTER TABLE public.notes DISABLE TRIGGER ALL",
    "ALTER TABLE public.events DETACH PARTITION public.events_1 CONCURRENTLY",
    "ALTER TABLE public.events DETACH PARTITION public.events_1",
    "DROP TABLE public.events_1",
    "TRUNCATE public.events_1",
    ATTACH,
  ])("%s is refused, and leaves nothing", async (statement) => {
    const epoch = number * 10;
    const before = await rowsOf(pods.source);
    const evidence = await pods.fence(epoch);
    await expect(pods.source.query(statement)).rejects.toMatchObject({ code: "CL503" });
    expect(await rowsOf(pods.source)).toEqual(before);
    expect(evidence.target).toBe(evidence.source);
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
  });
});

describe("what the target lacks is named", () => {
  it.each<readonly [string, string, ErrorCode, RegExp]>([
    [
      "ALTER TABLE public.notes ADD COLUMN colour text",
      "ALTER TABLE public.notes ADD COLUMN colour text",
      "SCHEMA_DIFFERS",
      /public\.notes\.colour is not on the target/,
    ],
    [
      "ALTER TABLE public.notes DROP COLUMN size",
      "ALTER TABLE public.notes DROP COLUMN size",
      "SCHEMA_DIFFERS",
      /public\.notes\.size is on the target alone/,
    ],
    [
      "ALTER TABLE public.notes ALTER COLUMN size TYPE bigint",
      "ALTER TABLE public.notes ALTER COLUMN size TYPE bigint",
      "SCHEMA_DIFFERS",
      /public\.notes\.size is bigint, and integer on the target/,
    ],
    [
      `${EVENT_3}; INSERT INTO public.events VALUES (3001, 1, 3, 'new')`,
      EVENT_3,
      "CHANGE_NOT_APPLICABLE",
      /public\.events: no partition/,
    ],
  ])("%s", async (statement, there, code, message) => {
    await pods.source.query(statement);
    await eventually(() => {
      const problem = pods.status(TO).problems.find((one) => one.code === code);
      expect(problem?.message, JSON.stringify(pods.status(TO).problems)).toMatch(message);
    });
    // As long as it takes, and after a restart too.
    await pods.restart(TO);
    await expect(pods.reach(FROM, "fence", { epoch: number * 10, phase: "fenced" })).rejects.toMatchObject({
      code: expect.stringMatching(/^(SCHEMA_CHANGED|CHECKS_OUTDATED)$/),
    });
    await pods.target.query(there);
    await pods.reach(TO, "follow");
    await pods.compared();
    const evidence = await pods.fence(number * 10);
    expect(evidence.target).toBe(evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
  });
});

describe("what the rules do not know", () => {
  it.each<readonly [string, string, ErrorCode, RegExp]>([
    [
      "CREATE TABLE public.unheard_of (id int)",
      "DROP TABLE public.unheard_of",
      "OWNERSHIP_RULE_MISSING",
      /public\.unheard_of has no rule/,
    ],
    [
      "ALTER TABLE public.events DETACH PARTITION public.events_1 CONCURRENTLY",
      "DROP TABLE public.events_1",
      "OWNERSHIP_RULE_MISSING",
      /public\.events_1 has no rule/,
    ],
    [
      "DROP TABLE public.later",
      "CREATE TABLE public.later (id bigint PRIMARY KEY, org_id bigint, body text)",
      "OWNERSHIP_RULE_INVALID",
      /there is no table public\.later/,
    ],
  ])("%s ends in no fence, until it is settled", async (statement, remedy, code, message) => {
    await pods.source.query(statement);
    await eventually(() => {
      const problem = pods.status(TO).problems.find((one) => one.code === code);
      expect(problem?.message, JSON.stringify(pods.status(TO).problems)).toMatch(message);
    });
    await expect(pods.reach(FROM, "fence", { epoch: number * 10, phase: "fenced" })).rejects.toMatchObject({
      code: expect.stringMatching(/^(SCHEMA_CHANGED|CHECKS_OUTDATED)$/),
    });
    await pods.source.query("UPDATE public.projects SET name = 'goes on' WHERE id = 1");
    await pods.source.query(remedy);
    await pods.reach(FROM, "serve", { epoch: number * 10 });
    await pods.compared();
    const evidence = await pods.fence(number * 10 + 1);
    expect(evidence.target).toBe(evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
  });
});
