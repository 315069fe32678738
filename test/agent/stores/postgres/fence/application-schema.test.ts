/** The application alters its tables while they are guarded and published. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { installGuard, verifyGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { checkCatalog } from "../../../../../agent/stores/postgres/inventory/catalog-checks.ts";
import { Application, INSTALL, RULES } from "../../../../support/postgres/application.ts";
import { outcome } from "../../../../support/postgres/scratch.ts";

let app: Application;
beforeAll(async () => {
  app = await Application.start();
}, 60_000);
afterAll(() => app?.remove());

const ALL = ["logs", "traces", "events"].flatMap((table) => [
  `UPDATE ${table} SET organization_id = 'staying'`,
  `DELETE FROM ${table}`,
]);

describe("partitions of tables that are published", () => {
  it.each([
    [ALL],
    [
      [
        "CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO logs VALUES (3, 'moving', '2026-02-02')",
        ...ALL,
      ],
    ],
    [
      [
        "CREATE TABLE logs_3 (LIKE logs)",
        "INSERT INTO logs_3 VALUES (3, 'moving', '2026-02-02')",
        "ALTER TABLE logs ATTACH PARTITION logs_3 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        ...ALL,
      ],
    ],
    [
      [
        "CREATE TABLE logs_4 PARTITION OF logs DEFAULT PARTITION BY LIST (id)",
        "CREATE TABLE logs_4_1 PARTITION OF logs_4 DEFAULT",
        "INSERT INTO logs VALUES (3, 'moving', '2026-06-02')",
        ...ALL,
      ],
    ],
    [
      [
        "CREATE TABLE traces_2 PARTITION OF traces DEFAULT",
        "INSERT INTO traces VALUES (3, 'moving', '2026-06-02')",
        ...ALL,
      ],
    ],
    [
      [
        "ALTER TABLE logs DETACH PARTITION logs_1",
        "UPDATE logs_1 SET body = 'x'",
        "ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        ...ALL,
      ],
    ],
    [
      [
        "ALTER TABLE subjects DROP CONSTRAINT subjects_pkey",
        "INSERT INTO subjects VALUES (1, 'moving')",
        "UPDATE subjects SET id = 2",
        "DELETE FROM subjects",
      ],
    ],
    [['DROP INDEX "logs key"', ...ALL]],
    [["ALTER TABLE events DROP CONSTRAINT events_pkey", ...ALL]],
    [["ALTER TABLE logs_1 REPLICA IDENTITY NOTHING", ...ALL]],
  ])("are updated and deleted: %j", async (statements) => {
    expect(await app.attempt(...statements)).toBe("ok");
  });

  it("are told apart as their table's rows are", async () => {
    await app.client.query(
      "BEGIN; CREATE TABLE logs_5 PARTITION OF logs DEFAULT; CREATE TABLE traces_5 PARTITION OF traces DEFAULT; CREATE TABLE events_5 PARTITION OF events DEFAULT",
    );
    const { rows } = await app.client.query(
      "SELECT relname, relreplident FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1",
    );
    await app.client.query("ROLLBACK");
    expect(Object.fromEntries(rows.map(({ relname, relreplident }) => [relname, relreplident]))).toEqual({
      events_1: "d",
      events_5: "d",
      logs_1: "i",
      logs_5: "i",
      "traces 1 a": "f",
      traces_5: "f",
    });
  });
});

describe("a publication of all tables", () => {
  it("is said to carry Cleave's own", async () => {
    expect(
      (await checkCatalog(app.db, RULES)).filter(({ code }) => code === "POSTGRES_SETTING"),
    ).toMatchObject([
      { severity: "warning", message: expect.stringMatching(/^the publication capture is of all tables/) },
    ]);
  });

  it("does not keep an abort from removing everything", async () => {
    const tables = ["moved", "touched", "schema_change", "departed", "verified"];
    expect(
      await Promise.all(tables.map((table) => outcome(app.cluster.query(`DELETE FROM cleave.${table}`)))),
    ).toEqual(tables.map(() => "ok"));
  });

  it("leaves none of Cleave's own without a key", async () => {
    expect(
      await app.cluster.query(
        `SELECT relname FROM pg_class c WHERE relnamespace = 'cleave'::regnamespace AND relkind = 'r' AND relreplident <> 'f'
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)`,
      ),
    ).toEqual([]);
  });
});

describe("a role that is no superuser", () => {
  it.each([
    [
      [
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (1000) TO (2000)",
        "INSERT INTO events VALUES (1500, 'moving')",
        "UPDATE events SET kind = 'x'",
        "DELETE FROM events",
      ],
    ],
    [
      [
        "CREATE TABLE events_3 (LIKE events)",
        "INSERT INTO events_3 VALUES (2500, 'moving')",
        "ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM (2000) TO (3000)",
        "UPDATE events SET kind = 'x'",
      ],
    ],
    [
      [
        "CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (3000) TO (4000) PARTITION BY LIST (id)",
        "CREATE TABLE events_4_1 PARTITION OF events_4 DEFAULT",
        "INSERT INTO events VALUES (3001, 'staying')",
      ],
    ],
    [
      [
        "ALTER TABLE events DETACH PARTITION events_1",
        "ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (0) TO (1000)",
      ],
    ],
    [
      [
        "CREATE TABLE other (id int PRIMARY KEY, organization_id text)",
        "ALTER TABLE other ADD COLUMN x int",
        "DROP TABLE other",
      ],
    ],
    [
      [
        "CREATE INDEX ON events (kind)",
        "ALTER TABLE events ADD COLUMN extra int DEFAULT 1",
        "UPDATE events SET extra = 2",
        "ALTER TABLE events DROP COLUMN extra",
      ],
    ],
  ])("may alter its tables: %j", async (statements) => {
    expect(await app.attempt(...statements)).toBe("ok");
  });

  it("cannot name the guard's functions", async () => {
    const [row] = await app.cluster.query(
      "SELECT proname FROM pg_proc WHERE pronamespace = 'cleave'::regnamespace AND prorettype = 'trigger'::regtype AND proname ~ '^guard_[0-9a-f]{24}' LIMIT 1",
    );
    const name = (row as { proname: string }).proname;
    expect(
      await app.attempt(
        "CREATE TABLE mine (id bigint, organization_id text)",
        `CREATE TRIGGER forged BEFORE DELETE ON mine FOR EACH ROW EXECUTE FUNCTION cleave.${name}()`,
      ),
    ).toMatch(/^42501/);
  });

  it("is found out when it may not execute them", async () => {
    await app.cluster.query(
      "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'cleave'::regnamespace AND proname ~ '^guard_[0-9a-f]' LOOP EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM PUBLIC'; END LOOP; END $$",
    );
    expect((await verifyGuard(app.db, RULES)).length).toBeGreaterThan(0);
    await installGuard(app.db, INSTALL);
    expect(await verifyGuard(app.db, RULES)).toEqual([]);
  });
});
