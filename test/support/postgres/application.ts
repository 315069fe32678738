/** A Pod with an application's tables of every kind that is easily forgotten, guarded, published and staged for a move. */
import type pg from "pg";
import { installGuard } from "../../../agent/stores/postgres/fence/install.ts";
import { lowerFence, raiseFence } from "../../../agent/stores/postgres/fence/raise.ts";
import { stageRoutes } from "../../../agent/stores/postgres/fence/staging.ts";
import { ensurePublication } from "../../../agent/stores/postgres/move/publication.ts";
import type { Epoch, OrganizationId } from "../../../protocol/ids.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { Cluster } from "./postgres.ts";
import { epoch, lendFrom, outcome, POD_0, POD_1, SPLIT, writer } from "./scratch.ts";

/** Key types whose `=` is not PostgreSQL's own, with two values, and a second way to write the first. */
export const TYPES = [
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

export const RULES = Ownership.parse({
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

export const INSTALL = { ownership: RULES, defaultPodId: POD_0, migrationId: SPLIT };

export class Application {
  readonly cluster: Cluster;
  /** A superuser's. */
  readonly db: pg.Client;
  /** The application's own, who owns the tables and is no superuser. */
  readonly client: pg.Client;
  #epoch = 0;

  private constructor(cluster: Cluster, db: pg.Client, client: pg.Client) {
    this.cluster = cluster;
    this.db = db;
    this.client = client;
  }

  static async start(): Promise<Application> {
    const cluster = await Cluster.start({ podId: POD_0, settings: { wal_level: "logical" } });
    await cluster.query(SCHEMA);
    await cluster.query("CREATE PUBLICATION capture FOR ALL TABLES");
    const db = await cluster.connect();
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
    return new Application(cluster, db, await writer(cluster));
  }

  async remove(): Promise<void> {
    await this.client.end();
    await this.db.end();
    await this.cluster.remove();
  }

  nextEpoch(): Epoch {
    this.#epoch += 1;
    return epoch(this.#epoch);
  }

  /** What statements of one transaction come to, as the application; rolled back. */
  async attempt(...statements: string[]): Promise<string> {
    await this.client.query("BEGIN");
    try {
      for (const sql of statements) {
        const result = await outcome(this.client.query(sql));
        if (result !== "ok") return `${result}: ${sql}`;
      }
      return await outcome(this.client.query("SET CONSTRAINTS ALL IMMEDIATE"));
    } finally {
      await this.client.query("ROLLBACK");
    }
  }

  /** While the organization `moving` is fenced. */
  async underFence<T>(work: () => Promise<T>): Promise<T> {
    // Nobody compares rows here, so no fence would follow what the tables were altered by.
    await this.db.query("DELETE FROM cleave.schema_change");
    await raiseFence(this.db, lendFrom(this.cluster), {
      migrationId: SPLIT,
      epoch: this.nextEpoch(),
      targetPodIds: [POD_1],
      graceMs: 500,
    });
    try {
      return await work();
    } finally {
      await lowerFence(this.db, { migrationId: SPLIT, targetPodIds: [POD_1], epoch: null });
    }
  }
}
