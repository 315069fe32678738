/** What a moving organization's rows refer to: rows of nobody alone come along to the last moment, rows that stay stop it. */
import type pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

const SCHEMA = `
CREATE TABLE companies (id bigint PRIMARY KEY, name text);
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, colour text, invited_by bigint REFERENCES users, company_id bigint REFERENCES companies);
CREATE TABLE uploads (oid text PRIMARY KEY, size int);
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs, fork_of bigint REFERENCES projects);
CREATE TABLE issues (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES projects, author bigint REFERENCES users,
  assigned_user_id int, upload_oid text REFERENCES uploads);`;
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.companies": { clusterWide: true },
    "public.users": { clusterWide: true },
    "public.uploads": { shared: true },
    "public.projects": { organization: "org_id" },
    "public.issues": { parent: "public.projects", column: "project_id" },
  },
});
const DATA = `
INSERT INTO companies VALUES (1, 'one');
INSERT INTO users SELECT g, 'user ' || g, 'red' FROM generate_series(1, 20) g;
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 3) g;
INSERT INTO projects SELECT g, 1 + g % 3 FROM generate_series(1, 9) g;
INSERT INTO issues SELECT g, 1 + g % 9, 1 + g % 5, 6 + g % 3 FROM generate_series(1, 100) g;`;
/** Of organization 2. */
const PROJECT = 4;

let pods: MovePods;
const clients: pg.Client[] = [];

beforeEach(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  await pods.source.query(DATA);
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)));
  await pods.remove();
});

async function client(of: "source" | "target"): Promise<pg.Client> {
  const made = await pods[of].connect();
  clients.push(made);
  return made;
}

/** Committed while the fence waits for it, so nothing has looked at it before the evidence is made. */
async function inTheLastMoment(sql: string, epoch = 1) {
  const db = await client("source");
  const watch = await client("source");
  await db.query(`BEGIN; ${sql}`);
  const fenced = pods.fence(epoch);
  fenced.catch(() => undefined);
  await eventually(async () => {
    const { rows } = await watch.query(
      "SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted",
    );
    expect(rows).toHaveLength(1);
  });
  await db.query("COMMIT");
  return fenced;
}

const problems = () => pods.status(TO).problems.map(({ code, message }) => `${code}: ${message}`);

describe("rows of nobody alone, written in the last moment with a row that refers to them", () => {
  it.each([
    [
      "by a constraint",
      `INSERT INTO users VALUES (501, 'late'); INSERT INTO issues VALUES (1001, ${PROJECT}, 501)`,
      "SELECT name FROM users WHERE id = 501",
      [{ name: "late" }],
    ],
    [
      "by a name",
      `INSERT INTO users VALUES (502, 'named'); INSERT INTO issues VALUES (1002, ${PROJECT}, NULL, 502)`,
      "SELECT name FROM users WHERE id = 502",
      [{ name: "named" }],
    ],
    [
      "with what they refer to in turn",
      `INSERT INTO companies VALUES (7, 'seven');
       INSERT INTO users SELECT 599 + g, 'chain ' || g, NULL, CASE WHEN g > 1 THEN 598 + g END, 7 FROM generate_series(1, 30) g;
       INSERT INTO issues VALUES (1003, ${PROJECT}, 629)`,
      "SELECT (SELECT count(*)::int FROM users WHERE id >= 600) AS users, (SELECT name FROM companies WHERE id = 7) AS company",
      [{ users: 30, company: "seven" }],
    ],
    [
      "where a row that was there begins to refer to one",
      `INSERT INTO uploads VALUES ('abc', 3); UPDATE issues SET upload_oid = 'abc' WHERE project_id = ${PROJECT}`,
      "SELECT size FROM uploads",
      [{ size: 3 }],
    ],
  ])("%s, come along", async (_name, sql, query, expected) => {
    await pods.follow();
    const { source, target } = await inTheLastMoment(sql);
    expect(target).toBe(source);
    expect(await pods.target.query(query)).toEqual(expected);
  });

  it("stop the fence when they cannot be copied, and the error names them", async () => {
    await pods.target.query("INSERT INTO users VALUES (90, 'taken')");
    await pods.follow();
    await expect(
      inTheLastMoment(
        `INSERT INTO users VALUES (504, 'taken'); INSERT INTO issues VALUES (1004, ${PROJECT}, 504)`,
      ),
    ).rejects.toMatchObject({
      code: "SHARED_ROW_CONFLICT",
      message: expect.stringMatching(/public\.users .*504/),
    });
    expect(pods.status(TO).evidence).toBeNull();
  });
});

describe("while a move follows", () => {
  it("another user with the id that a new row refers to is named", async () => {
    await pods.target.query("INSERT INTO users VALUES (505, 'somebody else')");
    await pods.follow();
    await pods.source.query(
      `INSERT INTO users VALUES (505, 'our own'); INSERT INTO issues VALUES (1005, ${PROJECT}, 505)`,
    );
    await eventually(() =>
      expect(problems().join()).toMatch(/SHARED_ROW_CONFLICT: .*public\.users.* 505 .*somebody else/),
    );
  });

  it("a user who is renamed stays the same one", async () => {
    await pods.follow();
    await pods.source.query("UPDATE users SET name = 'renamed', colour = 'blue' WHERE id = 2");
    const { source, target } = await inTheLastMoment(
      `UPDATE issues SET author = 2 WHERE project_id = ${PROJECT}`,
    );
    expect(target).toBe(source);
  });

  it("a reference to a row that stays stops the move until it is gone", async () => {
    await pods.follow();
    await pods.source.query(`UPDATE projects SET fork_of = 2 WHERE id = ${PROJECT}`);
    await eventually(() => {
      expect(problems().join()).toMatch(
        /CROSS_ORGANIZATION_ROWS: the row of public\.projects with key \(4\) refers to the row of public\.projects with id = 2, which stays/,
      );
      expect(pods.status(TO).verified).toBe(false);
    });
    await pods.source.query(`UPDATE projects SET fork_of = 1 WHERE id = ${PROJECT}`);
    await eventually(() => expect(pods.status(TO)).toMatchObject({ verified: true, problems: [] }));
    const { source, target } = await pods.fence(1);
    expect(target).toBe(source);
  });

  it("a reference to a row that stays, made in the last moment, leaves the fence without evidence", async () => {
    await pods.follow();
    await expect(
      inTheLastMoment(`UPDATE projects SET fork_of = 2 WHERE id = ${PROJECT}`),
    ).rejects.toMatchObject({
      code: "CROSS_ORGANIZATION_ROWS",
      message: expect.stringMatching(/public\.projects with key \(4\)/),
    });
    expect(pods.status(TO).evidence).toBeNull();
    await Promise.all([pods.reach(FROM, "serve", { epoch: 1 }), pods.reach(TO, "follow", { epoch: 1 })]);
    await pods.source.query(`UPDATE projects SET fork_of = NULL WHERE id = ${PROJECT}`);
    await pods.follow();
    const { source, target } = await pods.fence(2);
    expect(target).toBe(source);
  });
});
