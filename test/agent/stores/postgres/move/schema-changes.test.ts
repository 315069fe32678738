/**
 * Changes of the schema while a move follows, each as one statement of a deployment: either the organization arrives as it
 * is on the source, or there is no fence and the reason is said. What is compared shares nothing with the product: whole
 * rows as PostgreSQL writes them, of both servers.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ErrorCode } from "../../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { Ownership, type TableRule } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import {
  ATTACH,
  changes,
  DATA,
  EVENT_3,
  RULES,
  rowsOf,
  SCHEMA,
} from "../../../../support/postgres/schema-changes.ts";

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

/** By an operator who is late, or in the wrong place. */
describe("on the target alone", () => {
  const statements = [
    "ALTER TABLE public.notes ALTER COLUMN body TYPE text USING upper(body)",
    "ALTER TABLE public.notes DROP COLUMN size; ALTER TABLE public.notes ADD COLUMN size int DEFAULT 7",
    "DROP TABLE public.events_1; CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (1) TO (2)",
    "CREATE TABLE public.copy (LIKE public.notes INCLUDING ALL); INSERT INTO public.copy SELECT * FROM public.notes WHERE id > 100; DROP TABLE public.notes; ALTER TABLE public.copy RENAME TO notes",
    "CREATE RULE nothing AS ON INSERT TO public.later DO INSTEAD NOTHING; DROP RULE nothing ON public.later; ALTER TABLE public.later ALTER COLUMN body TYPE text USING 'new'",
  ];

  it.each(statements)("%s: is put right before a fence", async (statement) => {
    await pods.target.query(statement);
    const { epoch, evidence } = await pods.fenceWhenCompared(number * 10);
    expect(evidence.target).toBe(evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
  });

  it.each(statements)("%s: is no evidence when a fence comes first", async (statement) => {
    const epoch = number * 10;
    await pods.target.query(statement);
    const fenced = await pods.fence(epoch).catch((error: unknown) => error);
    if (fenced instanceof Error) expect(fenced).toMatchObject({ code: "SCHEMA_CHANGED" });
    // Compared and put right already, by a machine that was quicker.
    else expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
    const later = await pods.fenceWhenCompared(epoch + 1);
    expect(later.evidence.target).toBe(later.evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
  });
});

describe("what of one table cannot be put right", () => {
  it("keeps no other table waiting, and is said", async () => {
    await pods.target.query(
      "ALTER TABLE public.later ALTER COLUMN body TYPE text USING upper(body), ADD CONSTRAINT loud CHECK (body <> 'later 4'); ALTER TABLE public.notes ALTER COLUMN body TYPE text USING upper(body)",
    );
    await eventually(async () => {
      expect((await rowsOf(pods.target))["notes"]).toEqual((await rowsOf(pods.source))["notes"]);
      expect(JSON.stringify(pods.status(TO).problems)).toMatch(/copying rows of public\.later: .*loud/);
    });
    await pods.target.query("ALTER TABLE public.later DROP CONSTRAINT loud");
    const { epoch, evidence } = await pods.fenceWhenCompared(number * 10);
    expect(evidence.target).toBe(evidence.source);
    expect(await rowsOf(pods.target)).toEqual(await rowsOf(pods.source));
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
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
      "DROP TABLE public.later",
      "DROP TABLE public.later",
      "SCHEMA_DIFFERS",
      /public\.later is on the target alone/,
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
    // The refused fence is lowered, and the source's agent makes its guard as the rules are now.
    const epoch = number * 10;
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
    const { evidence } = await pods.fenceWhenCompared(epoch + 1);
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
      "ALTER TABLE public.notes INHERIT public.notes_new",
      "ALTER TABLE public.notes NO INHERIT public.notes_new",
      "SCHEMA_DIFFERS",
      /public\.notes has a rule, and inherits from public\.notes_new/,
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

/** What keeps rows from being copied keeps nobody from giving the move up. */
describe("a move is given up although", () => {
  it.each([
    "ALTER TABLE public.notes DROP CONSTRAINT notes_pkey",
    "ALTER TABLE public.notes INHERIT public.notes_new",
    "CREATE TABLE public.heir () INHERITS (public.later)",
    "CREATE TABLE public.unheard_of (id int)",
  ])("%s", async (statement) => {
    const { later, ...before } = await rowsOf(pods.source);
    for (const cluster of [pods.source, pods.target]) await cluster.query(statement);
    await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
    expect(Object.values(await rowsOf(pods.target)).flat()).toEqual([]);
    expect(await rowsOf(pods.source)).toMatchObject({ later, ...before });
    expect(await pods.target.query("SELECT FROM pg_namespace WHERE nspname = 'cleave'")).toEqual([]);
  });
});

describe("a column that says whose rows are", () => {
  it.each<readonly [string, string, Record<string, TableRule>]>([
    [
      "ALTER TABLE public.projects RENAME COLUMN org_id TO organization",
      "public.projects has no column org_id",
      { "public.projects": { organization: "organization" } },
    ],
    [
      "ALTER TABLE public.projects RENAME COLUMN id TO project",
      "the rule of public.notes names public.projects.id, which does not exist",
      {
        "public.notes": { parent: "public.projects", column: "project_id", parentKey: "project" },
        "public.events": { parent: "public.projects", column: "project_id", parentKey: "project" },
      },
    ],
  ])("%s: writes go on, and so does the move once the rules say so", async (statement, says, changed) => {
    const before = pods.ownership;
    try {
      await pods.source.query(statement);
      await pods.source.query(
        "UPDATE public.projects SET name = 'renamed'; INSERT INTO public.notes VALUES (911, 1, 'later'); UPDATE public.events SET body = 'x' WHERE id < 9",
      );
      await eventually(() => {
        const problem = pods.status(TO).problems.find(({ code }) => code === "OWNERSHIP_RULE_INVALID");
        expect(problem?.message, JSON.stringify(pods.status(TO).problems)).toContain(says);
      });
      await expect(pods.reach(FROM, "fence", { epoch: number * 10, phase: "fenced" })).rejects.toMatchObject({
        code: expect.stringMatching(/^(SCHEMA_CHANGED|CHECKS_OUTDATED)$/),
      });
      await pods.target.query(statement);
      pods.ownership = Ownership.parse({ ...before, tables: { ...before.tables, ...changed } });
      for (const podId of [FROM, TO]) await pods.restart(podId);
      await Promise.all([
        pods.reach(FROM, "serve", { epoch: number * 10 }),
        pods.reach(TO, "follow", { epoch: number * 10 }),
      ]);
      const { epoch, evidence } = await pods.fenceWhenCompared(number * 10 + 1);
      expect(evidence.target).toBe(evidence.source);
      for (const table of ["projects", "notes", "events"]) {
        const rows = `SELECT to_jsonb(r)::text AS row FROM public.${table} r WHERE ${table === "projects" ? "name <> ''" : "project_id IN (1, 4, 7)"}`;
        const ofTheirs = `SELECT count(*)::int AS n, md5(string_agg(row, ',' ORDER BY row)) AS sum FROM (${rows}${
          statement.includes("organization") && table === "projects"
            ? " AND organization = 2"
            : table === "projects"
              ? " AND org_id = 2"
              : ""
        }) AS theirs`;
        expect(await pods.target.query(ofTheirs)).toEqual(await pods.source.query(ofTheirs));
      }
      await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
      await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
    } finally {
      pods.ownership = before;
      for (const podId of [FROM, TO]) await pods.restart(podId);
    }
  });
});
