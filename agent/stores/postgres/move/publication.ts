/** What a move's target subscribes to: the changes of every owned table, and the markers of fences. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import { patiently } from "../fence/patience.ts";
import { quoteIdentifier } from "../fence/queryable.ts";
import { describeIdentityFaults, findIdentityFaults } from "../fence/replica-identity.ts";
import { readSchema, type Schema, type Table } from "../inventory/schema.ts";
import type { Database } from "../server/connection.ts";

/** Of tables without a replica identity, how many a message names. */
const NAMED = 20;

/** The tables that are published. */
export function publishedTables(schema: Schema, ownership: Ownership): readonly Table[] {
  const rules = rulesOf(ownership);
  return [...schema.values()].filter((table) => {
    const rule = rules.get(table.name);
    return rule !== undefined && isOwned(rule) && table.kind !== "foreign" && !table.unlogged;
  });
}

/**
 * Creates or completes the publication. It has to be there before the slot, for a stream looks it up as it was at each
 * change. Idempotent.
 * @throws CleaveError REPLICA_IDENTITY_MISSING when a table's rows could not be updated any more once it is published;
 * POSTGRES_GUARD_MISSING when a partition stays locked by others.
 */
export async function ensurePublication(db: Database, name: string, ownership: Ownership): Promise<void> {
  const owned = publishedTables(await readSchema(db), ownership);
  await handDownIdentities(db, owned, name);
  const tables = [...owned.map(({ quoted }) => quoted), "cleave.marker"].join(", ");
  const quoted = quoteIdentifier(name);
  if (!(await hasPublication(db, name))) {
    await db.query(
      `CREATE PUBLICATION ${quoted} FOR TABLE ${tables} WITH (publish_via_partition_root = true)`,
    );
    return;
  }
  const { rows } = await db.query<{ name: string }>(
    "SELECT schemaname || '.' || tablename AS name FROM pg_catalog.pg_publication_tables WHERE pubname = $1",
    [name],
  );
  const present = new Set(rows.map((row) => row.name));
  if (owned.every((table) => present.has(table.name)) && present.size === owned.length + 1) return;
  await db.query(`ALTER PUBLICATION ${quoted} SET TABLE ${tables}`);
}

/** To partitions, from their roots: what is published without a replica identity can be neither updated nor deleted. */
async function handDownIdentities(
  db: Database,
  tables: readonly Table[],
  migrationId: string,
): Promise<void> {
  const found = await findIdentityFaults(
    db,
    tables.map(({ quoted }) => quoted),
  );
  const missing = describeIdentityFaults(found);
  if (missing.length > 0)
    throw new CleaveError("REPLICA_IDENTITY_MISSING", missing.slice(0, NAMED).join("; "));
  for (const { name, identity } of found)
    await patiently(
      db,
      { migrationId, what: name, table: name, mode: "ACCESS EXCLUSIVE" },
      async (client) => void (await client.query(`ALTER TABLE ${name} REPLICA IDENTITY ${identity}`)),
    );
}

export async function hasPublication(db: Database, name: string): Promise<boolean> {
  const { rowCount } = await db.query("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", [name]);
  return rowCount === 1;
}

export async function dropPublication(db: Database, name: string): Promise<void> {
  await db.query(`DROP PUBLICATION IF EXISTS ${quoteIdentifier(name)}`);
}
