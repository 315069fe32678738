/** What a move may not do, whatever becomes of it: to residents of its target, under a fence, and after the opening. */
import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { applySession } from "../../../../../agent/stores/postgres/move/apply-role.ts";
import {
  readTouched,
  saveVerified,
  snapshotOf,
} from "../../../../../agent/stores/postgres/verification/touched.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs, name text);
CREATE TABLE settings (project_id bigint, name text, value text, PRIMARY KEY (project_id, name));`;
const TABLES = ["orgs", "projects", "settings"];
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.settings": { parent: "public.projects", column: "project_id" },
  },
});
const rowsOf = (from: number, to: number) => `
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(${from}, ${to}) g;
INSERT INTO projects SELECT g * 10 + n, g, 'project' FROM generate_series(${from}, ${to}) g, generate_series(0, 9) n;
INSERT INTO settings SELECT id, 'colour', 'red' FROM projects WHERE org_id BETWEEN ${from} AND ${to};`;

let pods: MovePods;
const clients: pg.Client[] = [];

beforeEach(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  await pods.source.query(rowsOf(1, 3));
  await pods.target.query(rowsOf(90, 91));
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

it("an abort removes nothing of those whom the target serves", async () => {
  const contents = async () => {
    const found: unknown[] = [];
    for (const table of TABLES) found.push(await pods.target.query(`SELECT * FROM ${table} ORDER BY 1, 2`));
    return found;
  };
  const before = await contents();
  await pods.follow();
  expect(await contents()).not.toEqual(before);
  await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
  expect(await contents()).toEqual(before);
});

it("no comparison is remembered under a fence", async () => {
  await pods.follow();
  const db = await client("source");
  const remembered = async () => (await db.query("SELECT snapshot FROM cleave.verified")).rows;
  const snapshot = await snapshotOf(db);
  await eventually(async () => expect(await saveVerified(db, pods.migrationId, snapshot)).toBe(true));
  await pods.fence(1);
  const before = await remembered();
  expect(await saveVerified(db, pods.migrationId, await snapshotOf(db))).toBe(false);
  expect(await remembered()).toEqual(before);
});

it("what a backfill touched is compared piece by piece, at the fence too", async () => {
  await pods.follow();
  const db = await client("source");
  await db.query(
    "INSERT INTO settings SELECT 20, 'n' || g, 'of a backfill' FROM generate_series(1, 25000) g; UPDATE settings SET value = 'again' WHERE name < 'n2'",
  );
  const { pages } = await readTouched(db, pods.migrationId, null);
  const seen = new Set<string>();
  const sizes: number[] = [];
  for await (const page of pages) {
    sizes.push(page.length);
    for (const one of page) seen.add(JSON.stringify(one));
  }
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(seen.size);
  expect(seen.size).toBeGreaterThanOrEqual(25_000);
  expect(sizes.length).toBeGreaterThan(2);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(10_000);
  const { source, target } = await pods.fence(1);
  expect(target).toBe(source);
  const CONTENTS =
    "SELECT count(*)::int AS n, md5(string_agg(name || value, '' ORDER BY name)) FROM settings WHERE project_id = 20";
  expect(await pods.target.query(CONTENTS)).toEqual(await pods.source.query(CONTENTS));
});

it("the gate is closed to a late copy once the target is activated", async () => {
  await pods.follow();
  const late = await client("target");
  const { setup, gate } = applySession(pods.migrationId, TO);
  await late.query(setup);
  await late.query(`BEGIN; ${gate}; ROLLBACK`);
  await pods.fence(1);
  await pods.reach(FROM, "yield", { epoch: 1, phase: "transferred" });
  await pods.reach(TO, "activate", { epoch: 1, phase: "transferred" });
  await expect(late.query(`BEGIN; ${gate}`)).rejects.toMatchObject({ code: "CL409" });
  await late.query("ROLLBACK");
});

it("an abort removes what a copy that was given up had still to commit", async () => {
  await pods.follow();
  const late = await client("target");
  const { setup, gate } = applySession(pods.migrationId, TO);
  await late.query(setup);
  await late.query(`BEGIN; ${gate}; INSERT INTO projects VALUES (999, 2, 'late')`);
  await pods.reach(FROM, "release");
  let isOver = false;
  const released = pods.reach(TO, "release").then(() => {
    isOver = true;
  });
  await eventually(async () => {
    const waiting = await pods.target.query(
      "SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted",
    );
    expect(waiting).toHaveLength(1);
  });
  expect(isOver).toBe(false);
  await late.query("COMMIT");
  await released;
  expect(await pods.target.query("SELECT FROM projects WHERE org_id = 2")).toEqual([]);
});
