/**
 * Copied subscriptions. A new Pod's server runs no logical replication worker until its copies of the source's subscriptions
 * are disabled and know no slot any more: a worker would take the source's slot on the publisher, and so the feed; and
 * dropping the copy would drop that slot.
 */
import type { PostgresConfig } from "../config.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";

const LEFT = `
SELECT s.subname::text AS name, d.datname::text AS database FROM pg_catalog.pg_subscription s
  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE s.subenabled OR s.subslotname IS NOT NULL ORDER BY 2, 1`;

/** On a promoted server that serves; idempotent. @throws what PostgreSQL says when one cannot be disabled. */
export async function disableSubscriptions(config: PostgresConfig): Promise<void> {
  const left = await inDatabase(
    config,
    config.database,
    async (db) => (await db.query<{ name: string; database: string }>(LEFT)).rows,
  );
  for (const { name, database } of left)
    await inDatabase(config, database, async (db) => {
      const subscription = `ALTER SUBSCRIPTION ${quoteIdentifier(name)}`;
      await db.query(`${subscription} DISABLE`);
      await db.query(`${subscription} SET (slot_name = NONE)`);
    });
}

async function inDatabase<T>(
  config: PostgresConfig,
  database: string,
  work: (db: Database) => Promise<T>,
): Promise<T> {
  const db = await connect({ ...config, database }, { applicationName: "cleave" });
  try {
    return await work(db);
  } finally {
    discard(db);
  }
}
