/** What on two Pods would get in each other's way: rows that are there already, rows that refer across. */

import { ownerExpression } from "../fence/owner-sql.ts";
import type { Schema } from "../inventory/schema.ts";
import { type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";

/** Tables of this Pod that have rows of the organizations, in words. */
export async function findRows(db: Database, moving: Moving): Promise<string[]> {
  const found: string[] = [];
  for (const table of moving.tables) {
    const { rows } = await db.query<{ rows: number }>(
      `SELECT count(*)::int AS rows FROM (SELECT FROM ${rowsOf(moving, table)} LIMIT 1000) AS found`,
    );
    const count = rows[0]?.rows ?? 0;
    if (count > 0) found.push(`${table.name} has ${count === 1000 ? "1000 or more" : count} rows of them`);
  }
  return found;
}

/**
 * References between the organizations that move and those that stay, in words: after the move each side would point
 * to rows that are not there.
 */
export async function findCrossings(source: Database, moving: Moving, schema: Schema): Promise<string[]> {
  const found: string[] = [];
  const moved = new Map(moving.tables.map((table) => [table.name, table]));
  for (const table of moving.tables) {
    for (const key of schema.get(table.name)?.foreignKeys ?? []) {
      const parent = moved.get(key.parent);
      if (parent === undefined) continue;
      const match = key.columns.map(
        (column, at) =>
          `"parent".${quoteIdentifier(key.parentKey[at] as string)} = "row".${quoteIdentifier(column)}`,
      );
      const theirs = ownerExpression(moving.ownership, parent.name, '"parent"', "alone");
      const outward = `SELECT FROM ${rowsOf(moving, table)} AND EXISTS (SELECT FROM ${parent.quoted} AS "parent" WHERE ${match.join(" AND ")} AND (${theirs} = ANY (${moving.texts})) IS NOT TRUE)`;
      const ours = ownerExpression(moving.ownership, table.name, '"row"', "alone");
      const inward = `SELECT FROM ${rowsOf(moving, parent).replaceAll('"row"', '"parent"')} AND EXISTS (SELECT FROM ${table.quoted} AS "row" WHERE ${match.join(" AND ")} AND (${ours} = ANY (${moving.texts})) IS NOT TRUE)`;
      for (const [query, what] of [
        [outward, `rows of ${table.name} refer to rows of ${parent.name} that stay (${key.name})`],
        [inward, `rows of ${parent.name} are referred to by rows of ${table.name} that stay (${key.name})`],
      ] as const) {
        const { rows } = await source.query<{ rows: number }>(
          `SELECT count(*)::int AS rows FROM (${query} LIMIT 1000) AS found`,
        );
        const count = rows[0]?.rows ?? 0;
        if (count > 0) found.push(`${count === 1000 ? "1000 or more" : count} ${what}`);
      }
    }
  }
  return found;
}
