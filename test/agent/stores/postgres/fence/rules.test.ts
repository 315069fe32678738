/** Whose is this row, and which Pod may write it: the rules file inside PostgreSQL. */
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { ownerExpression } from "../../../../../agent/stores/postgres/fence/owner-sql.ts";
import { lowerFence, raiseFence } from "../../../../../agent/stores/postgres/fence/raise.ts";
import { stageRoutes } from "../../../../../agent/stores/postgres/fence/staging.ts";
import type { MigrationId, OrganizationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  guardAndStage,
  HOSTILE_ORGANIZATION,
  HOSTILE_TABLE,
  lendFrom,
  outcome,
  POD_0,
  POD_1,
  POD_2,
  RULES,
  SPLIT,
  startPod,
  writer,
} from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let db: pg.Client;
let client: pg.Client;
let number = 0;

beforeAll(async () => {
  cluster = await startPod();
  await guardAndStage(cluster);
  db = await cluster.connect();
});
afterAll(async () => {
  await db?.end();
  await cluster?.remove();
});
beforeEach(async () => {
  await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: null });
  client = await writer(cluster);
  await client.query("BEGIN");
});
afterEach(async () => {
  await client.query("ROLLBACK");
  await client.end();
});

const nextEpoch = () => {
  number += 1;
  return epoch(number);
};
const fence = () =>
  raiseFence(db, lendFrom(cluster), {
    migrationId: SPLIT,
    epoch: nextEpoch(),
    targetPodIds: [POD_1, POD_2],
    graceMs: 500,
  });

/** Each in a savepoint, so that one refusal does not hide the next. */
async function attempt(sql: string, values: unknown[] = []): Promise<string> {
  await client.query("SAVEPOINT s");
  const result = await outcome(client.query(sql, values));
  await client.query("ROLLBACK TO s");
  return result;
}

describe("owners", () => {
  it.each([
    ["by column", "UPDATE projects SET name = 'x' WHERE organization_id = $1", "moving", "neighbour"],
    ["by parent", "INSERT INTO issues (project_id, title) VALUES ($1, 'x')", 1, 2],
    ["by parent of parent", "INSERT INTO comments (issue_id) VALUES ($1)", 1, 2],
    ["by a polymorphic pair", "INSERT INTO notes (noteable_type, noteable_id) VALUES ('Issue', $1)", 1, 2],
    [
      "by the other parent of the pair",
      "INSERT INTO notes (noteable_type, noteable_id) VALUES ('Project', $1)",
      1,
      2,
    ],
    ["through a partition", "UPDATE builds SET state = 'x' WHERE project_id = $1", 1, 2],
    ["by a composite key", "INSERT INTO artifacts VALUES (100, 1, $1)", 1, 2],
    ["of the root itself", "UPDATE organizations SET name = 'x' WHERE id = $1", "moving", "neighbour"],
  ])("are found %s", async (_, sql, fenced, free) => {
    expect(await attempt(sql, [fenced])).toBe("ok");
    await client.query("ROLLBACK");
    await fence();
    await client.query("BEGIN");
    expect(await attempt(sql, [fenced])).toBe("CL503");
    expect(await attempt(sql, [free])).toBe("ok");
  });

  it("with hostile names of table, column and organization", async () => {
    const table = pg.escapeIdentifier(HOSTILE_TABLE);
    const insert = `INSERT INTO ${table} VALUES ($1, $2)`;
    expect(await attempt(insert, [1, HOSTILE_ORGANIZATION])).toBe("ok");
    await client.query("ROLLBACK");
    await fence();
    await client.query("BEGIN");
    await client.query("SAVEPOINT s");
    await expect(client.query(insert, [1, HOSTILE_ORGANIZATION])).rejects.toMatchObject({
      code: "CL503",
      message: `organization ${HOSTILE_ORGANIZATION} is read-only for a moment`,
    });
    await client.query("ROLLBACK TO s");
    expect(await attempt(insert, [1, "neighbour"])).toBe("ok");
    expect(await attempt(insert, [1, "x'; not assigned"])).toBe("ok");
    expect(await attempt(`TRUNCATE ${table}`)).not.toBe("ok");
  });

  it("moving between organizations need both to be writable", async () => {
    await fence();
    expect(await attempt("UPDATE projects SET organization_id = 'moving' WHERE id = 2")).toBe("CL503");
    expect(await attempt("UPDATE projects SET organization_id = 'neighbour' WHERE id = 1")).toBe("CL503");
    expect(await attempt("UPDATE projects SET organization_id = 'other' WHERE id = 2")).toBe("ok");
    expect(await attempt("UPDATE issues SET project_id = 1 WHERE id = 2")).toBe("CL503");
    expect(await attempt("UPDATE issues SET project_id = 4 WHERE id = 2")).toBe("ok");
  });

  it.each(["READ COMMITTED", "REPEATABLE READ"])(
    "that changed with a parent make the fence wait for a %s writer that may have seen the former one",
    async (level) => {
      await cluster.query(
        "INSERT INTO projects VALUES (50, 'neighbour') ON CONFLICT (id) DO UPDATE SET organization_id = 'neighbour'",
      );
      const late = await writer(cluster);
      await late.query(`BEGIN ISOLATION LEVEL ${level}`);
      if (level === "READ COMMITTED") await late.query("INSERT INTO builds VALUES (500, 1, 50)");
      else await late.query("SELECT count(*) FROM projects");
      await cluster.query("UPDATE projects SET organization_id = 'moving' WHERE id = 50");
      await expect(fence()).rejects.toMatchObject({
        code: "DRAIN_INCOMPLETE",
        message: expect.stringMatching(/application writer/),
      });
      expect(await outcome(late.query("INSERT INTO builds VALUES (501, 1, 50)"))).toBe("ok");
      await late.query("ROLLBACK");
      await late.end();
      await client.query("ROLLBACK");
      await fence();
      await client.query("BEGIN");
      expect(await attempt("INSERT INTO builds VALUES (502, 1, 50)")).toBe("CL503");
    },
  );

  it("are found by rows that a cascade deletes after their parent", async () => {
    await fence();
    expect(await attempt("DELETE FROM organizations WHERE id = 'neighbour'")).toBe("ok");
    expect(await attempt("DELETE FROM organizations WHERE id = 'moving'")).toBe("CL503");
    // The note has no foreign key and outlives its issue; whose it is stays known.
    await client.query("DELETE FROM issues WHERE id = 2");
    expect(await attempt("DELETE FROM notes WHERE noteable_type = 'Issue' AND noteable_id = 2")).toBe("ok");
  });

  it("that are unknown are let through while nothing is protected, and refused while anything is", async () => {
    const sql = "INSERT INTO notes (noteable_type, noteable_id) VALUES ($1, 12345)";
    expect(await attempt(sql, ["Issue"])).toBe("ok");
    expect(await attempt(sql, ["Unheard-of"])).toBe("ok");
    await client.query("ROLLBACK");
    await fence();
    await client.query("BEGIN");
    expect(await attempt(sql, ["Issue"])).toBe("CL503");
    expect(await attempt(sql, ["Unheard-of"])).toBe("CL503");
  });

  it("set by a trigger of the application are seen, whatever its name", async () => {
    await cluster.query(`CREATE FUNCTION public.to_moving() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.organization_id := 'moving'; RETURN NEW; END $$;
      CREATE TRIGGER zzz_last BEFORE INSERT ON public.projects FOR EACH ROW WHEN (NEW.name = 'tricky') EXECUTE FUNCTION public.to_moving()`);
    await fence();
    expect(await attempt("INSERT INTO projects VALUES (77, 'neighbour', 'tricky')")).toBe("CL503");
    expect(await attempt("INSERT INTO projects VALUES (77, 'neighbour', 'plain')")).toBe("ok");
  });

  it("are not fooled by a writer's own operators and search_path", async () => {
    await client.query("ROLLBACK");
    await client.query(`CREATE OR REPLACE FUNCTION public.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
      CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.never);
      SET search_path = public, pg_catalog`);
    await fence();
    await client.query("BEGIN");
    expect(await attempt("INSERT INTO projects VALUES (78, 'moving')")).toBe("CL503");
    expect(await attempt("INSERT INTO projects VALUES (78, 'neighbour')")).toBe("ok");
    await client.query("ROLLBACK; DROP OPERATOR IF EXISTS public.= (text, text)").catch(() => undefined);
    await client.query("BEGIN");
  });
});

describe("tables of no organization", () => {
  it("cluster-wide, shared and local ones stay writable on the default Pod during a fence", async () => {
    await fence();
    for (const sql of [
      "UPDATE users SET name = 'x'",
      "INSERT INTO lfs_objects VALUES ('b', 1)",
      "DELETE FROM lfs_objects",
      "INSERT INTO queue VALUES (1)",
    ])
      expect([sql, await attempt(sql)]).toEqual([sql, "ok"]);
  });
});

describe("what is Cleave's", () => {
  it("can neither be read nor written by the application, nor called", async () => {
    for (const sql of [
      "UPDATE cleave.share SET phase = 'opened'",
      "SELECT * FROM cleave.route",
      "SELECT cleave.admit('moving', 'x', false)",
      "SELECT setval('cleave.flip', 99)",
    ])
      expect([sql, await attempt(sql)]).toEqual([sql, "42501"]);
  });
});

describe("staging", () => {
  const other = "split-2" as MigrationId;
  const staging = (organizations: readonly string[], migrationId = other) => ({
    migrationId,
    sourcePodId: POD_0,
    defaultPodId: POD_0,
    targetPodIds: [POD_1],
    assignments: new Map(organizations.map((organization) => [organization as OrganizationId, POD_1])),
  });

  it("refuses an organization of another migration, and stages nothing then", async () => {
    await expect(stageRoutes(db, staging(["other", "moving"]))).rejects.toMatchObject({
      code: "ORGANIZATION_CLAIMED",
    });
    expect(await cluster.query("SELECT FROM cleave.share WHERE migration_id = 'split-2'")).toHaveLength(0);
    expect(await cluster.query("SELECT FROM cleave.route WHERE organization_id = 'other'")).toHaveLength(0);
  });

  it.each(["READ COMMITTED", "REPEATABLE READ"])(
    "waits for a %s transaction that may have looked for a route before there was one",
    async (level) => {
      const organization = `late-${level}`;
      const older = await writer(cluster);
      await older.query(`BEGIN ISOLATION LEVEL ${level}`);
      await older.query("INSERT INTO projects VALUES (900, 'neighbour')");
      const waiting: string[] = [];
      let staged = false;
      const done = stageRoutes(db, staging([organization], "split-3" as MigrationId), {
        onWaiting: (transactions) => waiting.push(...transactions),
      }).then(() => {
        staged = true;
      });
      await expect.poll(() => waiting.length).toBeGreaterThan(0);
      expect(waiting.join()).toMatch(/user app, application writer/);
      expect(staged).toBe(false);
      await older.query("ROLLBACK");
      await done;
      await older.end();
    },
  );

  it("of a hundred thousand organizations is a matter of seconds, and again of less", async () => {
    const many = staging(
      Array.from({ length: 100_000 }, (_, at) => `organization ${at}`),
      "split-4" as MigrationId,
    );
    const startedAt = performance.now();
    await client.query("ROLLBACK");
    await stageRoutes(db, many);
    const firstMs = performance.now() - startedAt;
    await stageRoutes(db, many);
    expect(firstMs).toBeLessThan(20_000);
    expect(performance.now() - startedAt - firstMs).toBeLessThan(firstMs + 1_000);
    await client.query("BEGIN");
    const { drainMs } = await raiseFence(db, lendFrom(cluster), {
      migrationId: many.migrationId,
      epoch: nextEpoch(),
      targetPodIds: [POD_1],
      graceMs: 100,
    });
    expect(drainMs).toBeLessThan(100);
    expect(await attempt("INSERT INTO projects VALUES (901, 'organization 99999')")).toBe("CL503");
    await lowerFence(db, { migrationId: many.migrationId, targetPodIds: [POD_1], epoch: null });
  });
});

describe("rules that lead nowhere", () => {
  const withTables = (tables: Record<string, unknown>) =>
    Ownership.parse({ version: 1, root: { table: "public.organizations" }, tables });

  it.each([
    [
      "in a circle",
      withTables({
        "public.issues": { parent: "public.comments", column: "id" },
        "public.comments": { parent: "public.issues", column: "id" },
      }),
    ],
    [
      "to a table that no organization owns",
      withTables({
        "public.issues": { parent: "public.users", column: "id" },
        "public.users": { clusterWide: true },
      }),
    ],
    [
      "to a table without a rule",
      withTables({ "public.issues": { parent: "public.projects", column: "id" } }),
    ],
    [
      "with keys of different lengths",
      withTables({ "public.issues": { parent: "public.organizations", column: ["id", "project_id"] } }),
    ],
  ])("are refused: %s", async (_, rules) => {
    expect(() => ownerExpression(rules, "public.issues", "NEW")).toThrow(
      expect.objectContaining({ code: "OWNERSHIP_RULE_INVALID" }),
    );
    await expect(
      installGuard(db, { ownership: rules, defaultPodId: POD_0, migrationId: SPLIT }),
    ).rejects.toMatchObject({ code: "OWNERSHIP_RULE_INVALID" });
  });

  it("leave the guard that is there as it was", async () => {
    await fence();
    expect(await attempt("INSERT INTO projects VALUES (79, 'moving')")).toBe("CL503");
    expect(RULES.version).toBe(1);
  });
});
