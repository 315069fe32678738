/** The change stream on real servers, where changes of a transaction, or of several, stand in each other's way. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SeededRandom } from "../../../../../examples/quickstart/traffic/random.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { LogicalPods } from "../../../../support/postgres/logical-pods.ts";

const SCHEMA = `
CREATE TABLE orgs (id text PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id text NOT NULL, slug text NOT NULL, place int, body text, UNIQUE (org_id, slug));
CREATE UNIQUE INDEX one_main ON projects (org_id) WHERE place = 0;
ALTER TABLE projects ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE issues (id bigint PRIMARY KEY, project_id bigint NOT NULL, number int NOT NULL, title text, UNIQUE (project_id, number));
CREATE TABLE notes (id bigint PRIMARY KEY, issue_id bigint NOT NULL, body text);
CREATE TABLE logs (id bigint PRIMARY KEY, org_id text, line text);
ALTER TABLE logs REPLICA IDENTITY FULL;
CREATE TABLE prices (amount numeric PRIMARY KEY, org_id text, note text);
CREATE TABLE members (org_id text, name varchar(40), role text, PRIMARY KEY (org_id, name));`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.issues": { parent: "public.projects", column: "project_id" },
    "public.notes": { parent: "public.issues", column: "issue_id" },
    "public.logs": { organization: "org_id" },
    "public.prices": { organization: "org_id" },
    "public.members": { organization: "org_id" },
  },
});

const DATA = `
INSERT INTO orgs VALUES ('a"b', 'ours'), ('other', 'theirs');
INSERT INTO projects SELECT g, CASE g % 2 WHEN 0 THEN 'a"b' ELSE 'other' END, 's' || g, g, repeat('x', 5000) FROM generate_series(1, 20) g;
INSERT INTO issues SELECT g, 1 + g % 20, g, 'i' || g FROM generate_series(1, 200) g;
INSERT INTO notes SELECT g, 1 + g % 200, 'n' || g FROM generate_series(1, 400) g;
INSERT INTO logs SELECT g, CASE g % 2 WHEN 0 THEN 'a"b' ELSE 'other' END, 'l' || g FROM generate_series(1, 50) g;
INSERT INTO prices SELECT g, CASE g % 2 WHEN 0 THEN 'a"b' ELSE 'other' END, 'p' FROM generate_series(1, 20) g;
INSERT INTO members SELECT CASE g % 2 WHEN 0 THEN 'a"b' ELSE 'other' END, 'm' || g, 'r' FROM generate_series(1, 20) g;`;
const OURS = 'a"b';

let pods: LogicalPods;

beforeEach(async () => {
  pods = await LogicalPods.start(SCHEMA, RULES);
  await pods.source.query(DATA);
  await pods.target.query(
    "INSERT INTO orgs VALUES ('here', 'at home'); INSERT INTO projects VALUES (1001, 'here', 's2', 0); INSERT INTO logs VALUES (1001, NULL, 'nobody''s')",
  );
  await pods.copy([OURS]);
});
afterEach(async () => {
  await pods?.remove();
});

/** What came is equal; what was there is there; and nothing else came. */
async function expectEqual(): Promise<void> {
  pods.follow();
  await pods.caughtUp();
  expect(await pods.differences()).toEqual([]);
  for (const table of ["projects", "logs", "prices", "members"]) {
    const theirs = await pods.source.query(
      `SELECT count(*)::int AS n FROM ${table} WHERE org_id = '${OURS}'`,
    );
    const all = await pods.target.query(`SELECT count(*)::int AS n FROM ${table} WHERE org_id <> 'here'`);
    expect([table, all]).toEqual([table, theirs]);
  }
  expect(await pods.target.query("SELECT id, org_id, slug FROM projects WHERE id = 1001")).toEqual([
    { id: "1001", org_id: "here", slug: "s2" },
  ]);
  expect(await pods.target.query("SELECT line FROM logs WHERE id = 1001")).toEqual([{ line: "nobody's" }]);
  expect(
    await pods.target.query(
      "SELECT count(*)::int AS n FROM issues i LEFT JOIN projects p ON p.id = project_id WHERE p.id IS NULL",
    ),
  ).toEqual([{ n: 0 }]);
}

/** Each entry is one transaction. */
const cases: [string, string[]][] = [
  [
    "a row updated again and again",
    Array.from({ length: 30 }, (_, n) => `UPDATE projects SET place = ${100 + n} WHERE id IN (1, 2, 4)`),
  ],
  [
    "within one transaction too",
    [
      Array.from(
        { length: 30 },
        (_, n) => `UPDATE projects SET place = ${100 + n} WHERE id IN (1, 2, 4)`,
      ).join(";"),
    ],
  ],
  [
    "deleted, and there again with the same key",
    [
      "DELETE FROM members; INSERT INTO members VALUES ('a\"b', 'm2', 'back'), ('a\"b', 'new', 'r'), ('other', 'm2', 'r')",
      "DELETE FROM members WHERE name = 'new'",
      "INSERT INTO members VALUES ('a\"b', 'new', 'again')",
    ],
  ],
  [
    "keys that change, and change back",
    [
      "UPDATE issues SET id = id + 1000 WHERE id < 50",
      "UPDATE notes SET issue_id = issue_id + 1000 WHERE issue_id < 50",
      "UPDATE members SET name = 'x' || name; UPDATE members SET name = substr(name, 2) WHERE name < 'xm15'",
      "UPDATE issues SET id = id - 1000 WHERE id BETWEEN 1001 AND 1020; UPDATE notes SET issue_id = issue_id - 1000 WHERE issue_id BETWEEN 1001 AND 1020",
    ],
  ],
  [
    "unique values that rows give each other",
    [
      "UPDATE projects SET slug = 'tmp' WHERE id = 2; UPDATE projects SET slug = 's2' WHERE id = 4; UPDATE projects SET slug = 's4' WHERE id = 2",
      "UPDATE issues SET number = -number WHERE project_id = 2",
      "UPDATE issues SET number = 1 - number WHERE project_id = 2",
    ],
  ],
  [
    "and pass on, under a condition",
    [
      "UPDATE projects SET place = 0 WHERE id = 2",
      "UPDATE projects SET place = 2 WHERE id = 2; UPDATE projects SET place = 0 WHERE id = 4",
      "UPDATE projects SET place = 4 WHERE id = 4; UPDATE projects SET place = 0 WHERE id = 2",
      "DELETE FROM projects WHERE id = 2; UPDATE projects SET place = 0 WHERE id = 6",
      "INSERT INTO projects VALUES (2, 'a\"b', 's2', 7)",
    ],
  ],
  [
    "large values that did not change",
    [
      "UPDATE projects SET place = place + 1000",
      "UPDATE projects SET body = body || 'y' WHERE id % 4 = 0; UPDATE projects SET slug = slug || 't'",
      "UPDATE projects SET body = NULL WHERE id = 6",
      "UPDATE projects SET id = id + 500 WHERE id = 8; UPDATE issues SET project_id = 508 WHERE project_id = 8",
    ],
  ],
  [
    "keys that are equal and written differently",
    [
      "UPDATE prices SET amount = 2.00, note = 'first' WHERE amount = 2; UPDATE prices SET note = 'second' WHERE amount = 2; UPDATE prices SET note = note || '!' WHERE amount IN (2, 4)",
      "DELETE FROM prices WHERE amount = 4; INSERT INTO prices VALUES (4.0, 'a\"b', 'again')",
    ],
  ],
  [
    "parents and children that come and go together",
    [
      "INSERT INTO projects VALUES (700, 'a\"b', 'p', 1); INSERT INTO issues VALUES (7000, 700, 1); INSERT INTO notes VALUES (70000, 7000, 'x'); INSERT INTO projects VALUES (701, 'a\"b', 'q', 1); INSERT INTO issues VALUES (7001, 701, 1)",
      "DELETE FROM projects WHERE id = 700; DELETE FROM issues WHERE project_id = 700; DELETE FROM notes WHERE issue_id = 7000",
      "INSERT INTO issues VALUES (7000, 701, 2); INSERT INTO notes VALUES (70000, 7000, 'y')",
      "INSERT INTO issues VALUES (8000, 800, 1); INSERT INTO projects VALUES (800, 'a\"b', 'late', 3)",
    ],
  ],
  [
    "everything, by the full old row",
    ["UPDATE logs SET line = line || '!'", "DELETE FROM logs WHERE id < 20; UPDATE logs SET id = id + 100"],
  ],
];

describe("changes that need their order", () => {
  it.each(cases)("%s", async (_, transactions) => {
    const db = await pods.source.connect();
    // Some of them wait in the slot until it is followed, so they come together.
    for (const sql of transactions) await db.query(`BEGIN; ${sql}; COMMIT`);
    await db.end();
    await expectEqual();
  });
});

it.each([1, 2, 3, 4])("random exchanges by several writers at once, seed %i", async (seed) => {
  const work = async (at: number) => {
    const db = await pods.source.connect();
    const random = new SeededRandom(100 * seed + at);
    const pick = (max: number) => Math.floor(random.next() * max);
    const project = () => 1 + pick(20);
    for (let n = 0; n < 60; n++) {
      const steps = Array.from({ length: 1 + pick(4) }, () => {
        const [one, other, number] = [project(), project(), pick(8)];
        return [
          `UPDATE projects SET slug = 'tmp${at}' WHERE id = ${one}; UPDATE projects SET slug = 's${pick(30)}' WHERE id = ${other}; UPDATE projects SET slug = 't${pick(30)}' WHERE id = ${one}`,
          `UPDATE projects SET place = ${pick(3)} WHERE id = ${one}`,
          `UPDATE projects SET body = repeat('z', ${pick(9000)}) WHERE id = ${one}`,
          `DELETE FROM issues WHERE project_id = ${one} AND number = ${number}; INSERT INTO issues VALUES (${10_000 + pick(300)}, ${other}, ${number}, 'new')`,
          `UPDATE issues SET number = number + 1 WHERE id = ${10_000 + pick(300)}`,
          `UPDATE issues SET id = ${10_000 + pick(300)} WHERE id = ${10_000 + pick(300)}`,
          `DELETE FROM notes WHERE id = ${pick(400)}; INSERT INTO notes SELECT ${pick(400)}, id, 'again' FROM issues WHERE number = ${number} LIMIT 1`,
          `UPDATE members SET name = 'm${pick(25)}' WHERE name = 'm${pick(25)}'`,
          `UPDATE prices SET amount = amount * 1.0, note = 'n${n}' WHERE amount < ${pick(20)}`,
          `INSERT INTO logs SELECT ${10_000 + pick(500)}, org_id, 'l' FROM projects WHERE id = ${one}; DELETE FROM logs WHERE id % 7 = ${pick(50)}`,
        ][pick(10)];
      });
      try {
        await db.query(`BEGIN; ${steps.join("; ")}; COMMIT`);
      } catch (error) {
        await db.query("ROLLBACK");
        if (!["23505", "40P01"].includes((error as { code?: string }).code ?? "")) throw error;
      }
    }
    await db.end();
  };
  const writing = Promise.all([1, 2, 3].map(work));
  // From the beginning for one half of the seeds; else it finds a backlog.
  if (seed % 2 === 0) pods.follow();
  await writing;
  await pods.stop();
  await expectEqual();
});

describe("what it cannot do is said", () => {
  it("and what came before is there", async () => {
    for (let n = 0; n < 20; n++)
      await pods.source.query(`INSERT INTO logs VALUES (${500 + n}, '${OURS}', 'x')`);
    await pods.source.query("UPDATE projects SET org_id = 'other', slug = 'gone' WHERE id = 2");
    await pods.source.query(`INSERT INTO logs VALUES (600, '${OURS}', 'after')`);
    pods.follow();
    expect(await pods.failure()).toMatchObject({
      code: "MEMBERSHIP_CHANGED",
      message: "the row of public.projects with id 2 left for other",
    });
    expect(
      await pods.target.query("SELECT count(*)::int AS n FROM logs WHERE id >= 500 AND id < 1000"),
    ).toEqual([{ n: 20 }]);
  });

  it("a row that comes", async () => {
    await pods.source.query(`UPDATE projects SET org_id = '${OURS}' WHERE id = 1`);
    pods.follow();
    expect(await pods.failure()).toMatchObject({
      message: `the row of public.projects with id 1 came to ${OURS}`,
    });
  });

  it("a child that changes hands", async () => {
    await pods.source.query("UPDATE issues SET project_id = 1, number = 5000 WHERE id = 1");
    await pods.source.query("UPDATE issues SET project_id = 2, number = 5000 WHERE id = 20");
    pods.follow();
    expect(await pods.failure()).toMatchObject({
      message: expect.stringMatching(/public.issues with id 1 left/),
    });
  });

  it("inheriting tables, before anything is copied", async () => {
    for (const side of [pods.source, pods.target])
      await side.query("CREATE TABLE public.old_logs () INHERITS (logs)");
    await expect(pods.baseCopy([OURS])).rejects.toMatchObject({
      code: "SCHEMA_DIFFERS",
      message: expect.stringContaining("public.logs has inheriting tables (public.old_logs)"),
    });
  });

  it("a replica identity without the key", async () => {
    await pods.source.query(
      "ALTER TABLE members ALTER role SET NOT NULL; CREATE UNIQUE INDEX other ON members (role, name); ALTER TABLE members REPLICA IDENTITY USING INDEX other; DELETE FROM members WHERE name = 'm2'",
    );
    pods.follow();
    expect(await pods.failure()).toMatchObject({ code: "REPLICA_IDENTITY_MISSING" });
  });
});
