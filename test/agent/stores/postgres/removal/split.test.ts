/** Dormant rows are removed after a split, on real servers: on a promoted clone whatever is not its own, on the source what left. */
import type pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import { PACE } from "../../../../../agent/stores/postgres/removal/pace.ts";
import { quoteIdentifier } from "../../../../../agent/stores/postgres/server/queryable.ts";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import type { Removal } from "../../../../../protocol/ports/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  SOURCE,
  type TargetPod,
  targetId,
} from "../../../../support/postgres/pods.ts";
import { HOSTILE_COLUMN, HOSTILE_TABLE } from "../../../../support/postgres/scratch.ts";

const WEIRD = quoteIdentifier(HOSTILE_TABLE);
const COLUMN = quoteIdentifier(HOSTILE_COLUMN);
/** With rows that no key names, some of them equal; and with ones in partitions, of which one has no key order. */
const SCHEMA = `
CREATE TABLE plans (id bigint PRIMARY KEY);
CREATE TABLE blobs (oid text PRIMARY KEY);
CREATE TABLE jobs (id bigint PRIMARY KEY);
CREATE TABLE logs (note_id bigint REFERENCES notes, line text);
CREATE INDEX ON logs (note_id);
CREATE TABLE events (id bigint, month int, organization_id bigint, PRIMARY KEY (id, month)) PARTITION BY LIST (month);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_rest PARTITION OF events DEFAULT PARTITION BY LIST (month);
CREATE TABLE events_rest_leaf PARTITION OF events_rest DEFAULT;
CREATE TABLE samples (organization_id bigint, taken float8, PRIMARY KEY (organization_id, taken)) PARTITION BY HASH (taken);
CREATE TABLE samples_0 PARTITION OF samples FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE samples_1 PARTITION OF samples FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE ${WEIRD} (${COLUMN} bigint, line text);
INSERT INTO plans SELECT generate_series(1, 5);
INSERT INTO blobs SELECT 'blob ' || g FROM generate_series(1, 5) g;
INSERT INTO jobs SELECT generate_series(1, 5);
INSERT INTO logs SELECT id, 'line' FROM notes, generate_series(1, 3);
INSERT INTO events SELECT g, g % 3, 1 + g % 10 FROM generate_series(1, 600) g;
INSERT INTO samples SELECT 1 + g % 10, g / 7.0 FROM generate_series(1, 600) g;
INSERT INTO ${WEIRD} SELECT 1 + g % 10, repeat('x', 300) FROM generate_series(1, 3000) g;`;
const TABLES = {
  "public.plans": { clusterWide: true },
  "public.blobs": { shared: true },
  "public.jobs": { local: true },
  "public.logs": { parent: "public.notes", column: "note_id", parentKey: "id" },
  "public.events": { organization: "organization_id" },
  "public.samples": { organization: "organization_id" },
  [`public.${HOSTILE_TABLE}`]: { organization: HOSTILE_COLUMN },
} as const;

/** Whose a row is, written out by hand. */
const ROWS: Readonly<Record<string, string>> = {
  organizations: "id",
  notes: "organization_id",
  logs: "(SELECT organization_id FROM notes WHERE notes.id = t.note_id)",
  events: "organization_id",
  samples: "organization_id",
  [WEIRD]: COLUMN,
};
const NOBODYS = ["plans", "blobs", "jobs"];

type Contents = Record<string, Record<string, string>>;

/** Per table the number and digest of each organization's rows. */
async function contents(db: pg.Client): Promise<Contents> {
  const found: Contents = {};
  for (const table of [...Object.keys(ROWS), ...NOBODYS]) {
    const { rows } = await db.query<{ owner: string; digest: string }>(
      `SELECT owner::text, count(*) || ' ' || md5(string_agg(content, '|' ORDER BY content)) AS digest
         FROM (SELECT ${ROWS[table] ?? "'nobody'"} AS owner, t::text AS content FROM ${table} t) r GROUP BY owner`,
    );
    found[table] = Object.fromEntries(rows.map(({ owner, digest }) => [owner, digest]));
  }
  return found;
}

/** What is left of it when only these organizations' rows are. */
const only = (all: Contents, keep: (owner: string) => boolean): Contents =>
  Object.fromEntries(
    Object.entries(all).map(([table, owners]) => [
      table,
      Object.fromEntries(Object.entries(owners).filter(([owner]) => owner === "nobody" || keep(owner))),
    ]),
  );

const YES: Removal = { mayRemove: () => true };
const FENCED = { epoch: 1, phase: "fenced" } as const;
const TRANSFERRED = { epoch: 1, phase: "transferred" } as const;
const OPENED = { epoch: 1, phase: "opened", removal: YES } as const;
const [FIRST, SECOND] = [targetId(0), targetId(1)];

let pods: Assembly;
let source: PostgresStore;
let targets: PostgresStore[];
const clients: pg.Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()));
  await pods.remove();
}, 60_000);

async function start(): Promise<void> {
  pods = await assemble({
    targets: 2,
    rows: 500,
    schema: SCHEMA,
    tables: TABLES,
    pace: { ...PACE, batchRows: 60, groupOrganizations: 4 },
  });
  source = pods.store(SOURCE);
  targets = [pods.store(FIRST), pods.store(SECOND)];
  await Promise.all([
    source.reach(pods.duty(SOURCE, "prepare"), never),
    ...targets.map((store, n) => store.reach(pods.duty(targetId(n), "seed"), never)),
  ]);
  for (const [n, store] of targets.entries()) await store.reach(pods.duty(targetId(n), "follow"), never);
}

async function client(pod: TargetPod | "source"): Promise<pg.Client> {
  const made = pod === "source" ? await pods.source.connect() : await connectTo(pod);
  clients.push(made);
  return made;
}

async function fenceAndMatch(which: readonly number[]): Promise<void> {
  await Promise.all([
    source.reach(pods.duty(SOURCE, "fence", FENCED), never),
    ...which.map((n) => targets[n]?.reach(pods.duty(targetId(n), "match", FENCED), never)),
  ]);
  await source.reach(pods.duty(SOURCE, "yield", TRANSFERRED), never);
  for (const n of which) await targets[n]?.reach(pods.duty(targetId(n), "activate", TRANSFERRED), never);
}

describe("after a split", () => {
  it("a target keeps its own organizations, and the source those that stayed", async () => {
    await start();
    await fenceAndMatch([0, 1]);
    for (const [n, store] of targets.entries())
      await store.reach(pods.duty(targetId(n), "open", OPENED), never);
    await source.reach(pods.duty(SOURCE, "yield", OPENED), never);
    const [first, second] = pods.targets as [TargetPod, TargetPod];
    const [here, there, other] = [await client("source"), await client(first), await client(second)];
    const all = await contents(here);
    expect(await contents(there)).toEqual(all);
    for (const [n, store] of targets.entries())
      await store.reach(pods.duty(targetId(n), "removeFiles", OPENED), never);
    await source.reach(pods.duty(SOURCE, "removeFiles", OPENED), never);

    const duty = pods.duty(FIRST, "removeRows", OPENED);
    const findings = await (targets[0] as PostgresStore).preflight(
      { ...duty, removal: null },
      "removal",
      never,
    );
    expect(findings.map(({ severity }) => severity)).toEqual(Array(7).fill("info"));
    // 9 of 10 organizations, of 10 + 500 + 1500 + 600 + 600 + 3000 rows.
    expect(findings[0]?.message).toMatch(
      /^5589 rows in 6 tables, about [\d.]+ (kB|MB), of 9 organizations would/,
    );

    // The log does not give organization 5 away yet: another migration claims it.
    const claimed: Removal = { mayRemove: (id) => id !== "5" };
    await expect(targets[0]?.reach({ ...duty, removal: claimed }, never)).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringMatching(/^organization 5: [^;]*$/),
    });
    expect(await contents(there)).toEqual(only(all, (owner) => owner === "1" || owner === "5"));
    const again = pods.store(FIRST);
    await again.reach(duty, never);
    expect(again.status(MIGRATION)).toMatchObject({ reached: true, problems: [] });
    expect(await contents(there)).toEqual(only(all, (owner) => owner === "1"));
    await pods.store(FIRST).reach(duty, never);
    expect(await contents(there)).toEqual(only(all, (owner) => owner === "1"));
    await there.query("INSERT INTO notes (organization_id, body) VALUES (1, 'x')");
    await expect(
      there.query("INSERT INTO notes (organization_id, body) VALUES (5, 'x')"),
    ).rejects.toMatchObject({ code: "CL421" });

    // This Pod's routes say that organization 7 may come to it, and 8 is its own, whatever the log says.
    await other.query(
      `INSERT INTO cleave.route VALUES ('7', '${SOURCE}', 'another', '${SECOND}'), ('8', '${SECOND}', NULL, NULL)`,
    );
    const second7 = pods.duty(SECOND, "removeRows", OPENED);
    await expect(targets[1]?.reach(second7, never)).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringMatching(/^organization 7: it is staged here for the migration another$/),
    });
    expect(await contents(other)).toEqual(only(all, (owner) => ["2", "7", "8"].includes(owner)));
    await other.query("DELETE FROM cleave.route WHERE organization_id = '7'");
    await pods.store(SECOND).reach(second7, never);
    expect(await contents(other)).toEqual(only(all, (owner) => ["2", "8"].includes(owner)));

    await source.reach(pods.duty(SOURCE, "removeRows", OPENED), never);
    expect(await contents(here)).toEqual(only(all, (owner) => owner !== "1" && owner !== "2"));
    expect((await here.query("SELECT slot_name FROM pg_replication_slots")).rows).toEqual([]);
    const routes = "SELECT organization_id, pod_id, migration_id FROM cleave.route ORDER BY 1";
    expect((await here.query(routes)).rows).toEqual([
      { organization_id: "1", pod_id: FIRST, migration_id: null },
      { organization_id: "2", pod_id: SECOND, migration_id: null },
    ]);
    expect((await there.query(routes)).rows).toEqual((await here.query(routes)).rows);
    await here.query("INSERT INTO notes (organization_id, body) VALUES (5, 'x')");
    await expect(
      here.query("INSERT INTO notes (organization_id, body) VALUES (1, 'x')"),
    ).rejects.toMatchObject({ code: "CL421", detail: FIRST });
  }, 120_000);

  it("a target that gave its share back stays closed: a standby as it is, a promoted one without rows", async () => {
    await start();
    await fenceAndMatch([1]);
    const revoked = { epoch: 1, phase: "source", removal: YES } as const;
    const [first, second] = pods.targets as [TargetPod, TargetPod];
    const [here, there, other] = [await client("source"), await client(first), await client(second)];
    const all = await contents(here);
    await source.reach(pods.duty(SOURCE, "yield", { epoch: 1, phase: "source" }), never);
    for (const [n, store] of targets.entries())
      await store.reach(pods.duty(targetId(n), "removeRows", revoked), never);
    expect(targets[0]?.status(MIGRATION)).toMatchObject({ goal: "removeRows", reached: true });
    expect(await contents(there)).toEqual(all);
    expect(await contents(other)).toEqual(only(all, () => false));
    await expect(other.query("INSERT INTO organizations VALUES (3)")).rejects.toMatchObject({
      code: "CL421",
    });
    await source.reach(pods.duty(SOURCE, "removeRows", revoked), never);
    expect(await contents(here)).toEqual(all);
    await here.query("INSERT INTO notes (organization_id, body) VALUES (1, 'x')");
    expect((await here.query("SELECT FROM pg_namespace WHERE nspname = 'cleave'")).rows).toEqual([]);
  }, 120_000);
});
