/** What of the target's tables matters when changes are applied together. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Database } from "../connection.ts";
import { isOwned, rulesOf } from "../guard/owner-sql.ts";
import type { MovedTable, Moving } from "./moved-tables.ts";

export interface Traits {
  readonly ancestors: ReadonlySet<string>;
  readonly contested: boolean;
  readonly ambiguous: boolean;
}

/** Values of these types that are equal are written the same. */
const UNAMBIGUOUS: ReadonlySet<string> = new Set([
  "smallint",
  "integer",
  "bigint",
  "uuid",
  "text",
  "character varying",
  "bytea",
  "boolean",
  "date",
  "timestamp without time zone",
  "timestamp with time zone",
]);

/** Unique and exclusion constraints of a table and of its partitions; and whether texts may be equal that differ. */
const KEYS = `
WITH RECURSIVE member (head, oid) AS (
  SELECT name, name::regclass::oid FROM unnest($1::text[]) AS name
  UNION SELECT member.head, i.inhrelid FROM member JOIN pg_catalog.pg_inherits i ON i.inhparent = member.oid)
SELECT member.head AS name,
  max((SELECT count(*) FROM pg_catalog.pg_index x WHERE x.indrelid = member.oid AND (x.indisunique OR x.indisexclusion)))::int4 AS keys,
  bool_or(EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = member.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.collisdeterministic)) AS blurred
FROM member GROUP BY member.head`;

/** Traits by the tables' names. */
export async function readTraits(db: Database, moving: Moving): Promise<ReadonlyMap<string, Traits>> {
  const { rows } = await db.query<{ name: string; keys: number; blurred: boolean }>(KEYS, [
    moving.tables.map(({ quoted }) => quoted),
  ]);
  const found = new Map(rows.map((row) => [row.name, row]));
  return new Map(
    moving.tables.map((table) => {
      const { keys = 2, blurred = true } = found.get(table.quoted) ?? {};
      const ambiguous = blurred || !table.key.every((name) => UNAMBIGUOUS.has(typeOf(table, name)));
      return [
        table.name,
        { ancestors: ancestorsOf(moving.ownership, table.name), contested: keys > 1, ambiguous },
      ];
    }),
  );
}

const typeOf = (table: MovedTable, name: string) =>
  table.columns.find((column) => column.name === name)?.type ?? "";

/** Rules that lead back to themselves were refused before. */
export function ancestorsOf(ownership: Ownership, table: string): Set<string> {
  const rule = rulesOf(ownership).get(table);
  if (rule === undefined || !isOwned(rule) || "organization" in rule) return new Set();
  const parents = "parent" in rule ? [rule.parent] : Object.values(rule.parents);
  return new Set(parents.flatMap((parent) => [parent, ...ancestorsOf(ownership, parent)]));
}
