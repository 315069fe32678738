/**
 * Rows that share a value which only one may have. What is applied to a target passes the triggers that check DEFERRABLE
 * constraints at the end of a transaction, so the comparison looks for itself; all others are kept by their indexes.
 */
import { keyTypes, type MovedTable, type Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import type { Difference } from "./comparison.ts";
import { asTexts, isGiven, parameters, type RowKey } from "./keys.ts";

const NAMED = 20;

/** Of the organizations' rows of a table, or of those with the keys, as the target has them now. At most a few are named. */
export async function doubledRows(
  target: Database,
  moving: Moving,
  table: MovedTable,
  keys: readonly RowKey[] | null,
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const { name, elements, operators, predicate } of table.deferred) {
    const value = (at: number) => `"cleave value ${at}"`;
    const values = elements.map((element, at) => `${element} AS ${value(at)}`).join(", ");
    const place = (row: string) => `(${row}."cleave table", ${row}."cleave place")`;
    const side = (columns: string) =>
      `(SELECT ${columns}tableoid AS "cleave table", ctid AS "cleave place", ${values} FROM ${table.quoted} AS "of" WHERE ${predicate})`;
    const excluding = operators.map((operator, at) => `"row".${value(at)} ${operator} "other".${value(at)}`);
    const which = keys === null ? "" : `AND ${isGiven(table.key, keyTypes(table), '"row"')}`;
    const { rows } = await target.query<{ key: string[] }>(
      `SELECT ${asTexts(table.key, '"row"')} AS key FROM ${side('"of".*, ')} AS "row"
         JOIN ${side("")} AS "other" ON ${excluding.join(" AND ")} AND ${place('"row"')} <> ${place('"other"')}
        WHERE ${table.owner} = ANY (${moving.texts}) ${which} LIMIT ${NAMED}`,
      keys === null ? [] : parameters(keys, table.key.length),
    );
    found.push(
      ...rows.map(
        ({ key }): Difference => ({
          table: table.name,
          key,
          code: "CHANGE_NOT_APPLICABLE",
          what: `has a value of ${name} that another row on the target has`,
        }),
      ),
    );
  }
  return found;
}
