/** What two Pods may differ in although their tables have the same columns of the same types, and what nothing checks of applied rows. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.things": { organization: "org_id" } },
});

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
});

async function schema(source: string, target = source): Promise<void> {
  for (const [cluster, things] of [
    [pods.source, source],
    [pods.target, target],
  ] as const)
    await cluster.query(
      `DROP SCHEMA public CASCADE; CREATE SCHEMA public; SET search_path = public; CREATE TABLE orgs (id bigint PRIMARY KEY); ${things}`,
    );
  await pods.source.query("INSERT INTO public.orgs SELECT generate_series(1, 3)");
}

describe("the same names, and something else", () => {
  it.each<readonly [string, string, string, RegExp]>([
    [
      "attributes in another order",
      "CREATE TYPE pair AS (a text, b text); CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, p pair)",
      "CREATE TYPE pair AS (b text, a text); CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, p pair)",
      /things\.p is public\.pair \(a text, b text\), and public\.pair \(b text, a text\) on the target/,
    ],
    [
      "attributes in another order, in a domain over an array of a type of types",
      `CREATE TYPE "p.air" AS (a text, b text); CREATE TYPE more AS (p "p.air"); CREATE DOMAIN many AS more[]; CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, p many)`,
      `CREATE TYPE "p.air" AS (b text, a text); CREATE TYPE more AS (p "p.air"); CREATE DOMAIN many AS more[]; CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, p many)`,
      /things\.p is .*\(b text, a text\)\).* on the target/,
    ],
    [
      "an expression",
      "CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (size * 2) STORED)",
      "CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (size * 3) STORED)",
      /things\.twice is generated as \(size \* 2\), and \(size \* 3\) on the target/,
    ],
    [
      "no generated column",
      "CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (size * 2) STORED)",
      "CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int)",
      /things\.twice is not on the target/,
    ],
  ])("%s", async (_, source, target, message) => {
    await schema(source, target);
    const found = (await pods.preflight(TO)).find(({ code }) => code === "SCHEMA_DIFFERS");
    expect(found?.message).toMatch(message);
  });

  it("is no difference where it is the same", async () => {
    await schema(
      `CREATE TYPE pair AS (a text, b numeric(5, 2)); CREATE DOMAIN many AS pair[]; CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, p many, size int, twice int GENERATED ALWAYS AS (size * 2) STORED)`,
    );
    expect(await pods.preflight(TO)).toEqual([]);
  });
});

describe("a generated column whose function computes something else", () => {
  const twice = (factor: number) =>
    `CREATE OR REPLACE FUNCTION public.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * ${factor}'`;
  const things = (factor: number) =>
    `${twice(factor)}; CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, size int, twice int GENERATED ALWAYS AS (public.twice(size)) STORED)`;
  const FILL = "INSERT INTO public.things SELECT g, 1 + g % 3, g FROM generate_series(1, 30) g";
  const ROWS = "SELECT * FROM public.things WHERE org_id = 2 ORDER BY id";

  const differs = () =>
    eventually(() => {
      const { verified, problems } = pods.status(TO);
      expect(verified).toBe(false);
      expect(problems[0]).toMatchObject({
        code: "MISMATCH",
        message: expect.stringContaining("has other generated values (twice) on the target"),
      });
    });

  it("on the target from the beginning is found, and gone when it is put right", async () => {
    await schema(things(2), things(3));
    await pods.source.query(FILL);
    await Promise.all([pods.reach(FROM, "prepare"), pods.reach(TO, "seed")]);
    await Promise.all([pods.reach(FROM, "serve"), pods.reach(TO, "follow")]);
    await differs();
    await pods.target.query(twice(2));
    await pods.source.query("UPDATE public.things SET size = size");
    const { epoch, evidence } = await pods.fenceWhenCompared(number * 10);
    expect(evidence.target).toBe(evidence.source);
    expect(await pods.target.query(ROWS)).toEqual(await pods.source.query(ROWS));
    await Promise.all([pods.reach(FROM, "serve", { epoch }), pods.reach(TO, "follow", { epoch })]);
  });

  it("since it was replaced on the source is found with the next row that is written", async () => {
    await schema(things(2));
    await pods.source.query(FILL);
    await pods.follow();
    await pods.source.query(twice(3));
    await pods.source.query("UPDATE public.things SET size = size + 1 WHERE id < 9");
    await differs();
  });

  it("on the source since rows were written is found by preflight", async () => {
    await schema(things(2));
    await pods.source.query(`${FILL}; ${twice(3)}`);
    expect(await pods.preflight(TO)).toMatchObject([
      {
        severity: "error",
        code: "TARGET_REFUSES_ROWS",
        message: expect.stringMatching(/^rows of public\.things on the source have other values in .* twice/),
      },
    ]);
  });
});

describe("a constraint that is checked at the end of a transaction", () => {
  const constraints: readonly [string, string, string][] = [
    ["unique", "CONSTRAINT one UNIQUE (place) DEFERRABLE", "5"],
    [
      "unique, at first deferred",
      "CONSTRAINT one UNIQUE (org_name, place) DEFERRABLE INITIALLY DEFERRED",
      "5",
    ],
    [
      "exclusion",
      "CONSTRAINT one EXCLUDE USING btree (abs(place) WITH =) WHERE (place <> 0) DEFERRABLE",
      "-5",
    ],
  ];
  const things = (constraint: string) =>
    `CREATE TABLE things (id bigint PRIMARY KEY, org_id bigint, place int, org_name text DEFAULT 'x', ${constraint})`;

  it.each(constraints)(
    "%s: a value that a neighbour on the target has is found",
    async (_, constraint, place) => {
      await schema(things(constraint));
      await pods.target.query(
        "INSERT INTO public.orgs VALUES (9); INSERT INTO public.things VALUES (900, 9, 5)",
      );
      await pods.follow();
      await pods.source.query(`INSERT INTO public.things VALUES (1, 2, ${place})`);
      await eventually(() => {
        const problem = pods.status(TO).problems.find(({ code }) => code === "CHANGE_NOT_APPLICABLE");
        expect(problem?.message).toMatch(/public\.things with key \(1\) has a value of one that another row/);
      });
      await pods.source.query("UPDATE public.things SET place = 6 WHERE id = 1");
      await eventually(() => expect(pods.status(TO)).toMatchObject({ verified: true, problems: [] }));
    },
  );

  it("so is one of the last moment", async () => {
    await schema(things("CONSTRAINT one UNIQUE (place) DEFERRABLE"));
    await pods.target.query(
      "INSERT INTO public.orgs VALUES (9); INSERT INTO public.things VALUES (900, 9, 5)",
    );
    await pods.follow();
    await pods.reach(FROM, "serve");
    await pods.source.query("INSERT INTO public.things VALUES (1, 2, 5)");
    await expect(pods.fence(number * 10)).rejects.toMatchObject({
      code: "CHANGE_NOT_APPLICABLE",
      message: expect.stringContaining("has a value of one"),
    });
    await Promise.all([
      pods.reach(FROM, "serve", { epoch: number * 10 }),
      pods.reach(TO, "follow", { epoch: number * 10 }),
    ]);
  });

  it("values that are exchanged in one statement are no such rows", async () => {
    await schema(things("CONSTRAINT one UNIQUE (place) DEFERRABLE"));
    await pods.source.query("INSERT INTO public.things SELECT g, 2, g FROM generate_series(1, 20) g");
    await pods.follow();
    await pods.source.query("UPDATE public.things SET place = 21 - place");
    const { source, target } = await pods.fence(number * 10);
    expect(target).toBe(source);
  });
});
