/** What a copy of a whole server would do a second time: named before anything begins, and kept from doing it. */
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  never,
  SOURCE,
  type TargetPod,
  targetId,
} from "../../../../support/postgres/pods.ts";
import { Cluster, signalServer } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
let publisher: Cluster;
let pods: Assembly;
let pod: TargetPod;
let source: PostgresStore;
let target: PostgresStore;
let undo: () => Promise<unknown> = async () => undefined;

beforeAll(async () => {
  const tables = { "public.feed": { local: true }, 'public.od"d': { local: true } } as const;
  [publisher, pods] = await Promise.all([
    Cluster.start({ podId: "publisher", settings: { wal_level: "logical" } }),
    assemble({
      cluster: { settings: { wal_level: "logical" } },
      schema: `CREATE TABLE feed (id bigint PRIMARY KEY); CREATE TABLE "od""d" (id bigint PRIMARY KEY)`,
      tables,
    }),
  ]);
  pod = pods.targets[0] as TargetPod;
  source = pods.store(SOURCE);
  target = pods.store(TARGET);
}, 60_000);
afterEach(async () => {
  await undo();
  undo = async () => undefined;
});
afterAll(async () => {
  await pods.remove();
  await publisher.remove();
}, 60_000);

const start = (settings: object = {}) => {
  const duty = pods.duty(SOURCE, "prepare");
  return source.preflight({ ...duty, settings: { ...duty.settings, ...settings } }, "start", never);
};
const other = (sql: string) => async () => {
  const client = await pods.source.connect("postgres");
  await client.query(sql);
  await client.end();
};

it.each([
  [
    "a publication",
    "CREATE PUBLICATION everything FOR ALL TABLES",
    "DROP PUBLICATION everything",
    /^the publication everything is copied/,
  ],
  [
    "a slot of change data capture",
    "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')",
    "SELECT pg_drop_replication_slot('cdc')",
    /^the logical slot cdc \(of the database pod\) is not copied/,
  ],
  [
    "a replication origin",
    "SELECT pg_replication_origin_create('from far')",
    "SELECT pg_replication_origin_drop('from far')",
    /^the replication origin from far is copied/,
  ],
  [
    "a foreign server",
    "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far.example', dbname 'b')",
    "DROP EXTENSION postgres_fdw CASCADE",
    /^the foreign server far \(host=far\.example dbname=b\) is copied/,
  ],
  [
    "a function that uses dblink",
    "CREATE EXTENSION dblink; CREATE FUNCTION call() RETURNS text LANGUAGE sql AS $$ SELECT dblink_connect('host=far') $$",
    "DROP FUNCTION call(); DROP EXTENSION dblink",
    /^the function public\.call\(\) opens connections of its own/,
  ],
  [
    "a scheduled job",
    "CREATE SCHEMA cron; CREATE VIEW cron.job AS SELECT 7 AS jobid, 'VACUUM' AS command, true AS active",
    "DROP SCHEMA cron CASCADE",
    /^the scheduled job 7 \(VACUUM\) \(pg_cron\) would run on every new Pod/,
  ],
])("names %s", async (_, sql, after, message) => {
  await pods.source.query(sql);
  undo = () => pods.source.query(after);
  expect(await start()).toContainEqual(
    expect.objectContaining({
      severity: "warning",
      code: "POSTGRES_ACTS_TWICE",
      message: expect.stringMatching(message),
    }),
  );
});

it("names nothing of PostgreSQL's own", async () => {
  expect(await start()).toEqual([]);
});

it("refuses a second database unless the plan accepts it by name, and looks into the one that every server has", async () => {
  const refused = (name: string) =>
    expect.objectContaining({
      severity: "error",
      code: "POSTGRES_UNFENCEABLE",
      message: expect.stringMatching(`^the database ${name} would be copied too`),
    });
  await pods.source.query(`CREATE DATABASE "els:e"`);
  undo = () => pods.source.query(`DROP DATABASE "els:e"`);
  expect(await start()).toContainEqual(refused("els:e"));
  expect(await start({ acceptedDatabases: ["another"] })).toContainEqual(refused("els:e"));
  const accepted = await start({ acceptedDatabases: ["els:e"] });
  expect(accepted.filter(({ severity }) => severity === "error")).toEqual([]);
  expect(accepted.map(({ message }) => message)).toContainEqual(
    expect.stringMatching(/^the database els:e is copied too, .* the plan accepts that$/),
  );
  await other("CREATE TABLE things (id int)")();
  expect(await start({ acceptedDatabases: ["els:e"] })).toContainEqual(refused("postgres"));
  await other("DROP TABLE things")();
  await pods.source.query(`ALTER DATABASE "els:e" ALLOW_CONNECTIONS false`);
  expect(await start()).toContainEqual(refused("els:e"));
});

it("leaves a subscription to the source alone, whatever happens to its connection", async () => {
  const { host, port, user, password, database } = publisher.connection;
  const quoted = password.replaceAll("\\", "\\\\").replaceAll("'", "\\'");
  const to = `host=${host} port=${port} user=${user} dbname=${database} password='${quoted}'`;
  await publisher.query(
    `CREATE TABLE feed (id bigint PRIMARY KEY); CREATE TABLE "od""d" (id bigint PRIMARY KEY); CREATE PUBLICATION feed FOR ALL TABLES`,
  );
  await pods.source.query(
    `CREATE SUBSCRIPTION "fe""ed" CONNECTION '${to.replaceAll("'", "''")}' PUBLICATION feed WITH (slot_name = feed)`,
  );
  expect((await start()).map(({ message }) => message)).toContainEqual(
    expect.stringMatching(/^the subscription fe"ed \(of the database pod\) stays the source's/),
  );

  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  await source.preflight(pods.duty(SOURCE, "serve"), "fence", never);
  const fenced = { epoch: 1, phase: "fenced" } as const;
  await source.reach(pods.duty(SOURCE, "fence", fenced), never);
  await target.reach(pods.duty(TARGET, "match", fenced), never);
  await target.reach(pods.duty(TARGET, "activate", { epoch: 1, phase: "transferred" }), never);
  const dropConnections = () =>
    publisher.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
  const onTarget = async (sql: string) => {
    const client = await connectTo(pod);
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  };
  const WORKERS = "SELECT pid FROM pg_stat_activity WHERE backend_type ~ '^logical replication'";
  // Promoted, and nobody has disabled anything yet.
  expect(await onTarget(WORKERS)).toEqual([]);
  await target.reach(pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
  await source.reach(pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
  await expect
    .poll(() => onTarget("SELECT subenabled AS enabled, subslotname AS slot FROM pg_subscription"))
    .toEqual([{ enabled: false, slot: null }]);
  await expect.poll(() => onTarget("SHOW primary_conninfo")).toEqual([{ primary_conninfo: "" }]);
  // Its next start has workers again, for the operator's own.
  await signalServer(pod.dataDirectory, "SIGKILL");
  await target.reach(pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
  expect(await onTarget(WORKERS)).toHaveLength(1);
  for (let id = 1; id <= 3; id++) {
    await dropConnections();
    await publisher.query("INSERT INTO feed VALUES ($1)", [id]);
    await expect
      .poll(() => pods.source.query("SELECT count(*)::int AS n FROM feed"), { timeout: 15_000 })
      .toEqual([{ n: id }]);
  }
  expect(await onTarget("SELECT * FROM feed")).toEqual([]);
  await pods.source.query(`DROP SUBSCRIPTION "fe""ed"`);
}, 90_000);
