/** An ordinary deployment and a nightly partition job, as an application makes them while it serves. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { PodLayout } from "../../examples/quickstart/cluster/layout.ts";

/**
 * A column comes, is filled in batches and gets an index; another comes and goes; partitions come, are attached, detached
 * and dropped. On tables that the traffic writes, and with partitions that are empty: the audit compares all other rows with
 * what they were before. `release` is 1 or 2.
 */
function statements(release: number): readonly string[] {
  const year = 2026 - 2 * release;
  const weight = `weight_${release}`;
  const from = (first: number) => `FOR VALUES FROM ('${first}-01-01') TO ('${first + 1}-01-01')`;
  return [
    `ALTER TABLE project_statistics ADD COLUMN ${weight} integer NOT NULL DEFAULT 1, ADD COLUMN draft text`,
    ...[0, 1, 2, 3].map(
      (rest) => `UPDATE project_statistics SET ${weight} = 2, draft = 'x' WHERE slot % 4 = ${rest}`,
    ),
    `CREATE INDEX CONCURRENTLY project_statistics_by_${weight} ON project_statistics (${weight})`,
    "ALTER TABLE project_statistics DROP COLUMN draft",
    `CREATE TABLE pipelines_${101 + release} PARTITION OF pipelines FOR VALUES IN (${101 + release})`,
    `CREATE TABLE audit_events_${year} (LIKE audit_events INCLUDING ALL)`,
    `ALTER TABLE audit_events ATTACH PARTITION audit_events_${year} ${from(year)}`,
    `CREATE TABLE audit_events_${year - 1} PARTITION OF audit_events ${from(year - 1)}`,
    `ALTER TABLE audit_events DETACH PARTITION audit_events_${year - 1}`,
    `DROP TABLE audit_events_${year - 1}`,
  ];
}
/** A deployment that waits for a lock gives way to the application, and comes again. */
const LOCK_TIMEOUT_MS = 500;
const ATTEMPTS = 60;

/** Resolves when all of it is done on that Pod. @throws what the server says to a statement, but for a lock that is not to be had. */
export async function deploy({ postgres }: PodLayout, release = 1): Promise<void> {
  const client = new pg.Client(postgres);
  // What uses it says that it broke.
  client.on("error", () => undefined);
  await client.connect();
  try {
    // Rows of organizations that another Pod serves are filled there.
    await client.query(`SET lock_timeout = ${LOCK_TIMEOUT_MS}; SET cleave.dormant_rows = skip`);
    for (const statement of statements(release)) await untilLocked(client, statement);
  } finally {
    await client.end();
  }
}

async function untilLocked(client: pg.Client, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1)
    try {
      await client.query(statement);
      return;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== "55P03" || attempt === ATTEMPTS)
        throw new Error(`${statement}: ${(error as Error).message}`);
      await sleep(100);
    }
}

/** What a deployment leaves, read on a Pod: equal where it arrived. */
export async function deployed({ postgres }: PodLayout, release = 1): Promise<unknown> {
  const weight = `weight_${release}`;
  const client = new pg.Client(postgres);
  // What uses it says that it broke.
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query(`
      SELECT (SELECT min(${weight}) FROM project_statistics WHERE ${weight} <> 1) AS filled,
        (SELECT i.indisvalid FROM pg_index AS i WHERE i.indexrelid = to_regclass('project_statistics_by_${weight}')) AS indexed,
        EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'project_statistics'::regclass AND attname = 'draft'
          AND NOT attisdropped) AS kept,
        (SELECT array_agg(inhrelid::regclass::text ORDER BY inhrelid::regclass::text) FROM pg_inherits
          WHERE inhparent IN ('audit_events'::regclass, 'pipelines'::regclass)) AS partitions`);
    return rows[0];
  } finally {
    await client.end();
  }
}

/** What `deployed` says after so many releases. */
export const DEPLOYED = (releases = 1) => ({
  filled: 2,
  indexed: true,
  kept: false,
  partitions: [
    ...(releases > 1 ? ["audit_events_2022"] : []),
    "audit_events_2024",
    "audit_events_2025",
    "audit_events_later",
    "pipelines_100",
    "pipelines_101",
    "pipelines_102",
    ...(releases > 1 ? ["pipelines_103"] : []),
  ],
});
