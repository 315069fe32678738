/**
 * What the rows themselves say: do a column's values exist as keys elsewhere, have all rows an owner, do two paths
 * lead to the same organization? Bounded samples on large tables, each query under a time limit; nothing is written.
 */

import type { Ownership } from "../../../../protocol/ownership.ts";
import { ownerExpression } from "../fence/owner-sql.ts";
import { inTransaction, type Queryable, quoteIdentifier, sqlStateOf } from "../server/queryable.ts";
import { searchPathSql } from "../server/session-settings.ts";
import type { Table } from "./schema.ts";

const SAMPLED_ROWS = 5_000;
const TIMEOUT_MS = 5_000;
const QUERY_CANCELED = "57014";

/** Null: it took too long, or the values do not compare. */
export interface Containment {
  /** Rows looked at. */
  readonly rows: number;
  /** Of them, without a value. */
  readonly nulls: number;
  /** Of those with a value, the ones that the other table has. */
  readonly found: number;
  /** A value that it has not. */
  readonly missing: string | null;
}

export interface Owners {
  readonly rows: number;
  readonly unowned: number;
  readonly example: string | null;
}

/** Rows whose other reference leads to another organization than their own. */
export interface Crossing {
  readonly rows: number;
  readonly crossing: number;
  readonly example: string | null;
}

export interface Sharing {
  /** Distinct rows that were referred to. */
  readonly rows: number;
  /** Of them, by more than one organization. */
  readonly shared: number;
  readonly example: string | null;
}

export class Measure {
  readonly #db: Queryable;
  readonly #sampledRows: number;

  constructor(db: Queryable, sampledRows = SAMPLED_ROWS) {
    this.#db = db;
    this.#sampledRows = sampledRows;
  }

  async containment(
    table: Table,
    columns: readonly string[],
    parent: Table,
    parentKey: readonly string[],
    where = "true",
  ): Promise<Containment | null> {
    const values = columns.map((column, at) => `c.${quoteIdentifier(column)} AS v${at}`).join(", ");
    const given = columns.map((_, at) => `s.v${at} IS NOT NULL`).join(" AND ");
    // EXISTS over one key each: an index look-up, whatever the size of the other table.
    const match = parentKey.map((key, at) => `p.${quoteIdentifier(key)} = s.v${at}`).join(" AND ");
    const shown = columns.map((_, at) => `s.v${at}::text`).join(" || ', ' || ");
    const row = await this.#one<Containment>(
      `SELECT count(*)::int AS rows, count(*) FILTER (WHERE NOT (${given}))::int AS nulls,
         count(*) FILTER (WHERE ${given} AND found)::int AS found,
         left(min(${shown}) FILTER (WHERE ${given} AND NOT found), 100) AS missing
       FROM (SELECT s.*, EXISTS (SELECT FROM ${parent.quoted} p WHERE ${match}) AS found
         FROM (SELECT ${values} FROM ${this.#sample(table, "c")} WHERE ${where} LIMIT ${this.#sampledRows}) s) s`,
    );
    return row;
  }

  /** The values of a type column with how many rows have each, most first; null when there are too many to be types. */
  async typesOf(table: Table, column: string): Promise<{ value: string; rows: number }[] | null> {
    const rows = await this.#all<{ value: string | null; rows: number }>(
      `SELECT value, count(*)::int AS rows FROM (SELECT t.${quoteIdentifier(column)}::text AS value FROM ${this.#sample(table, "t")} LIMIT ${4 * this.#sampledRows}) v
       GROUP BY value ORDER BY 2 DESC, 1 LIMIT 201`,
    );
    if (rows === null || rows.length > 200) return null;
    return rows.flatMap(({ value, rows: count }) => (value === null ? [] : [{ value, rows: count }]));
  }

  /** How many rows have no owner under these rules. */
  async owners(table: Table, ownership: Ownership): Promise<Owners | null> {
    const owner = ownerExpression(ownership, table.name, "t", "alone");
    return await this.#one<Owners>(
      `SELECT count(*)::int AS rows, count(*) FILTER (WHERE owner IS NULL)::int AS unowned, min(example) FILTER (WHERE owner IS NULL) AS example
       FROM (SELECT ${owner} AS owner, left(t::text, 120) AS example FROM ${this.#sample(table, "t")} LIMIT ${this.#sampledRows}) o`,
    );
  }

  async crossing(
    table: Table,
    ownership: Ownership,
    columns: readonly string[],
    parent: Table,
    parentKey: readonly string[],
  ): Promise<Crossing | null> {
    const own = ownerExpression(ownership, table.name, "t", "alone");
    const other = ownerExpression(ownership, parent.name, "o", "alone");
    const match = parentKey
      .map((key, at) => `o.${quoteIdentifier(key)} = t.${quoteIdentifier(columns[at] as string)}`)
      .join(" AND ");
    return await this.#one<Crossing>(
      `SELECT count(*) FILTER (WHERE other IS NOT NULL)::int AS rows, count(*) FILTER (WHERE own <> other)::int AS crossing,
         min(example) FILTER (WHERE own <> other) AS example
       FROM (SELECT ${own} AS own, (SELECT ${other} FROM ${parent.quoted} o WHERE ${match} LIMIT 1) AS other, left(t::text, 120) AS example
         FROM ${this.#sample(table, "t")} LIMIT ${this.#sampledRows}) x`,
    );
  }

  /** Is a row of `shared` referred to by rows of more than one organization of `table`? */
  async sharing(table: Table, ownership: Ownership, columns: readonly string[]): Promise<Sharing | null> {
    const owner = ownerExpression(ownership, table.name, "t", "alone");
    const key = columns.map((column) => `t.${quoteIdentifier(column)}::text`).join(" || ', ' || ");
    return await this.#one<Sharing>(
      `SELECT count(*)::int AS rows, count(*) FILTER (WHERE organizations > 1)::int AS shared,
         min(key || ' of organizations ' || first || ' and ' || last) FILTER (WHERE organizations > 1) AS example
       FROM (SELECT key, count(DISTINCT owner)::int AS organizations, min(owner) AS first, max(owner) AS last
         FROM (SELECT ${key} AS key, ${owner} AS owner FROM ${table.quoted} t LIMIT ${4 * this.#sampledRows}) o
         WHERE key IS NOT NULL AND owner IS NOT NULL GROUP BY key) k`,
    );
  }

  #sample(table: Table, alias: string): string {
    const percent = (100 * 4 * this.#sampledRows) / Math.max(1, table.rows);
    const sampled = percent < 100 && table.kind !== "foreign";
    return `${table.quoted} ${alias}${sampled ? ` TABLESAMPLE SYSTEM (${Math.max(0.000_1, percent).toFixed(6)})` : ""}`;
  }

  async #one<T extends object>(sql: string): Promise<T | null> {
    return (await this.#all<T>(sql))?.[0] ?? null;
  }

  async #all<T extends object>(sql: string): Promise<T[] | null> {
    try {
      return await inTransaction(
        this.#db,
        async (db) => {
          await db.query(`SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
          // The names in these queries are quoted; operators are the server's own.
          await db.query(`SET LOCAL search_path = pg_catalog; ${searchPathSql("transaction")}`);
          return (await db.query<T>(sql)).rows;
        },
        "READ ONLY",
      );
    } catch (error) {
      const state = sqlStateOf(error);
      // Too slow, or types that do not compare: then the rows say nothing.
      if (state === QUERY_CANCELED || state?.startsWith("42") || state?.startsWith("22")) return null;
      throw error;
    }
  }
}
