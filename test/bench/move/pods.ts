/**
 * Two servers for the benchmarks of a move. The schema is one on which the server's own row filters work: every table
 * names the organization, and in its key, for a filtered update needs its columns in the replica identity.
 *
 * The target has a database for each contender, so that they meet the same server in the same state.
 */
import type pg from "pg";
import type { Endpoint } from "../../../agent/stores/postgres/config.ts";
import { readSchema } from "../../../agent/stores/postgres/inventory/schema.ts";
import { type Moving, planMove } from "../../../agent/stores/postgres/replication/moved-tables.ts";
import type { OrganizationId } from "../../../protocol/ids.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { Cluster, DATABASE, PASSWORD, USER } from "../../support/postgres/postgres.ts";

export const OURS = "1" as OrganizationId;
export const TABLES = ["projects", "items", "events"] as const;
const ORGANIZATIONS = 10;

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (org_id bigint, id bigint, name text, settings jsonb, PRIMARY KEY (org_id, id));
CREATE TABLE items (org_id bigint, id bigint, project_id bigint, title text, body text, amount numeric(12, 2), at timestamptz, PRIMARY KEY (org_id, id));
CREATE INDEX ON items (project_id);
CREATE TABLE events (org_id bigint, id bigint, item_id bigint, kind int, at timestamptz, data text, PRIMARY KEY (org_id, id));
CREATE SCHEMA cleave;
CREATE TABLE cleave.marker (id int PRIMARY KEY, token text);`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: Object.fromEntries(TABLES.map((table) => [`public.${table}`, { organization: "org_id" }])),
});

/** `rows` items of each organization, as many events, and a hundredth of it projects. */
const dataOf = (rows: number, organizations: number) => `
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, ${organizations}) g;
INSERT INTO projects SELECT o, g, 'project ' || g, jsonb_build_object('colour', g % 7) FROM generate_series(1, ${Math.ceil(rows / 100)}) g, generate_series(1, ${organizations}) o;
INSERT INTO items SELECT o, g, 1 + g % ${Math.ceil(rows / 100)}, 'item ' || g, repeat(md5(g::text), 4), g / 7.0, '2024-01-01'::timestamptz + g * interval '1 minute' FROM generate_series(1, ${rows}) g, generate_series(1, ${organizations}) o;
INSERT INTO events SELECT o, g, g, g % 5, '2024-01-01'::timestamptz + g * interval '1 minute', md5(g::text) FROM generate_series(1, ${rows}) g, generate_series(1, ${organizations}) o;
ANALYZE;`;

/** A server that has room for what is measured, and durable commits. */
const SETTINGS = {
  wal_level: "logical",
  shared_buffers: "256MB",
  max_wal_size: "4GB",
  checkpoint_timeout: "30min",
  max_wal_senders: "20",
  max_replication_slots: "20",
  max_worker_processes: "20",
  max_logical_replication_workers: "12",
  max_sync_workers_per_subscription: "4",
  // A worker that was just ended is not started again before this: it would be measured, and is not what is meant.
  wal_retrieve_retry_interval: "10ms",
};

export type Contender = "cleave" | "native" | "dump";

export class BenchPods {
  readonly source: Cluster;
  readonly target: Cluster;
  readonly #clients: pg.Client[] = [];

  private constructor(source: Cluster, target: Cluster) {
    this.source = source;
    this.target = target;
  }

  /** @param rows items of each organization */
  static async start(rows: number): Promise<BenchPods> {
    const [source, target] = await Promise.all([
      Cluster.start({ podId: "pod-0", settings: SETTINGS }),
      Cluster.start({ podId: "pod-1", settings: SETTINGS }),
    ]);
    const pods = new BenchPods(source, target);
    await source.query(SCHEMA);
    await source.query(dataOf(rows, ORGANIZATIONS));
    // pg_dump knows no rows but all of them, so it gets a database that has this organization's alone.
    await source.query("CREATE DATABASE alone");
    const alone = await pods.connect(source, "alone");
    await alone.query(SCHEMA);
    await alone.query(dataOf(rows, 1));
    await alone.query("VACUUM");
    await source.query("VACUUM");
    for (const contender of ["cleave", "native", "dump"] as const) {
      await target.query(`CREATE DATABASE ${contender}`);
      await (await pods.on(contender)).query(SCHEMA);
    }
    return pods;
  }

  /** A connection that stays open until the end. */
  async connect(cluster: Cluster, database: string): Promise<pg.Client> {
    const client = await cluster.connect(database);
    this.#clients.push(client);
    return client;
  }

  /** To a contender's database on the target. */
  on(contender: Contender): Promise<pg.Client> {
    return this.connect(this.target, contender);
  }

  async moving(): Promise<Moving> {
    const here = await readSchema(await this.connect(this.source, DATABASE));
    const there = await readSchema(await this.on("cleave"));
    return planMove(here, there, RULES, [OURS]);
  }

  /** Empty tables, and nothing left to write from before. */
  async clean(contender: Contender): Promise<void> {
    const db = await this.on(contender);
    await db.query(`TRUNCATE orgs, ${TABLES.join(", ")}`);
    // Where a copy remembers what it has done.
    await db.query("DROP TABLE IF EXISTS cleave.copied, cleave.copying");
    await db.query("CHECKPOINT");
    await this.source.query("CHECKPOINT");
  }

  /** Rows of the organization on the target, to be sure that the contenders did the same. */
  async count(contender: Contender): Promise<number> {
    const db = await this.on(contender);
    const counts = TABLES.map((table) => `(SELECT count(*) FROM ${table} WHERE org_id = ${OURS})`);
    const { rows } = await db.query<{ n: number }>(`SELECT (${counts.join(" + ")})::int AS n`);
    return rows[0]?.n ?? 0;
  }

  /** For the server itself, which connects to the other one. */
  get conninfo(): string {
    const quoted = PASSWORD.replaceAll(/[\\']/g, "\\$&");
    return `host=127.0.0.1 port=${this.source.port} user=${USER} dbname=${DATABASE} password='${quoted}'`;
  }

  endpoint(side: "source" | "target", database: string = DATABASE): Endpoint {
    const { port } = this[side];
    return { host: "127.0.0.1", port, database, user: USER, password: PASSWORD };
  }

  async remove(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
    await Promise.all([this.source.remove(), this.target.remove()]);
  }
}

/** The publications: everything for Cleave, which classifies by itself; rows of the organization for a subscription. */
export async function publish(source: pg.ClientBase): Promise<void> {
  await source.query(
    `CREATE PUBLICATION cleave_bench FOR TABLE public.orgs, ${TABLES.join(", ")}, cleave.marker`,
  );
  await source.query(
    `CREATE PUBLICATION native_bench FOR TABLE public.orgs WHERE (id = ${OURS}), ${TABLES.map((table) => `${table} WHERE (org_id = ${OURS})`).join(", ")}, cleave.marker`,
  );
}

/** Seconds of some work. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1_000;
}
