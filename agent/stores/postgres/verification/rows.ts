/** Contents of rows as hashes, computed inside the database: of single rows by their keys, and of tables by buckets. */
import type { QueryResult, QueryResultRow } from "pg";
import { keyTypes, type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, sqlStateOf } from "../server/queryable.ts";
import { asTexts, columnsOf, given, parameters, type RowKey } from "./keys.ts";

export interface TouchedRow {
  readonly table: string;
  readonly key: RowKey;
}

/** Rows of a bucket, about: few enough to be compared one by one when a bucket differs. */
const BUCKET_ROWS = 2_000;

const contentOf = (table: MovedTable) =>
  // A row as text quotes its values, so that no value can pretend to be two, and NULL is told from an empty text. What is
  // generated is compared too: a function of one name may compute another value here, or did when the row was written there.
  `ROW(${[...table.columns.map(({ name }) => name), ...table.generated].map((name) => `"row".${quoteIdentifier(name)}`).join(", ")})::pg_catalog.text`;
const hashOf = (content: string) =>
  `pg_catalog.hashtextextended(${content}, 1)::pg_catalog.text || '/' || pg_catalog.hashtextextended(${content}, 2)::pg_catalog.text`;
const keyOf = (table: MovedTable) => asTexts(table.key, '"row"');

/** What the server says of a name or a type that is no more names a column at best: the table is said with it. */
async function ask<Row extends QueryResultRow>(
  db: Database,
  table: MovedTable,
  sql: string,
  values: unknown[] = [],
): Promise<QueryResult<Row>> {
  try {
    return await db.query<Row>(sql, values);
  } catch (error) {
    if (sqlStateOf(error) !== undefined)
      (error as Error).message = `${table.name}: ${(error as Error).message}`;
    throw error;
  }
}

/** The hash of each row, in the order of `keys`; null where these organizations have no such row. */
export async function rowHashes(
  db: Database,
  moving: Moving,
  table: MovedTable,
  keys: readonly RowKey[],
): Promise<(string | null)[]> {
  if (keys.length === 0) return [];
  const { from, typed } = given(keyTypes(table));
  const matches = columnsOf(table.key, '"row"').map((column, at) => `${column} = ${typed[at]}`);
  const { rows } = await ask<{ at: number; hash: string }>(
    db,
    table,
    `SELECT "given".at::pg_catalog.int4 AS at, ${hashOf("contents.content")} AS hash
       FROM ${from}
       JOIN ${table.quoted} AS "row" ON ${matches.join(" AND ")}
       CROSS JOIN LATERAL (SELECT ${contentOf(table)} AS content OFFSET 0) AS contents
      WHERE ${table.owner} = ANY (${moving.texts})`,
    parameters(keys, table.key.length),
  );
  const hashes: (string | null)[] = keys.map(() => null);
  for (const { at, hash } of rows) hashes[at - 1] = hash;
  return hashes;
}

export interface Bucket {
  readonly rows: number;
  readonly digest: string;
}

/** How many buckets a table of so many rows is divided into. */
export function bucketsFor(rows: number): number {
  return Math.max(1, Math.ceil(rows / BUCKET_ROWS));
}

/** The organizations' rows of a table by bucket (of `buckets`), by a hash of their keys: the same on both Pods. */
export async function bucketDigests(
  db: Database,
  moving: Moving,
  table: MovedTable,
  buckets: number,
): Promise<Map<number, Bucket>> {
  const sum = (seed: number) =>
    `pg_catalog.sum(pg_catalog.hashtextextended(content, ${seed}))::pg_catalog.text`;
  const { rows } = await ask<{ bucket: number; rows: number; digest: string }>(
    db,
    table,
    `SELECT bucket, count(*)::pg_catalog.int4 AS rows, ${sum(1)} || '/' || ${sum(2)} AS digest
       FROM (SELECT ${bucketOf(table, buckets)} AS bucket, ${contentOf(table)} AS content FROM ${rowsOf(moving, table)}) AS contents
      GROUP BY bucket`,
  );
  return new Map(rows.map(({ bucket, ...rest }) => [bucket, rest]));
}

const bucketOf = (table: MovedTable, buckets: number) =>
  `(pg_catalog.abs(pg_catalog.hashtextextended(${keyOf(table)}::pg_catalog.text, 0) % ${buckets}))::pg_catalog.int4`;

/** The rows of some buckets: key as JSON → hash. */
export async function rowsOfBuckets(
  db: Database,
  moving: Moving,
  table: MovedTable,
  buckets: number,
  chosen: readonly number[],
): Promise<Map<string, string>> {
  const { rows } = await ask<{ key: string[]; hash: string }>(
    db,
    table,
    `SELECT key, ${hashOf("content")} AS hash
       FROM (SELECT ${keyOf(table)} AS key, ${bucketOf(table, buckets)} AS bucket, ${contentOf(table)} AS content FROM ${rowsOf(moving, table)}) AS contents
      WHERE bucket = ANY ($1::pg_catalog.int4[])`,
    [chosen],
  );
  return new Map(rows.map(({ key, hash }) => [JSON.stringify(key), hash]));
}

/** The rows in groups of one table each; keys that were touched several times are named once. */
export function byTable(touched: readonly TouchedRow[]): Map<string, RowKey[]> {
  const tables = new Map<string, Map<string, RowKey>>();
  for (const { table, key } of touched) {
    const keys = tables.get(table) ?? new Map<string, RowKey>();
    keys.set(JSON.stringify(key), key);
    tables.set(table, keys);
  }
  return new Map([...tables].map(([table, keys]) => [table, [...keys.values()]]));
}

/**
 * What this server holds of rows that were touched since the last comparison, a line for each: equal on both Pods exactly
 * when they hold the same of them. Costs what was touched, whatever the size of the organization.
 */
export async function linesOfTouched(
  db: Database,
  moving: Moving,
  touched: readonly TouchedRow[],
): Promise<string[]> {
  const lines: string[] = [];
  for (const [name, keys] of byTable(touched)) {
    const table = moving.tables.find((one) => one.name === name);
    const hashes = table === undefined ? [] : await rowHashes(db, moving, table, keys);
    for (const [at, key] of keys.entries()) lines.push(JSON.stringify([name, key, hashes[at] ?? null]));
  }
  return lines;
}
