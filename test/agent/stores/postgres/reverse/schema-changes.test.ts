/**
 * Changes of the schema on the way back of a move: the same statements as while a move follows, on the Pod that serves the
 * organization now, while its changes flow back and through a rollback. Each in a schema of its own, so that one move and
 * one rollback serve for all. What is compared shares nothing with the product: see support/postgres/schema-changes.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import {
  ATTACH,
  changes,
  DATA,
  RULES,
  rowsOf,
  SCHEMA,
  within,
} from "../../../../support/postgres/schema-changes.ts";

/** Projects of the organization that moves, since its Pod has no others, and keys that nobody has on the other Pod. */
const own = (sql: string) =>
  sql
    .replaceAll("1 + g % 9", "1 + 3 * (g % 3)")
    .replaceAll("generate_series(1, 200)", "generate_series(10001, 10200)");

interface Case {
  readonly schema: string;
  readonly statement: string;
  readonly there: string;
}

const casesOf = (prefix: string) =>
  changes.map(({ statement, there = statement, later = "" }, at): readonly [string, Case] => {
    const schema = `${prefix}${at}`;
    return [
      `${statement}${there === statement ? "" : ` there: ${there}`}`,
      { schema, statement: own(within(schema, `${statement}; ${later}`)), there: within(schema, there) },
    ];
  });
/** By day some of them; CLEAVE_STATEMENTS=all has every one, as for the night. */
const chosen = (cases: ReturnType<typeof casesOf>, each: number) =>
  process.env["CLEAVE_STATEMENTS"] === "all" ? cases : cases.filter((_, at) => at % each === 0);
const retaining = chosen(casesOf("retaining_"), 3);
const rollback = chosen(casesOf("rollback_"), 7);
/** For what is no row of the table. */
const REST = "rest";

const schemas = [...retaining, ...rollback].map(([, { schema }]) => schema).concat(REST);
const rules = Ownership.parse({
  ...RULES,
  tables: Object.fromEntries(
    schemas.flatMap((schema) =>
      Object.entries(RULES.tables).map(([table, rule]) => [
        within(schema, table),
        JSON.parse(within(schema, JSON.stringify(rule))),
      ]),
    ),
  ),
});

/** TRUNCATE empties a table of everybody, which is the default Pod's to allow. */
const isRefused = ({ statement }: Case) => statement.startsWith("TRUNCATE");

let pods: MovePods;
let last = 2;
const outcomes = new Map<string, unknown>();

/** All of them on the Pod that serves, and then on the other. */
async function deploy(cases: readonly (readonly [string, Case])[]): Promise<void> {
  for (const [, { schema, statement }] of cases)
    outcomes.set(schema, await pods.target.query(statement).catch((error: unknown) => error));
  for (const [, one] of cases) if (one.there !== "" && !isRefused(one)) await pods.source.query(one.there);
}

async function followed(one: Case): Promise<void> {
  if (isRefused(one)) expect(outcomes.get(one.schema)).toMatchObject({ code: "CL421" });
  else expect(outcomes.get(one.schema)).not.toBeInstanceOf(Error);
  await eventually(async () => {
    const [back, served] = [await rowsOf(pods.source, one.schema), await rowsOf(pods.target, one.schema)];
    if (JSON.stringify(back) !== JSON.stringify(served))
      throw new Error(`differs still: ${JSON.stringify(pods.status(FROM).reverseReplication)}`);
  }, 30_000);
}

/** Everything was compared, and nothing is on its way. */
const level = () =>
  eventually(() => {
    const way = pods.status(FROM).reverseReplication?.[TO];
    expect(way).toMatchObject({ verified: true, problem: null, lag: { amount: 0 } });
  }, 30_000);

beforeAll(async () => {
  const each = (sql: string) => schemas.map((schema) => within(schema, sql)).join(";\n");
  pods = await MovePods.start(
    `CREATE TABLE public.orgs (id bigint PRIMARY KEY, name text); ${schemas.map((schema) => `CREATE SCHEMA ${schema};`).join("")} ${each(SCHEMA)}`,
    rules,
    ["2"],
  );
  pods.reverseReplication = [TO];
  await pods.source.query(`INSERT INTO public.orgs VALUES (1), (2), (3); ${each(DATA)}`);
  await pods.follow();
  await pods.fence(1);
  await pods.transfer(1);
  // A Pod's own, which no move brings.
  await pods.target.query(each("INSERT INTO public.notes_new SELECT * FROM public.notes WHERE id > 20"));
});
afterAll(() => pods?.remove());

describe("while changes flow back", () => {
  beforeAll(() => deploy(retaining));

  it.each(retaining)("%s", (_, one) => followed(one));

  it("is level after it", level);

  it.each([
    [
      "ALTER TABLE rest.notes ADD COLUMN colour text DEFAULT 'red'",
      "SCHEMA_DIFFERS",
      /^rest\.notes\.colour is not on pod-0$/,
    ],
    ["ALTER TABLE rest.notes DROP COLUMN size", "SCHEMA_DIFFERS", /^rest\.notes\.size is on pod-0 alone$/],
    [
      "CREATE TABLE rest.events_3 PARTITION OF rest.events FOR VALUES FROM (3) TO (4); INSERT INTO rest.events VALUES (3001, 1, 3, 'new')",
      "CHANGE_NOT_APPLICABLE",
      /rest\.events: no partition/,
    ],
    ["CREATE TABLE rest.unheard_of (id int)", "OWNERSHIP_RULE_MISSING", /^rest\.unheard_of has no rule$/],
  ])("waits and says what is missing: %s", async (statement, code, message) => {
    await pods.target.query(statement);
    await eventually(() => {
      const problem = pods.status(FROM).reverseReplication?.[TO]?.problem;
      expect(problem).toMatchObject({ code });
      expect(problem?.message).toMatch(message);
    }, 10_000);
    if (code === "OWNERSHIP_RULE_MISSING") await pods.target.query("DROP TABLE rest.unheard_of");
    else await pods.source.query(statement.replace(/; .*/, ""));
    await pods.target.query(
      "INSERT INTO rest.notes (id, project_id) VALUES ((SELECT max(id) + 10000 FROM rest.notes), 1)",
    );
    await level();
    expect(await rowsOf(pods.source, REST)).toEqual(await rowsOf(pods.target, REST));
  });
});

describe("while a rollback follows", () => {
  beforeAll(async () => {
    await pods.followBack();
    await deploy(rollback);
  });

  it.each(rollback)("%s", (_, one) => followed(one));

  it.each([
    "ALTER TABLE rest.notes ADD COLUMN late text DEFAULT 'x'",
    "DROP TABLE rest.events_1",
    "ALTER TABLE rest.notes ALTER COLUMN body TYPE text USING upper(body)",
  ])("there is no fence before it was compared: %s", async (statement) => {
    await pods.comparedBack();
    await pods.target.query(statement);
    await expect(pods.reachBack(TO, "fence", { epoch: 2, phase: "fenced" })).rejects.toMatchObject({
      code: expect.stringMatching(/^(SCHEMA_CHANGED|CHECKS_OUTDATED)$/),
    });
    await pods.target.query("UPDATE rest.projects SET name = 'goes on' WHERE id = 1");
    await pods.source.query(statement);
    await eventually(async () =>
      expect(await rowsOf(pods.source, REST)).toEqual(await rowsOf(pods.target, REST)),
    );
  });

  it.each([
    "ALTER TABLE public.notes ADD COLUMN early text",
    "DROP TABLE public.events_2",
    "ALTER TABLE public.events DETACH PARTITION public.events_2 CONCURRENTLY",
    ATTACH,
  ])("under the fence it is refused, and leaves nothing: %s", async (statement) => {
    const schema = "retaining_0";
    const epoch = ++last;
    await pods.comparedBack();
    const evidence = await pods.fenceBack(epoch);
    const before = await rowsOf(pods.target, schema);
    await expect(pods.target.query(own(within(schema, statement)))).rejects.toMatchObject({ code: "CL503" });
    expect(await rowsOf(pods.target, schema)).toEqual(before);
    expect(evidence.target).toBe(evidence.source);
    await pods.lowerBack(epoch);
  });

  it("and everything is as it was on the Pod that served, once it is back", async () => {
    await pods.comparedBack();
    const evidence = await pods.fenceBack(50);
    expect(evidence.target).toBe(evidence.source);
    for (const schema of schemas)
      expect(await rowsOf(pods.source, schema), schema).toEqual(await rowsOf(pods.target, schema));
    await pods.transferBack(50);
    await pods.source.query("UPDATE rest.projects SET name = 'back' WHERE id = 1");
  });
});
