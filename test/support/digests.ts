/** What the organizations' rows amount to, table by table, computed inside the database and independent of any order. */

import {
  type MovedTable,
  type Moving,
  rowsOf,
} from "../../agent/stores/postgres/replication/moved-tables.ts";
import type { Database } from "../../agent/stores/postgres/server/connection.ts";
import { quoteLiteral } from "../../agent/stores/postgres/server/queryable.ts";
import { CANONICAL_SETTINGS } from "../../agent/stores/postgres/server/session-settings.ts";
import { CleaveError } from "../../protocol/errors.ts";

export interface TableDigest {
  readonly rows: number;
  /** Two sums of 64-bit hashes with different seeds. */
  readonly digest: string;
}

function digestSql(moving: Moving, table: MovedTable): string {
  // A row as text quotes its values, so that no value can pretend to be two, and NULL is told from an empty text.
  const row = `ROW(${table.columns.map(({ quoted }) => `"row".${quoted}`).join(", ")})::pg_catalog.text`;
  const sum = (seed: number) =>
    `COALESCE(pg_catalog.sum(pg_catalog.hashtextextended(content, ${seed})), 0)::pg_catalog.text`;
  return `SELECT count(*)::pg_catalog.int4 AS rows, ${sum(1)} || '/' || ${sum(2)} AS digest
    FROM (SELECT ${row} AS content FROM ${rowsOf(moving, table)}) AS contents`;
}

/** Every table's digest in one snapshot of this server. @throws what the server says. */
export async function digestsOf(db: Database, moving: Moving): Promise<Map<string, TableDigest>> {
  const digests = new Map<string, TableDigest>();
  await db.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  try {
    for (const [name, value] of Object.entries(CANONICAL_SETTINGS))
      await db.query(`SET LOCAL ${name} = ${quoteLiteral(value)}`);
    await db.query("SET LOCAL search_path = pg_catalog");
    for (const table of moving.tables) {
      const { rows } = await db.query<TableDigest>(digestSql(moving, table));
      if (rows[0] === undefined) throw new CleaveError("INTERNAL", "an aggregate without a row");
      digests.set(table.name, rows[0]);
    }
  } finally {
    await db.query("ROLLBACK").catch(() => undefined);
  }
  return digests;
}

/** The tables that differ, in words; empty when nothing does. */
export function differences(
  source: ReadonlyMap<string, TableDigest>,
  target: ReadonlyMap<string, TableDigest>,
): string[] {
  return [...source].flatMap(([table, ours]) => {
    const theirs = target.get(table);
    if (theirs?.digest === ours.digest && theirs.rows === ours.rows) return [];
    return [
      `${table}: ${ours.rows} rows on the source, ${theirs?.rows ?? "none"} on the target, with other contents`,
    ];
  });
}
