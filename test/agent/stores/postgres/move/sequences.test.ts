/** Sequences of every kind give out keys that are another Pod's neither before a move nor after a split. */
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { overlappingSequences } from "../../../../../agent/stores/postgres/move/sequences.ts";
import { layOutNumbers, overlappingNumbers } from "../../../../../agent/stores/postgres/split/numbering.ts";
import type { MigrationId, PodId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import type { Duty } from "../../../../../protocol/ports/store.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";

const [HERE, THERE] = ["pod-0", "pod-1"] as [PodId, PodId];
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.orgs": { organization: "id" } },
});
const SCHEMA = "CREATE TABLE orgs (id bigint PRIMARY KEY)";
const duty = { sourcePodId: HERE, podId: THERE } as Duty;

let source: Cluster;
let target: Cluster;
let here: pg.Client;
let there: pg.Client;

beforeAll(async () => {
  [source, target] = await Promise.all([Cluster.start({ podId: HERE }), Cluster.start({ podId: THERE })]);
  [here, there] = await Promise.all([source.connect(), target.connect()]);
  for (const db of [here, there]) await db.query(SCHEMA);
  await installGuard(here, { ownership: RULES, defaultPodId: HERE, migrationId: "split-1" as MigrationId });
}, 60_000);
afterAll(async () => {
  await here?.end();
  await there?.end();
  await source?.remove();
  await target?.remove();
});
beforeEach(async () => {
  await here.query("DROP SCHEMA IF EXISTS t CASCADE; CREATE SCHEMA t; DELETE FROM cleave.numbering");
  await there.query("DROP SCHEMA IF EXISTS t CASCADE; CREATE SCHEMA t");
});

const INT4 = 2_147_483_647n;

async function lastOf(sequence: string): Promise<bigint> {
  await layOutNumbers(here, "split-1" as MigrationId, HERE, [THERE]);
  const { rows } = await here.query<{ last: string }>(
    "SELECT max(last)::text AS last FROM cleave.numbering WHERE sequence = $1",
    [sequence],
  );
  return BigInt(rows[0]?.last ?? -1);
}

describe("keys of a split's Pods fit", () => {
  it.each([
    [
      "an integer column that a bigint sequence fills",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id integer PRIMARY KEY DEFAULT nextval('t.s'))",
      INT4,
    ],
    ["one that owns it", "CREATE TABLE t.a (id integer); CREATE SEQUENCE t.s OWNED BY t.a.id", INT4],
    ["a smallint", "CREATE SEQUENCE t.s; CREATE TABLE t.a (id smallint DEFAULT nextval('t.s'))", 32_767n],
    [
      "a domain",
      "CREATE SEQUENCE t.s; CREATE DOMAIN t.d AS integer; CREATE DOMAIN t.e AS t.d; CREATE TABLE t.a (id t.e DEFAULT nextval('t.s'))",
      INT4,
    ],
    [
      "a numeric",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id numeric(9, 0) DEFAULT nextval('t.s'))",
      999_999_999n,
    ],
    [
      "the narrower of two columns",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id bigint DEFAULT nextval('t.s')); CREATE TABLE t.b (id integer DEFAULT nextval('t.s'))",
      INT4,
    ],
    [
      "a column that refers to it",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id bigint PRIMARY KEY DEFAULT nextval('t.s')); CREATE TABLE t.b (a_id bigint UNIQUE REFERENCES t.a); CREATE TABLE t.c (id integer REFERENCES t.b (a_id))",
      INT4,
    ],
    [
      "an expression",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id integer DEFAULT (nextval('t.s') + 1))",
      INT4,
    ],
    [
      "partitions",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id integer DEFAULT nextval('t.s')) PARTITION BY LIST (id); CREATE TABLE t.b PARTITION OF t.a DEFAULT",
      INT4,
    ],
    [
      "a bigint",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id bigint DEFAULT nextval('t.s'))",
      BigInt(Number.MAX_SAFE_INTEGER),
    ],
    [
      "a bigint far beyond the half of what JavaScript counts",
      "CREATE SEQUENCE t.s START 9000000000000000; CREATE TABLE t.a (id bigint DEFAULT nextval('t.s'))",
      BigInt(Number.MAX_SAFE_INTEGER),
    ],
  ])("%s", async (_, sql, highest) => {
    await here.query(sql);
    const last = await lastOf("t.s");
    expect(last).toBeLessThanOrEqual(highest);
    expect(last).toBeGreaterThan(highest - 3n);
  });

  it("and those that count in steps go on in them", async () => {
    await here.query(
      `CREATE SEQUENCE t.s INCREMENT 10 START 7 MAXVALUE 1000; SELECT nextval('t.s'); CREATE SEQUENCE t.new INCREMENT 3 START 2 MAXVALUE 100`,
    );
    await lastOf("t.s");
    const { rows } = await here.query(
      "SELECT sequence, pod_id, first, last FROM cleave.numbering WHERE sequence LIKE 't.%' ORDER BY 1, 2",
    );
    expect(rows).toEqual([
      { sequence: "t.new", pod_id: HERE, first: "2", last: "47" },
      { sequence: "t.new", pod_id: THERE, first: "50", last: "95" },
      { sequence: "t.s", pod_id: HERE, first: "17", last: "497" },
      { sequence: "t.s", pod_id: THERE, first: "507", last: "987" },
    ]);
  });

  it("and those that cannot be divided are named", async () => {
    await here.query(
      `CREATE SEQUENCE t.down INCREMENT -1; CREATE TABLE t.a (id bigint DEFAULT nextval('t.down'));
       CREATE SEQUENCE t.turn MAXVALUE 3 CYCLE; CREATE TABLE t.b (id bigint DEFAULT nextval('t.turn')); CREATE SEQUENCE t.alone CYCLE`,
    );
    expect(await overlappingNumbers(here, [HERE, THERE])).toEqual([
      expect.stringMatching(/^the sequence t\.down counts down, so it is not divided/),
      expect.stringMatching(/^the sequence t\.turn begins anew at its end, so/),
    ]);
  });

  it("and it is said when few are left", async () => {
    await here.query(
      `CREATE SEQUENCE t.s START 2147483000; CREATE TABLE t.a (id integer DEFAULT nextval('t.s'));
       CREATE SEQUENCE t.gone START 2147483647; CREATE TABLE t.b (id integer DEFAULT nextval('t.gone'));
       CREATE SEQUENCE t.much; CREATE TABLE t.c (id integer DEFAULT nextval('t.much'))`,
    );
    const said = await overlappingNumbers(here, [HERE, THERE]);
    expect(said).toEqual([
      expect.stringMatching(/^the sequence t\.gone has too few keys left/),
      expect.stringMatching(/^the sequence t\.s has 324 keys left for each of 2 Pods/),
    ]);
  });
});

describe("before a move", () => {
  const found = () => overlappingSequences(here, there, ["t.a", "t.b"], duty);
  it.each([
    [
      "that nobody owns",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id bigint DEFAULT nextval('t.s'))",
      /^t\.a\.id is given out by t\.s/,
    ],
    [
      "that two columns share",
      "CREATE TABLE t.x (id bigint); CREATE SEQUENCE t.s OWNED BY t.x.id; CREATE TABLE t.b (id bigint DEFAULT nextval('t.s'))",
      /^t\.b\.id/,
    ],
    [
      "that no column names",
      "CREATE TABLE t.a (id bigint); CREATE SEQUENCE t.s",
      /^what t\.s counts, which is the default of no column/,
    ],
    ["of an identity", "CREATE TABLE t.a (id bigint GENERATED ALWAYS AS IDENTITY)", /^t\.a\.id/],
    [
      "of an integer column",
      "CREATE SEQUENCE t.s; CREATE TABLE t.a (id integer DEFAULT nextval('t.s'))",
      /to 2147483647 on pod-0/,
    ],
  ])("sequences are found %s, and kept apart by what is said", async (_, sql, message) => {
    for (const db of [here, there]) await db.query(sql);
    const [said, ...more] = await found();
    expect(said).toMatch(message);
    expect(more).toEqual([]);
    const [, ours, theirs] = /: on pod-0 (.*); on pod-1 (.*)$/.exec(said ?? "") as unknown as [
      string,
      string,
      string,
    ];
    await here.query(ours);
    await there.query(theirs);
    expect(await found()).toEqual([]);
    const highest = BigInt(/RESTART WITH (\d+)/.exec(theirs)?.[1] as string);
    expect(highest).toBeLessThan(BigInt(Number.MAX_SAFE_INTEGER));
    if (sql.includes("integer")) expect(highest).toBeLessThan(INT4);
  });

  it("those of other tables, and those that begin anew, are nobody's business", async () => {
    for (const db of [here, there])
      await db.query(
        "CREATE TABLE t.other (id bigint GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE t.turn MAXVALUE 3 CYCLE",
      );
    expect(await found()).toEqual([]);
  });
});
