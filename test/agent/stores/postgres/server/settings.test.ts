/** Whatever a database and a role have been given, Cleave's sessions are the same: a move runs through on hostile ones. */
import pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import { connect, discard } from "../../../../../agent/stores/postgres/server/connection.ts";
import {
  SESSION_OPTIONS,
  SESSION_SETTINGS,
} from "../../../../../agent/stores/postgres/server/session-settings.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import { type Cluster, DATABASE, USER } from "../../../../support/postgres/postgres.ts";

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE days (org_id bigint NOT NULL REFERENCES orgs, day date, PRIMARY KEY (org_id, day));
CREATE TABLE moments (org_id bigint NOT NULL REFERENCES orgs, at timestamptz, length interval, PRIMARY KEY (org_id, at, length));
CREATE TABLE points (org_id bigint NOT NULL REFERENCES orgs, x float8, PRIMARY KEY (org_id, x));
CREATE TABLE hashes (org_id bigint NOT NULL REFERENCES orgs, digest bytea, price money, words text[], page xml, PRIMARY KEY (org_id, digest));
CREATE TABLE spans (org_id bigint NOT NULL REFERENCES orgs, during tstzrange, PRIMARY KEY (org_id, during));`;

const owned = { organization: "org_id" } as const;
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.days": owned,
    "public.moments": owned,
    "public.points": owned,
    "public.hashes": owned,
    "public.spans": owned,
  },
});
const TABLES = ["days", "moments", "points", "hashes", "spans"];

const row = (org: number, n: number) => `
INSERT INTO days VALUES (${org}, date '2024-03-0${n}');
INSERT INTO moments VALUES (${org}, timestamptz '2024-03-0${n} 01:02:03.456789+00', make_interval(0, -1, 0, ${n}, -2, 3, 4));
INSERT INTO points VALUES (${org}, ${n} / 3.0::float8);
INSERT INTO hashes VALUES (${org}, decode('5c27ff0${n}', 'hex'), ${n}.5::float8::numeric::money, ARRAY[NULL, 'NULL', '']::text[], xmlparse(CONTENT 'a<b/>'));
INSERT INTO spans VALUES (${org}, tstzrange(timestamptz '2024-03-0${n} 01:00:00+00', timestamptz '2024-03-0${n} 02:00:00+00'));`;

/** Each of them broke something when Cleave's sessions took it over. */
const HOSTILE: Readonly<Record<string, string>> = {
  statement_timeout: "3ms",
  lock_timeout: "1ms",
  idle_in_transaction_session_timeout: "5ms",
  default_transaction_read_only: "on",
  default_transaction_isolation: "serializable",
  DateStyle: "German, DMY",
  IntervalStyle: "sql_standard",
  bytea_output: "escape",
  extra_float_digits: "-10",
  xmloption: "document",
  array_nulls: "off",
  quote_all_identifiers: "on",
  TimeZone: "Asia/Tokyo",
  standard_conforming_strings: "off",
  search_path: "elsewhere",
  row_security: "on",
  session_replication_role: "replica",
  synchronous_commit: "off",
  role: "pg_read_all_data",
  jit: "on",
};

const clients: pg.Client[] = [];
let pods: MovePods | null = null;

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)));
  await pods?.remove();
  pods = null;
});

/** As Cleave's own, for what the test itself looks at. */
async function sane(cluster: Cluster): Promise<pg.Client> {
  return await made(cluster, SESSION_OPTIONS);
}

async function made(cluster: Cluster, options: string): Promise<pg.Client> {
  const client = new pg.Client({ ...cluster.connection, options });
  client.on("error", () => undefined);
  await client.connect();
  clients.push(client);
  return client;
}

async function harden(cluster: Cluster, of: string): Promise<void> {
  const db = await sane(cluster);
  for (const [name, value] of Object.entries(HOSTILE))
    await db.query(`ALTER ${of} SET ${name} = ${pg.escapeLiteral(value)}`);
}

async function contents(cluster: Cluster): Promise<unknown[]> {
  const db = await sane(cluster);
  const found: unknown[] = [];
  for (const table of TABLES) {
    const { rows } = await db.query(
      `SELECT "row"::text AS text FROM public.${table} AS "row" WHERE org_id = 2 ORDER BY 1`,
    );
    found.push({ table, rows });
  }
  return found;
}

describe("a connection of Cleave's", () => {
  it.each([
    ["the database", `DATABASE ${DATABASE}`],
    ["the role", `ROLE ${USER}`],
  ])("has every setting that it relies on, whatever %s has been given", async (_name, of) => {
    pods = await MovePods.start(SCHEMA, RULES, ["2"]);
    await harden(pods.source, of);
    for (const pipeline of [false, true]) {
      const db = await connect(pods.source.connection, { applicationName: "test", pipeline });
      for (const [name, value] of Object.entries({
        ...SESSION_SETTINGS,
        session_replication_role: "origin",
      })) {
        const { rows } = await db.query<{ value: string }>(
          "SELECT coalesce((SELECT setting FROM pg_settings WHERE lower(name) = $1), current_setting($1)) AS value",
          [name],
        );
        expect([name, rows[0]?.value]).toEqual([name, value]);
      }
      discard(db);
    }
  });

  it("of an operator's SQL is as the database and the role have it", async () => {
    pods = await MovePods.start(SCHEMA, RULES, ["2"]);
    const db = await sane(pods.source);
    await db.query(`ALTER DATABASE ${DATABASE} SET search_path = elsewhere`);
    const theirs = await connect(pods.source.connection, { applicationName: "test", asConfigured: true });
    expect((await theirs.query("SHOW search_path")).rows).toEqual([{ search_path: "elsewhere" }]);
    discard(theirs);
  });
});

describe("a move between databases with hostile settings", () => {
  it.each([
    ["database", `DATABASE ${DATABASE}`],
    ["role", `ROLE ${USER}`],
  ])("of the %s carries everything over", async (_name, of) => {
    pods = await MovePods.start(SCHEMA, RULES, ["2"]);
    const { source, target } = pods;
    await source.query(
      `INSERT INTO orgs VALUES (1, 'one'), (2, 'two'); ${row(1, 1)} ${row(2, 1)} ${row(2, 2)}`,
    );
    await harden(source, of);
    await harden(target, of);
    await pods.follow();
    // A writer with settings of its own: what it notes is found all the same.
    const writer = await made(
      source,
      "-c search_path=public -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c session_replication_role=origin -c role=none",
    );
    await writer.query(row(2, 3));
    await eventually(async () => {
      expect(await contents(target as Cluster)).toEqual(await contents(source as Cluster));
    });
    const evidence = await pods.fence(1);
    expect(evidence.target).toBe(evidence.source);
    await pods.transfer(1);
    expect(await contents(target)).toEqual(await contents(source));
    expect(pods.status(TO).problems).toEqual([]);
  });
});
