/**
 * What rules name and tables have not (any more): a column that was renamed, a parent that was dropped. A guard by such
 * rules would make every write fail, so none is made. A rule for a table that is not there counts from when there is one.
 */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Queryable } from "../server/queryable.ts";
import { isOwned, ownerColumns, rulesOf } from "./owner-sql.ts";

/** `columnsOf`: of a table by its name; undefined when there is none. @returns in words, what is absent. */
export function absentFrom(
  ownership: Ownership,
  columnsOf: (table: string) => { has(column: string): boolean } | undefined,
): string[] {
  return [...rulesOf(ownership)].flatMap(([table, rule]): string[] => {
    const columns = columnsOf(table);
    if (columns === undefined || !isOwned(rule)) return [];
    const own = ownerColumns(rule)
      .filter((column) => !columns.has(column))
      .map((column) => `${table} has no column ${column}`);
    const parents =
      "parent" in rule ? [rule.parent] : "typeColumn" in rule ? Object.values(rule.parents) : [];
    const keys = "organization" in rule ? [] : [rule.parentKey].flat();
    const ofParents = parents.flatMap((parent) =>
      keys
        .filter((key) => columnsOf(parent)?.has(key) !== true)
        .map((key) => `the rule of ${table} names ${parent}.${key}, which does not exist`),
    );
    return [...own, ...ofParents];
  });
}

const COLUMNS = `
SELECT n.nspname || '.' || c.relname AS "table", array_agg(a.attname::text) AS columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname || '.' || c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') GROUP BY 1`;

export async function absentNames(db: Queryable, ownership: Ownership): Promise<string[]> {
  const { rows } = await db.query<{ table: string; columns: string[] }>(COLUMNS, [
    [...rulesOf(ownership).keys()],
  ]);
  const tables = new Map(rows.map(({ table, columns }) => [table, new Set(columns)]));
  return absentFrom(ownership, (table) => tables.get(table));
}
