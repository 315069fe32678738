/** What a move's target subscribes to: the changes of every owned table, and the markers of fences. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import { quoteIdentifier } from "../fence/queryable.ts";
import { readSchema } from "../inventory/schema.ts";
import type { Database } from "../server/connection.ts";

/**
 * Creates or completes the publication. It has to be there before the slot, for a stream looks it up as it was at each
 * change. Idempotent.
 */
export async function ensurePublication(db: Database, name: string, ownership: Ownership): Promise<void> {
  const schema = await readSchema(db);
  const rules = rulesOf(ownership);
  const owned = [...schema.values()].filter((table) => {
    const rule = rules.get(table.name);
    return rule !== undefined && isOwned(rule) && table.kind !== "foreign" && !table.unlogged;
  });
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

export async function hasPublication(db: Database, name: string): Promise<boolean> {
  const { rowCount } = await db.query("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", [name]);
  return rowCount === 1;
}

export async function dropPublication(db: Database, name: string): Promise<void> {
  await db.query(`DROP PUBLICATION IF EXISTS ${quoteIdentifier(name)}`);
}
