/** What a move's target subscribes to: the changes of every owned table and of the schema, and the markers of fences. */
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import { patiently } from "../fence/patience.ts";
import { verifyGuard } from "../fence/verify.ts";
import { readSchema, type Schema, type Table } from "../inventory/schema.ts";
import { describeIdentityFaults, findIdentityFaults } from "../replication/replica-identity.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";

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
  const owned = publishedTables(await readSchema(db, { sizes: false }), ownership);
  await handDownIdentities(db, owned, name);
  const tables = [...owned.map(({ quoted }) => quoted), "cleave.marker", "cleave.schema_change"].join(", ");
  const quoted = quoteIdentifier(name);
  if (!(await hasPublication(db, name))) {
    const { rows } = await db.query<{ version: number }>(
      "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000 AS version",
    );
    // What is told apart by all of its columns could not be updated any more, if one of them were generated and not published.
    const generated = (rows[0]?.version ?? 0) >= 18 ? ", publish_generated_columns = stored" : "";
    await db.query(
      `CREATE PUBLICATION ${quoted} FOR TABLE ${tables} WITH (publish_via_partition_root = true${generated})`,
    );
    return;
  }
  const present = await tablesOf(db, name);
  if (owned.every((table) => present.has(table.name)) && present.size === owned.length + 2) return;
  await db.query(`ALTER PUBLICATION ${quoted} SET TABLE ${tables}`);
}

async function tablesOf(db: Database, name: string): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ name: string }>(
    "SELECT schemaname || '.' || tablename AS name FROM pg_catalog.pg_publication_tables WHERE pubname = $1",
    [name],
  );
  return new Set(rows.map((row) => row.name));
}

/**
 * After a change of the source's schema: every owned table is in the publication, and its writers are watched.
 * @throws CleaveError SCHEMA_CHANGED or what the guard lacks, naming the table: the source's agent makes it so by itself.
 */
export async function requireWatched(source: Database, name: string, ownership: Ownership): Promise<void> {
  const [fault] = await verifyGuard(source, ownership);
  if (fault !== undefined) throw new CleaveError(fault.code as ErrorCode, `on the source: ${fault.message}`);
  const present = await tablesOf(source, name);
  const absent = publishedTables(await readSchema(source, { sizes: false }), ownership).find(
    (table) => !present.has(table.name),
  );
  if (absent !== undefined)
    throw new CleaveError("SCHEMA_CHANGED", `${absent.name} is not streamed by the source yet`);
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
