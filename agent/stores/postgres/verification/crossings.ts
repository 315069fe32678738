/** Rows of the moving organizations that refer to rows which stay: after the move they would lead nowhere. */

import { keyTypes, type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import type { Difference } from "./comparison.ts";
import { asTexts, columnsOf, isGiven, parameters, type RowKey } from "./keys.ts";

const NAMED = 20;

/** Of a table's rows, or of those with the keys, as the source has them now. At most a few are named. */
export async function crossingRows(
  source: Database,
  moving: Moving,
  table: MovedTable,
  keys: readonly RowKey[] | null,
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const { from, name, columns, to, parentKey } of moving.within) {
    if (from !== table.name) continue;
    const parent = moving.tables.find((one) => one.name === to);
    if (parent === undefined) continue;
    const present = columnsOf(columns, '"row"').map((column) => `${column} IS NOT NULL`);
    const match = columns.map(
      (column, at) =>
        `"row".${quoteIdentifier(parentKey[at] as string)} = "child".${quoteIdentifier(column)}`,
    );
    const which =
      keys === null
        ? rowsOf(moving, table)
        : `${table.quoted} AS "row" WHERE ${isGiven(table.key, keyTypes(table), '"row"')} AND ${table.owner} = ANY (${moving.texts})`;
    const { rows } = await source.query<{ key: string[]; value: string[] }>(
      `SELECT ${asTexts(table.key, '"child"')} AS key, ${asTexts(columns, '"child"')} AS value
         FROM (SELECT "row".* FROM ${which} AND ${present.join(" AND ")}) AS "child"
        WHERE EXISTS (SELECT FROM ${parent.quoted} AS "row" WHERE ${match.join(" AND ")} AND (${parent.owner} = ANY (${moving.texts})) IS NOT TRUE)
        LIMIT ${NAMED}`,
      keys === null ? [] : parameters(keys, table.key.length),
    );
    found.push(
      ...rows.map(
        ({ key, value }): Difference => ({
          table: table.name,
          key,
          code: "CROSS_ORGANIZATION_ROWS",
          what: `refers to the row of ${to} with ${parentKey.join(", ")} = ${value.join(", ")}, which stays (${name})`,
        }),
      ),
    );
  }
  return found;
}
