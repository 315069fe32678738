/** A Pod's application with the guard on its tables: what worked before goes on working. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setShares } from "../../../../../agent/stores/postgres/fence/staging.ts";
import { Application, TYPES } from "../../../../support/postgres/application.ts";
import { outcome, POD_1, SPLIT } from "../../../../support/postgres/scratch.ts";

let app: Application;
beforeAll(async () => {
  app = await Application.start();
}, 60_000);
afterAll(() => app?.remove());

describe("keys of other types and collations", () => {
  describe.each(TYPES)("$name", ({ name, values: [first, second], again }) => {
    const statements = [
      `UPDATE ${name}s SET note = 'x'`,
      `UPDATE ${name}_items SET note = 'x'`,
      `INSERT INTO ${name}_items VALUES ('${again}', 2)`,
      `DELETE FROM ${name}_items`,
      `DELETE FROM ${name}s WHERE id = '${first}'`,
      `DELETE FROM ${name}s WHERE id = '${second}'`,
      `UPDATE ${name}_items SET ${name}_id = '${second}', n = 7 WHERE ${name}_id = '${again}'`,
      `UPDATE ${name}s SET organization_id = 'staying'`,
      `UPDATE ${name}s SET organization_id = NULL`,
    ];
    it.each(statements)("%s works", async (sql) => {
      expect(await app.attempt(sql)).toBe("ok");
    });

    it("has the same owners, however the writer's search_path is", async () => {
      await app.underFence(async () => {
        for (const path of [`public, "Ext e"`, `"Ext e"`, "pg_catalog"]) {
          await app.client.query(`SET search_path = ${path}`);
          const items = `public.${name}_items`;
          expect(await app.attempt(`UPDATE ${items} SET note = 'x' WHERE n = 1`)).toMatch(/^CL503/);
          expect(await app.attempt(`INSERT INTO ${items} VALUES ('${again}', 3)`)).toMatch(/^CL503/);
          expect(await app.attempt(`INSERT INTO ${items} VALUES ('${second}', 3)`)).toBe("ok");
        }
        await app.client.query("RESET search_path");
      });
    });
  });
});

describe("after a first move, on the default Pod", () => {
  beforeAll(() => setShares(app.db, SPLIT, { [POD_1]: "opened" }, app.nextEpoch()));
  afterAll(() => setShares(app.db, SPLIT, { [POD_1]: "source" }, app.nextEpoch()));

  it.each(TYPES)(
    "a cascade finds its owner by $name, however it is written",
    async ({ name, values, again }) => {
      const [first, second] = values;
      expect(
        await app.attempt(
          `INSERT INTO ${name}s VALUES ('${second}', 'staying') ON CONFLICT DO NOTHING`,
          `DELETE FROM ${name}s WHERE id = '${second}'`,
        ),
      ).toBe("ok");
      expect(await app.attempt(`DELETE FROM ${name}s WHERE id = '${first}'`)).toMatch(/^CL421 pod-1/);
      expect(await app.attempt(`UPDATE ${name}_items SET note = 'x' WHERE ${name}_id = '${again}'`)).toMatch(
        /^CL421 pod-1/,
      );
    },
  );

  it("nor by another spelling than the parent's", async () => {
    expect(
      await app.attempt(
        "INSERT INTO citexts VALUES ('Spelled', 'staying'); INSERT INTO citext_items VALUES ('SPELLED', 1); DELETE FROM citexts WHERE id = 'spelled'",
        "INSERT INTO numerics VALUES ('99', 'staying'); INSERT INTO numeric_items VALUES ('99.00', 1); DELETE FROM numerics WHERE id = 99",
        "INSERT INTO blurreds VALUES ('Spelled', 'staying'); INSERT INTO blurred_items VALUES ('SPELLED', 1); DELETE FROM blurreds WHERE id = 'spelled'",
      ),
    ).toBe("ok");
  });

  it.each([
    "INSERT INTO events (id, user_id) VALUES (10, 1)",
    "INSERT INTO subjects VALUES (1)",
    "INSERT INTO subjects VALUES (1); UPDATE subjects SET organization_id = 'staying'; UPDATE subjects SET organization_id = NULL; DELETE FROM subjects",
    "INSERT INTO subjects VALUES (1); INSERT INTO remarks VALUES (1, 'Subject', 1); INSERT INTO remark_lines VALUES (1, 1); UPDATE remark_lines SET id = 2; DELETE FROM remarks",
    "INSERT INTO remarks VALUES (1, NULL, NULL), (2, 'Subject', NULL); INSERT INTO remark_lines VALUES (1, 1), (2, NULL)",
  ])("rows of nobody are written: %s", async (sql) => {
    expect(await app.attempt(sql)).toBe("ok");
  });

  it.each([
    ["a parent that is not here", "INSERT INTO remarks VALUES (1, 'Subject', 77)"],
    ["a type that no rule names", "INSERT INTO remarks VALUES (1, 'Other', 1)"],
  ])("a row with %s may be another Pod's", async (_, sql) => {
    expect(await app.attempt(sql)).toMatch(/^CL421 pod-1/);
  });

  describe("a deployment that leaves dormant rows out", () => {
    const SKIP = "SET LOCAL cleave.dormant_rows = skip";
    const notes = "SELECT organization_id AS o, note FROM numerics ORDER BY id";

    it("changes those that are served here alone", async () => {
      await app.client.query("BEGIN");
      try {
        expect(
          await outcome(app.client.query("SAVEPOINT whole; UPDATE numerics SET note = 'filled'")),
        ).toMatch(/^CL421 pod-1/);
        await app.client.query(`ROLLBACK TO SAVEPOINT whole; ${SKIP}`);
        const before = (await app.client.query("SELECT * FROM numeric_items WHERE numeric_id = 7")).rows;
        const { rowCount } = await app.client.query("UPDATE numerics SET note = 'filled'");
        expect(rowCount).toBe(1);
        expect((await app.client.query(notes)).rows).toEqual([
          { o: "moving", note: null },
          { o: "staying", note: "filled" },
        ]);
        await app.client.query("DELETE FROM numeric_items");
        expect((await app.client.query("SELECT * FROM numeric_items")).rows).toEqual(before);
      } finally {
        await app.client.query("ROLLBACK");
      }
    });

    it.each([
      "INSERT INTO numerics VALUES ('70', 'moving')",
      "UPDATE numerics SET organization_id = 'moving' WHERE id = 8",
      "INSERT INTO numerics VALUES ('7', 'moving') ON CONFLICT (id) DO UPDATE SET note = 'x'",
    ])("makes none: %s", async (sql) => {
      expect(await app.attempt(`${SKIP}; ${sql}`)).toMatch(/^CL421 pod-1/);
    });

    it("has to wait a moment for those that may still come to be served here", async () => {
      await setShares(app.db, SPLIT, { [POD_1]: "source" }, app.nextEpoch());
      await app.underFence(async () => {
        expect(await app.attempt(`${SKIP}; UPDATE numerics SET note = 'filled'`)).toMatch(/^CL503/);
      });
      expect(await app.attempt(`${SKIP}; UPDATE numerics SET note = 'filled'`)).toBe("ok");
      await setShares(app.db, SPLIT, { [POD_1]: "opened" }, app.nextEpoch());
    });
  });

  it("a row of nobody does not become the organization's that left", async () => {
    expect(
      await app.attempt("INSERT INTO subjects VALUES (1)", "UPDATE subjects SET organization_id = 'moving'"),
    ).toMatch(/^CL421 pod-1/);
  });
});

describe("rows of nobody alone that dormant rows refer to", () => {
  beforeAll(async () => {
    await app.cluster.query(
      `INSERT INTO events (id, organization_id, user_id, reviewer_id) SELECT 100 + n, o, n, n FROM unnest('{moving,staying}'::text[]) WITH ORDINALITY AS t (o, n);
       INSERT INTO events (id, organization_id, user_id) VALUES (110, 'moving', 3), (111, 'staying', 3), (112, NULL, 3)`,
    );
    await setShares(app.db, SPLIT, { [POD_1]: "opened" }, app.nextEpoch());
  });
  afterAll(async () => {
    await setShares(app.db, SPLIT, { [POD_1]: "source" }, app.nextEpoch());
    await app.cluster.query("DELETE FROM events WHERE id > 99");
  });

  const left = async () =>
    (
      await app.client.query(
        "SELECT id::int AS id, user_id::int AS u, reviewer_id::int AS r FROM events WHERE id > 99 ORDER BY id",
      )
    ).rows.map(({ id, u, r }) => `${id} ${u} ${r}`);

  it.each([
    [
      "SET NULL",
      "DELETE FROM users WHERE id = 3",
      ["101 1 1", "102 2 2", "110 3 null", "111 null null", "112 null null"],
    ],
    [
      "CASCADE of a dormant row",
      "DELETE FROM users WHERE id = 1",
      ["101 1 1", "102 2 2", "110 3 null", "111 3 null", "112 3 null"],
    ],
    [
      "CASCADE of a row that is served",
      "DELETE FROM users WHERE id = 2",
      ["101 1 1", "110 3 null", "111 3 null", "112 3 null"],
    ],
    [
      "another key",
      "ALTER TABLE events DROP CONSTRAINT events_user_id_fkey; UPDATE users SET id = id + 100 WHERE id < 3",
      ["101 1 1", "102 2 102", "110 3 null", "111 3 null", "112 3 null"],
    ],
  ])("are deleted and renamed, with %s", async (_, sql, expected) => {
    await app.client.query("BEGIN");
    try {
      expect(await outcome(app.client.query(sql))).toBe("ok");
      expect(await left()).toEqual(expected);
    } finally {
      await app.client.query("ROLLBACK");
    }
  });

  it.each([
    "UPDATE events SET user_id = NULL WHERE id = 110",
    "DELETE FROM events WHERE id = 101",
    "DELETE FROM users WHERE id = 3; UPDATE events SET user_id = NULL WHERE id = 110",
  ])("nobody else changes them: %s", async (sql) => {
    expect(await app.attempt(sql)).toMatch(/^CL421 pod-1/);
  });

  it("nor does a trigger", async () => {
    expect(
      await app.attempt(
        "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE events SET user_id = NULL WHERE id = 110; RETURN NULL; END'",
        "CREATE TRIGGER rename AFTER UPDATE ON subjects FOR EACH STATEMENT EXECUTE FUNCTION rename()",
        "UPDATE subjects SET id = id",
      ),
    ).toMatch(/^CL421 pod-1/);
  });

  it("of one that is fenced has to wait a moment", async () => {
    await setShares(app.db, SPLIT, { [POD_1]: "source" }, app.nextEpoch());
    await app.underFence(async () => {
      expect(await app.attempt("DELETE FROM users WHERE id = 3")).toMatch(/^CL503/);
    });
    expect(await app.attempt("DELETE FROM users WHERE id = 3")).toBe("ok");
  });
});

describe("while an organization is fenced", () => {
  it("rows of nobody are written", async () => {
    await app.underFence(async () => {
      expect(await app.attempt("INSERT INTO subjects VALUES (1); UPDATE subjects SET id = 2")).toBe("ok");
      expect(await app.attempt("INSERT INTO subjects VALUES (1, 'moving')")).toMatch(/^CL503/);
    });
  });
});
