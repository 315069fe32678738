/** A Pod's application with the guard on its tables: what worked before goes on working. */
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerFence, raiseFence } from "../../../../../agent/stores/postgres/fence/fence.ts";
import { installGuard, verifyGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { setShares, stageRoutes } from "../../../../../agent/stores/postgres/fence/staging.ts";
import { checkCatalog } from "../../../../../agent/stores/postgres/inventory/catalog-checks.ts";
import { ensurePublication } from "../../../../../agent/stores/postgres/move/publication.ts";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  lendFrom,
  outcome,
  POD_0,
  POD_1,
  SPLIT,
  writer,
} from "../../../../support/postgres/scratch.ts";

/** Key types whose `=` is not PostgreSQL's own, with two values, and a second way to write the first. */
const TYPES = [
  { name: "ltree", extension: "ltree", type: "ltree", values: ["a.b", "a.c"], again: "a.b" },
  {
    name: "hstore",
    extension: "hstore",
    type: "hstore",
    values: ["a=>1, b=>2", "a=>2"],
    again: "b=>2, a=>1",
  },
  { name: "cube", extension: "cube", type: "cube", values: ["(1,2)", "(3,4)"], again: "(1.0,2)" },
  {
    name: "isbn",
    extension: "isn",
    type: "isbn",
    values: ["978-0-393-04002-9", "978-0-11-000533-1"],
    again: "0-393-04002-X",
  },
  { name: "citext", extension: "citext", type: "citext", values: ["ACME", "Other"], again: "acme" },
  { name: "numeric", extension: null, type: "numeric", values: ["7", "8"], again: "7.00" },
  { name: "collated", extension: null, type: `text COLLATE "und-x-icu"`, values: ["a", "b"], again: "a" },
  {
    name: "blurred",
    extension: null,
    type: `text COLLATE "blurred"`,
    values: ["Acme", "Other"],
    again: "ACME",
  },
  { name: "domain", extension: "ltree", type: "tree_path", values: ["x.y", "x.z"], again: "x.y" },
] as const;
const extensions = [...new Set(TYPES.flatMap(({ extension }) => extension ?? []))];

const SCHEMA = `
CREATE ROLE app LOGIN PASSWORD 'app of the tests';
CREATE SCHEMA "Ext e";
GRANT USAGE ON SCHEMA "Ext e" TO app;
${extensions.map((name) => `CREATE EXTENSION ${name} SCHEMA "Ext e";`).join("\n")}
ALTER DATABASE pod SET search_path = public, "Ext e";
SET search_path = public, "Ext e";
GRANT ALL ON SCHEMA public TO app;
CREATE COLLATION blurred (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN tree_path AS ltree;
SET ROLE app;
CREATE TABLE organizations (id text COLLATE "C" PRIMARY KEY, name text);
INSERT INTO organizations VALUES ('moving'), ('staying');
CREATE TABLE users (id bigint PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'user' FROM generate_series(1, 20) n;
${TYPES.map(
  ({ name, type, values }) => `
CREATE TABLE ${name}s (id ${type} PRIMARY KEY, organization_id text COLLATE "und-x-icu" REFERENCES organizations, note text);
CREATE TABLE ${name}_items (${name}_id ${type === `text COLLATE "und-x-icu"` ? `text COLLATE "POSIX"` : type} REFERENCES ${name}s ON DELETE CASCADE ON UPDATE CASCADE, n int, note text, PRIMARY KEY (${name}_id, n));
INSERT INTO ${name}s VALUES ('${values[0]}', 'moving'), ('${values[1]}', 'staying');
INSERT INTO ${name}_items VALUES ('${values[0]}', 1), ('${values[1]}', 1);`,
).join("\n")}
CREATE TABLE events (id bigint, organization_id text REFERENCES organizations, user_id bigint REFERENCES users ON DELETE SET NULL,
  reviewer_id bigint REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE, kind text, subject_id bigint, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000);
ALTER TABLE events_1 REPLICA IDENTITY NOTHING;
CREATE TABLE logs (id bigint NOT NULL, organization_id text, day date NOT NULL, body text) PARTITION BY RANGE (day);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE UNIQUE INDEX "logs key" ON logs (id, day);
ALTER TABLE logs REPLICA IDENTITY USING INDEX "logs key";
CREATE TABLE traces (id bigint NOT NULL, organization_id text, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE traces_1 PARTITION OF traces FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY LIST (id);
CREATE TABLE "traces 1 a" PARTITION OF traces_1 DEFAULT;
CREATE UNIQUE INDEX ON traces (id, day);
ALTER TABLE traces REPLICA IDENTITY FULL;
INSERT INTO logs VALUES (1, 'moving', '2026-01-02'), (2, 'staying', '2026-01-02');
INSERT INTO traces VALUES (1, 'moving', '2026-01-02'), (2, 'staying', '2026-01-02');
INSERT INTO events (id, organization_id) VALUES (1, 'moving'), (2, 'staying');
CREATE TABLE subjects (id bigint PRIMARY KEY, organization_id text);
CREATE TABLE remarks (id bigint PRIMARY KEY, subject_type text, subject_id bigint);
CREATE TABLE remark_lines (id bigint PRIMARY KEY, remark_id bigint REFERENCES remarks ON DELETE CASCADE);
RESET ROLE;
`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.organizations" },
  tables: {
    "public.users": { clusterWide: true },
    "public.events": { organization: "organization_id" },
    "public.logs": { organization: "organization_id" },
    "public.traces": { organization: "organization_id" },
    "public.subjects": { organization: "organization_id" },
    "public.remarks": {
      typeColumn: "subject_type",
      idColumn: "subject_id",
      parents: { Subject: "public.subjects" },
    },
    "public.remark_lines": { parent: "public.remarks", column: "remark_id" },
    ...Object.fromEntries(
      TYPES.flatMap(({ name }) => [
        [`public.${name}s`, { organization: "organization_id" }],
        [`public.${name}_items`, { parent: `public.${name}s`, column: `${name}_id` }],
      ]),
    ),
  },
});

let cluster: Cluster;
let db: pg.Client;
let client: pg.Client;
let number = 0;

const INSTALL = { ownership: RULES, defaultPodId: POD_0, migrationId: SPLIT };

beforeAll(async () => {
  cluster = await Cluster.start({ podId: POD_0, settings: { wal_level: "logical" } });
  await cluster.query(SCHEMA);
  await cluster.query("CREATE PUBLICATION capture FOR ALL TABLES");
  db = await cluster.connect();
  await installGuard(db, INSTALL);
  await ensurePublication(db, "cleave_of_test", RULES);
  await stageRoutes(db, {
    migrationId: SPLIT,
    sourcePodId: POD_0,
    defaultPodId: POD_0,
    targetPodIds: [POD_1],
    assignments: new Map([["moving" as OrganizationId, POD_1]]),
    logical: true,
  });
  client = await writer(cluster);
}, 60_000);
afterAll(async () => {
  await client?.end();
  await db?.end();
  await cluster?.remove();
});

function nextEpoch() {
  number += 1;
  return epoch(number);
}

/** Rolled back. */
async function attempt(...statements: string[]): Promise<string> {
  await client.query("BEGIN");
  try {
    for (const sql of statements) {
      const result = await outcome(client.query(sql));
      if (result !== "ok") return `${result}: ${sql}`;
    }
    return await outcome(client.query("SET CONSTRAINTS ALL IMMEDIATE"));
  } finally {
    await client.query("ROLLBACK");
  }
}

async function underFence<T>(work: () => Promise<T>): Promise<T> {
  await raiseFence(db, lendFrom(cluster), {
    migrationId: SPLIT,
    epoch: nextEpoch(),
    targetPodIds: [POD_1],
    graceMs: 500,
  });
  try {
    return await work();
  } finally {
    await lowerFence(db, { migrationId: SPLIT, targetPodIds: [POD_1], epoch: null });
  }
}

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
      expect(await attempt(sql)).toBe("ok");
    });

    it("has the same owners, however the writer's search_path is", async () => {
      await underFence(async () => {
        for (const path of [`public, "Ext e"`, `"Ext e"`, "pg_catalog"]) {
          await client.query(`SET search_path = ${path}`);
          const items = `public.${name}_items`;
          expect(await attempt(`UPDATE ${items} SET note = 'x' WHERE n = 1`)).toMatch(/^CL503/);
          expect(await attempt(`INSERT INTO ${items} VALUES ('${again}', 3)`)).toMatch(/^CL503/);
          expect(await attempt(`INSERT INTO ${items} VALUES ('${second}', 3)`)).toBe("ok");
        }
        await client.query("RESET search_path");
      });
    });
  });
});

describe("after a first move, on the default Pod", () => {
  beforeAll(() => setShares(db, SPLIT, { [POD_1]: "opened" }, nextEpoch()));
  afterAll(() => setShares(db, SPLIT, { [POD_1]: "source" }, nextEpoch()));

  it.each(TYPES)(
    "a cascade finds its owner by $name, however it is written",
    async ({ name, values, again }) => {
      const [first, second] = values;
      expect(
        await attempt(
          `INSERT INTO ${name}s VALUES ('${second}', 'staying') ON CONFLICT DO NOTHING`,
          `DELETE FROM ${name}s WHERE id = '${second}'`,
        ),
      ).toBe("ok");
      expect(await attempt(`DELETE FROM ${name}s WHERE id = '${first}'`)).toMatch(/^CL421 pod-1/);
      expect(await attempt(`UPDATE ${name}_items SET note = 'x' WHERE ${name}_id = '${again}'`)).toMatch(
        /^CL421 pod-1/,
      );
    },
  );

  it("nor by another spelling than the parent's", async () => {
    expect(
      await attempt(
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
    expect(await attempt(sql)).toBe("ok");
  });

  it.each([
    ["a parent that is not here", "INSERT INTO remarks VALUES (1, 'Subject', 77)"],
    ["a type that no rule names", "INSERT INTO remarks VALUES (1, 'Other', 1)"],
  ])("a row with %s may be another Pod's", async (_, sql) => {
    expect(await attempt(sql)).toMatch(/^CL421 pod-1/);
  });

  it("a row of nobody does not become the organization's that left", async () => {
    expect(
      await attempt("INSERT INTO subjects VALUES (1)", "UPDATE subjects SET organization_id = 'moving'"),
    ).toMatch(/^CL421 pod-1/);
  });
});

describe("rows of nobody alone that dormant rows refer to", () => {
  beforeAll(async () => {
    await cluster.query(
      `INSERT INTO events (id, organization_id, user_id, reviewer_id) SELECT 100 + n, o, n, n FROM unnest('{moving,staying}'::text[]) WITH ORDINALITY AS t (o, n);
       INSERT INTO events (id, organization_id, user_id) VALUES (110, 'moving', 3), (111, 'staying', 3), (112, NULL, 3)`,
    );
    await setShares(db, SPLIT, { [POD_1]: "opened" }, nextEpoch());
  });
  afterAll(async () => {
    await setShares(db, SPLIT, { [POD_1]: "source" }, nextEpoch());
    await cluster.query("DELETE FROM events WHERE id > 99");
  });

  const left = async () =>
    (
      await client.query(
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
    await client.query("BEGIN");
    try {
      expect(await outcome(client.query(sql))).toBe("ok");
      expect(await left()).toEqual(expected);
    } finally {
      await client.query("ROLLBACK");
    }
  });

  it.each([
    "UPDATE events SET user_id = NULL WHERE id = 110",
    "DELETE FROM events WHERE id = 101",
    "DELETE FROM users WHERE id = 3; UPDATE events SET user_id = NULL WHERE id = 110",
  ])("nobody else changes them: %s", async (sql) => {
    expect(await attempt(sql)).toMatch(/^CL421 pod-1/);
  });

  it("nor does a trigger", async () => {
    expect(
      await attempt(
        "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE events SET user_id = NULL WHERE id = 110; RETURN NULL; END'",
        "CREATE TRIGGER rename AFTER UPDATE ON subjects FOR EACH STATEMENT EXECUTE FUNCTION rename()",
        "UPDATE subjects SET id = id",
      ),
    ).toMatch(/^CL421 pod-1/);
  });

  it("of one that is fenced has to wait a moment", async () => {
    await setShares(db, SPLIT, { [POD_1]: "source" }, nextEpoch());
    await underFence(async () => {
      expect(await attempt("DELETE FROM users WHERE id = 3")).toMatch(/^CL503/);
    });
    expect(await attempt("DELETE FROM users WHERE id = 3")).toBe("ok");
  });
});

describe("while an organization is fenced", () => {
  it("rows of nobody are written", async () => {
    await underFence(async () => {
      expect(await attempt("INSERT INTO subjects VALUES (1); UPDATE subjects SET id = 2")).toBe("ok");
      expect(await attempt("INSERT INTO subjects VALUES (1, 'moving')")).toMatch(/^CL503/);
    });
  });
});

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
    expect(await attempt(...statements)).toBe("ok");
  });

  it("are told apart as their table's rows are", async () => {
    await client.query(
      "BEGIN; CREATE TABLE logs_5 PARTITION OF logs DEFAULT; CREATE TABLE traces_5 PARTITION OF traces DEFAULT; CREATE TABLE events_5 PARTITION OF events DEFAULT",
    );
    const { rows } = await client.query(
      "SELECT relname, relreplident FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1",
    );
    await client.query("ROLLBACK");
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
    expect((await checkCatalog(db, RULES)).filter(({ code }) => code === "POSTGRES_SETTING")).toMatchObject([
      { severity: "warning", message: expect.stringMatching(/^the publication capture is of all tables/) },
    ]);
  });

  it("does not keep an abort from removing everything", async () => {
    const tables = ["moved", "touched", "schema_change", "departed", "verified"];
    expect(
      await Promise.all(tables.map((table) => outcome(cluster.query(`DELETE FROM cleave.${table}`)))),
    ).toEqual(tables.map(() => "ok"));
  });

  it("leaves none of Cleave's own without a key", async () => {
    expect(
      await cluster.query(
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
    expect(await attempt(...statements)).toBe("ok");
  });

  it("cannot name the guard's functions", async () => {
    const [row] = await cluster.query(
      "SELECT proname FROM pg_proc WHERE pronamespace = 'cleave'::regnamespace AND prorettype = 'trigger'::regtype AND proname ~ '^guard_[0-9a-f]{24}' LIMIT 1",
    );
    const name = (row as { proname: string }).proname;
    expect(
      await attempt(
        "CREATE TABLE mine (id bigint, organization_id text)",
        `CREATE TRIGGER forged BEFORE DELETE ON mine FOR EACH ROW EXECUTE FUNCTION cleave.${name}()`,
      ),
    ).toMatch(/^42501/);
  });

  it("is found out when it may not execute them", async () => {
    await cluster.query(
      "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'cleave'::regnamespace AND proname ~ '^guard_[0-9a-f]' LOOP EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM PUBLIC'; END LOOP; END $$",
    );
    expect((await verifyGuard(db, RULES)).length).toBeGreaterThan(0);
    await installGuard(db, INSTALL);
    expect(await verifyGuard(db, RULES)).toEqual([]);
  });
});
