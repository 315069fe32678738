/** What of the target's tables matters when changes are applied together. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import type { Database } from "../server/connection.ts";
import { type MovedTable, type Moving, typeOf, UNAMBIGUOUS } from "./moved-tables.ts";
import type { Reference, Relation } from "./runs.ts";

export type Traits = Pick<Relation, "ancestors" | "references" | "contested" | "ambiguous">;

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
  const tables = new Map(moving.tables.map((table) => [table.name, table]));
  const isPlain = (table: MovedTable | undefined, columns: readonly string[]) =>
    table !== undefined &&
    found.get(table.quoted)?.blurred === false &&
    columns.every((column) => UNAMBIGUOUS.has(typeOf(table, column)));
  return new Map(
    moving.tables.map((table) => {
      const references = parentsOf(moving.ownership, table.name).map((reference) => {
        const parent = tables.get(reference.parent);
        const exact =
          isPlain(table, reference.columns) &&
          isPlain(parent, reference.parentKey) &&
          reference.columns.every(
            (column, at) => parent && typeOf(table, column) === typeOf(parent, reference.parentKey[at] ?? ""),
          );
        return { ...reference, exact };
      });
      const ancestors = ancestorsOf(moving.ownership, table.name);
      const contested = (found.get(table.quoted)?.keys ?? 2) > 1;
      return [table.name, { ancestors, references, contested, ambiguous: !isPlain(table, table.key) }];
    }),
  );
}

const list = (columns: string | readonly string[]) => (typeof columns === "string" ? [columns] : columns);

function parentsOf(ownership: Ownership, table: string): Omit<Reference, "exact">[] {
  const rule = rulesOf(ownership).get(table);
  if (rule === undefined || !isOwned(rule) || "organization" in rule) return [];
  if ("parent" in rule)
    return [{ parent: rule.parent, columns: list(rule.column), parentKey: list(rule.parentKey) }];
  return Object.values(rule.parents).map((parent) => ({
    parent,
    columns: [rule.idColumn],
    parentKey: [rule.parentKey],
  }));
}

/** Rules that lead back to themselves were refused before. */
export function ancestorsOf(ownership: Ownership, table: string): Set<string> {
  const parents = parentsOf(ownership, table).map(({ parent }) => parent);
  return new Set(parents.flatMap((parent) => [parent, ...ancestorsOf(ownership, parent)]));
}
