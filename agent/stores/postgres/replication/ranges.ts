/** How the organizations' rows of a table are divided for the copy: by ranges of its key, found without reading them all. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { ownedCondition } from "../inventory/selection.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";
import { type MovedTable, type Moving, rowsOf, typeOf, UNAMBIGUOUS } from "./moved-tables.ts";

/** The values of a table's key as text, in its order. */
export type KeyText = readonly string[];

export interface Range {
  /** The first key, or null for the table's beginning. */
  readonly from: KeyText | null;
  /** The first key that is not in it any more, or null for the table's end. */
  readonly to: KeyText | null;
}

export interface TablePlan {
  readonly table: MovedTable;
  readonly ranges: readonly Range[];
  /** Estimates for the organizations' rows. */
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
}

export interface Division {
  /** A range has about so many rows, where the table allows it. */
  readonly rangeRows: number;
  /** Of a table of which the organizations own little: its rows may be read by another index than the key's. */
  readonly fewRanges: number;
}

export const DIVISION: Division = { rangeRows: 100_000, fewRanges: 4 };

/**
 * Of a table of which they own less, the server finds their rows through whoever owns them and not through the key; then
 * each range reads all of them. So there are few ranges, for the sake of the processors alone.
 */
const MUCH = 0.25;
/** Of a large table so many pages are looked at. */
const SAMPLED_PAGES = 1_000;

/** @throws what the server says. */
export async function divide(
  db: Database,
  moving: Moving,
  table: MovedTable,
  division: Division = DIVISION,
): Promise<TablePlan> {
  const planned = await plannedOf(db, moving, table);
  const plan = (estimate: Estimate, bounds: readonly KeyText[]): TablePlan => ({
    table,
    ranges: [null, ...bounds].map((from, at) => ({ from, to: bounds[at] ?? null })),
    estimatedRows: estimate.rows,
    estimatedBytes: estimate.rows * estimate.width,
  });
  if (planned.rows <= division.rangeRows || !isDivisible(table)) return plan(planned, []);
  // The planner knows little of who owns what through whom: a look at some pages says whether it is worth it.
  const percent = await samplePercent(db, table);
  const sampled = await sampledOf(db, moving, table, percent, planned.width);
  const wanted = Math.ceil(sampled.rows / division.rangeRows);
  const count = sampled.share >= MUCH ? wanted : Math.min(wanted, division.fewRanges);
  return plan(sampled, count > 1 ? await boundsOf(db, moving, table, percent, count) : []);
}

interface Estimate {
  readonly rows: number;
  /** Bytes of a row. */
  readonly width: number;
}

async function plannedOf(db: Database, moving: Moving, table: MovedTable): Promise<Estimate> {
  const { rows } = await db.query<{
    "QUERY PLAN": readonly {
      readonly Plan: { readonly "Plan Rows": number; readonly "Plan Width": number };
    }[];
  }>(`EXPLAIN (FORMAT JSON) SELECT "row".* FROM ${rowsOf(moving, table)}`);
  const plan = rows[0]?.["QUERY PLAN"][0]?.Plan;
  if (plan === undefined) throw new CleaveError("INTERNAL", "the planner said nothing");
  return { rows: plan["Plan Rows"], width: plan["Plan Width"] };
}

/** How much of the table about `SAMPLED_PAGES` are. */
async function samplePercent(db: Database, table: MovedTable): Promise<number> {
  const { rows } = await db.query<{ pages: number }>(
    `SELECT (pg_catalog.sum(pg_catalog.pg_relation_size(member)) / pg_catalog.current_setting('block_size')::int8)::float8 AS pages
       FROM (SELECT relid::oid AS member FROM pg_catalog.pg_partition_tree(${quoteLiteral(table.quoted)}::regclass)
             UNION SELECT ${quoteLiteral(table.quoted)}::regclass::oid) AS members`,
  );
  return Math.min(100, Math.max(0.01, (100 * SAMPLED_PAGES) / Math.max(1, rows[0]?.pages ?? 1)));
}

/** Repeatable, so that the same question has the same answer. */
const sampleOf = (table: MovedTable, percent: number) =>
  `${table.quoted} AS "row" TABLESAMPLE SYSTEM (${percent}) REPEATABLE (1)`;

async function sampledOf(
  db: Database,
  moving: Moving,
  table: MovedTable,
  percent: number,
  width: number,
): Promise<Estimate & { readonly share: number }> {
  const theirs = ownedCondition(moving.ownership, table.name, '"row"', moving.keys);
  const { rows } = await db.query<{ all: number; theirs: number }>(
    `SELECT count(*)::float8 AS all, count(*) FILTER (WHERE ${theirs})::float8 AS theirs FROM ${sampleOf(table, percent)}`,
  );
  const seen = rows[0] ?? { all: 0, theirs: 0 };
  return { rows: (seen.theirs * 100) / percent, width, share: seen.theirs / Math.max(1, seen.all) };
}

/** Keys that divide their rows into `count` about equal parts, by the sample. */
async function boundsOf(
  db: Database,
  moving: Moving,
  table: MovedTable,
  percent: number,
  count: number,
): Promise<KeyText[]> {
  const keys = table.key.map((name) => `"row".${quoteIdentifier(name)}`);
  const theirs = ownedCondition(moving.ownership, table.name, '"row"', moving.keys);
  const { rows } = await db.query<{ key: string[] }>(
    `SELECT key FROM (
       SELECT DISTINCT ON (part) part, key FROM (
         SELECT ARRAY[${keys.map((key) => `${key}::pg_catalog.text`).join(", ")}] AS key,
           pg_catalog.ntile(${count}) OVER ordered AS part, pg_catalog.row_number() OVER ordered AS at
           FROM ${sampleOf(table, percent)} WHERE ${theirs}
         WINDOW ordered AS (ORDER BY ${keys.join(", ")})) AS sampled
        ORDER BY part, at) AS firsts
      WHERE part > 1 ORDER BY part`,
  );
  return rows.map(({ key }) => key);
}

/** Their operators are PostgreSQL's own, found whatever the search path, and agree with the order of an index. */
export const ORDERED: ReadonlySet<string | undefined> = new Set([...UNAMBIGUOUS, "numeric"]);

/** Whether a part of the table can be named by its first and last key. */
export function isDivisible(table: MovedTable): boolean {
  return table.key.every((name) => ORDERED.has(typeOf(table, name)));
}

/** The table's columns as they are copied: the key first, so that a line says where it belongs. */
export function copiedColumns(table: MovedTable): readonly string[] {
  return [
    ...table.key.map(quoteIdentifier),
    ...table.columns.filter(({ name }) => !table.key.includes(name)).map(({ quoted }) => quoted),
  ];
}

/** SQL for the organizations' rows of a range, those after the key `after` alone when that is given, in order. */
export function rowsOfRange(moving: Moving, table: MovedTable, range: Range, after: KeyText | null): string {
  const keys = table.key.map((name) => `"row".${quoteIdentifier(name)}`);
  const tuple = keys.length === 1 ? keys[0] : `(${keys.join(", ")})`;
  const literal = (key: KeyText) => {
    const values = key.map(
      (value, at) => `${quoteLiteral(value)}::${typeOf(table, table.key[at] as string) ?? ""}`,
    );
    return values.length === 1 ? values[0] : `(${values.join(", ")})`;
  };
  const conditions = [
    after !== null ? `${tuple} > ${literal(after)}` : range.from && `${tuple} >= ${literal(range.from)}`,
    range.to && `${tuple} < ${literal(range.to)}`,
  ].filter((condition) => condition !== null);
  const chosen = copiedColumns(table).map((column) => `"row".${column}`);
  return `SELECT ${chosen.join(", ")} FROM ${rowsOf(moving, table)}${conditions.map((condition) => ` AND ${condition}`).join("")} ORDER BY ${keys.join(", ")}`;
}
