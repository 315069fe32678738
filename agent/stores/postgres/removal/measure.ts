/**
 * How many rows are to be removed, told in two ways: by the conditions that select them, and by the guard's rule for
 * each row. Where the two differ, nothing is removed at all. All rows of a table are looked at, or a sample of a large one.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, ownerExpression, rulesOf } from "../fence/owner-sql.ts";
import type { Schema } from "../inventory/schema.ts";
import type { Database } from "../server/connection.ts";
import { columnsOf } from "../verification/keys.ts";
import type { DormantTable, Organizations } from "./tables.ts";

/** Tables up to this size are looked at row by row; of larger ones about so many. */
const LOOKED_AT_ROWS = 500_000;

export interface Measured {
  readonly table: DormantTable;
  /** An estimate where the table is large. */
  readonly rows: number;
  readonly bytes: number;
  /** In words, a row about which the two ways disagree. */
  readonly disputed: string | null;
}

interface Counts {
  readonly all: number;
  readonly theirs: number;
  readonly disputed: number;
  readonly example: { readonly shown: string[]; readonly owner: string | null } | null;
}

export async function measure(
  db: Database,
  table: DormantTable,
  organizations: Organizations,
): Promise<Measured> {
  const percent = table.rows <= LOOKED_AT_ROWS ? 100 : (100 * LOOKED_AT_ROWS) / table.rows;
  const sample = percent < 100 ? ` TABLESAMPLE SYSTEM (${percent.toFixed(6)}) REPEATABLE (1)` : "";
  const { rows } = await db.query<Counts>(
    `SELECT count(*)::float8 AS all, count(*) FILTER (WHERE one)::float8 AS theirs, count(*) FILTER (WHERE one <> other)::float8 AS disputed,
       (array_agg(pg_catalog.jsonb_build_object('shown', shown, 'owner', owner)) FILTER (WHERE one <> other))[1] AS example
     FROM (SELECT one, owner, COALESCE(owner = ANY ($1::pg_catalog.text[]), false) AS other, shown
       FROM (SELECT COALESCE(${table.owned}, false) AS one, ${table.owner} AS owner, ${table.shown} AS shown
               FROM ${table.quoted} AS "row"${sample}) AS told) AS compared`,
    [organizations],
  );
  const counts = rows[0] as Counts;
  const share = counts.theirs / Math.max(1, counts.all);
  return {
    table,
    rows: Math.round((counts.theirs * 100) / percent),
    bytes: Math.round(share * table.bytes),
    disputed: disputeOf(table, counts),
  };
}

function disputeOf({ name }: DormantTable, { disputed, example }: Counts): string | null {
  if (example === null) return null;
  const rows = disputed === 1 ? "1 row" : `${disputed} rows`;
  return `the two ways to tell an owner disagree about ${rows} of ${name}, for example the one with key (${example.shown.join(", ")}), which the guard's rule gives to ${example.owner ?? "nobody"}`;
}

/**
 * Parents that a child could be given to several of, in words: their key is not unique, and rows with the same belong to
 * different organizations. A unique key needs no look.
 */
export async function ambiguousParents(
  db: Database,
  schema: Schema,
  ownership: Ownership,
): Promise<string[]> {
  const found: string[] = [];
  for (const { parent, key } of parentKeys(ownership)) {
    const table = schema.get(parent);
    if (table === undefined || table.keys.some(({ columns }) => columns.every((one) => key.includes(one))))
      continue;
    const columns = columnsOf(key, '"row"');
    const owner = ownerExpression(ownership, parent, '"row"', "alone");
    const { rows } = await db.query<{ key: string[] }>(
      `SELECT ARRAY[${columns.map((column) => `${column}::pg_catalog.text`).join(", ")}] AS key FROM ${table.quoted} AS "row"
        GROUP BY ${columns.join(", ")} HAVING count(DISTINCT ${owner}) > 1 LIMIT 1`,
    );
    if (rows[0] !== undefined)
      found.push(
        `rows of ${parent} with (${key.join(", ")}) = (${rows[0].key.join(", ")}) belong to different organizations, so what refers to them has no one owner`,
      );
  }
  return found;
}

function parentKeys(ownership: Ownership): { readonly parent: string; readonly key: readonly string[] }[] {
  return [...rulesOf(ownership).values()].flatMap((rule) => {
    if (!isOwned(rule) || "organization" in rule) return [];
    const key = typeof rule.parentKey === "string" ? [rule.parentKey] : rule.parentKey;
    return ("parent" in rule ? [rule.parent] : Object.values(rule.parents)).map((parent) => ({
      parent,
      key,
    }));
  });
}

/**
 * Nothing of them is left, by both ways where the table is not large.
 * @throws CleaveError REMOVAL_DISAGREES naming a table and a row.
 */
export async function requireGone(
  db: Database,
  table: DormantTable,
  organizations: Organizations,
): Promise<void> {
  const either = `(${table.owned} OR ${table.owner} = ANY ($1::pg_catalog.text[]))`;
  const { rows } = await db.query<{ shown: string[] }>(
    `SELECT ${table.shown} AS shown FROM ${table.quoted} AS "row" WHERE ${table.rows <= LOOKED_AT_ROWS ? either : table.owned} LIMIT 1`,
    [organizations],
  );
  if (rows[0] !== undefined)
    throw new CleaveError(
      "REMOVAL_DISAGREES",
      `after the removal ${table.name} still has a row of the removed organizations, with key (${rows[0].shown.join(", ")})`,
    );
}
