/** What on two Pods would get in each other's way: rows that are there already, equal keys, rows that refer across. */

import { ownerExpression } from "../fence/owner-sql.ts";
import { quoteIdentifier } from "../fence/queryable.ts";
import type { Schema } from "../inventory/schema.ts";
import { keyTypes, type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { asTexts, isGiven, parameters } from "../verification/keys.ts";

const BATCH = 10_000;
const NAMED = 5;

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

/** Keys of the organizations' rows on the source that rows of others have on the target, in words. */
export async function findCollisions(source: Database, target: Database, moving: Moving): Promise<string[]> {
  const found: string[] = [];
  for (const table of moving.tables) {
    // Without a row there is nothing to collide with.
    const { rowCount } = await target.query(`SELECT FROM ${table.quoted} LIMIT 1`);
    if (rowCount === 0) continue;
    await source.query("BEGIN READ ONLY");
    try {
      await source.query(
        `DECLARE keys NO SCROLL CURSOR FOR SELECT ${asTexts(table.key, '"row"')} AS key FROM ${rowsOf(moving, table)}`,
      );
      for (;;) {
        const { rows } = await source.query<{ key: string[] }>(`FETCH ${BATCH} FROM keys`);
        if (rows.length === 0) break;
        const taken = await takenKeys(
          target,
          table,
          rows.map(({ key }) => key),
        );
        if (taken.length === 0) continue;
        found.push(`${table.name} has other rows with (${table.key.join(", ")}) = ${taken.join(", ")}`);
        break;
      }
    } finally {
      await source.query("ROLLBACK").catch(() => undefined);
    }
  }
  return found;
}

async function takenKeys(target: Database, table: MovedTable, keys: readonly string[][]): Promise<string[]> {
  const { rows } = await target.query<{ key: string[] }>(
    `SELECT ${asTexts(table.key, '"row"')} AS key FROM ${table.quoted} AS "row"
      WHERE ${isGiven(table.key, keyTypes(table), '"row"')} LIMIT ${NAMED}`,
    parameters(keys, table.key.length),
  );
  return rows.map(({ key }) => `(${key.join(", ")})`);
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
