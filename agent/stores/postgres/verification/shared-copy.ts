/** Copies rows of nobody alone to the target, with whatever they refer to in turn. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { APPLY_ROLE } from "../fence/names.ts";
import type { Column, Schema, Table } from "../inventory/schema.ts";
import { type Moving, whole } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { columnsOf, given, isGiven, parameters } from "./keys.ts";

interface Sides {
  readonly source: Database;
  readonly target: Database;
  readonly writer: Database;
  readonly moving: Moving;
  /** The target's. */
  readonly schema: Schema;
}

/** Columns of a table, with the types that their values come in. */
interface Wanted {
  readonly to: Table;
  readonly columns: readonly string[];
  readonly types: readonly string[];
}

interface Read {
  readonly to: Table;
  readonly columns: readonly Column[];
  readonly rows: (string | null)[][];
}

/** Their values may be large, and so many are in memory at once. */
const BATCH = 100;
const NAMED = 5;

/**
 * Copies the rows that have these values, in one transaction. What the source does not have is left out.
 * @returns how many came.
 * @throws CleaveError SHARED_ROW_CONFLICT when one refers to an organization's row that is not on the target.
 */
export async function copyShared(
  sides: Sides,
  wanted: Wanted,
  values: readonly (readonly string[])[],
): Promise<number> {
  if (values.length === 0) return 0;
  const moved = new Set(sides.moving.tables.map(({ name }) => name));
  const seen = new Set<string>();
  const found: Read[] = [];
  const queue = [{ ...wanted, values }];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { to, columns } = next;
    const fresh = next.values.filter((value) => {
      const id = JSON.stringify([to.name, columns, value]);
      return !seen.has(id) && seen.add(id);
    });
    const read = await readRows(sides.source, next, fresh);
    // What these rows refer to goes first: it is inserted from the end.
    found.push(read);
    for (const key of to.foreignKeys) {
      const parent = sides.schema.get(key.parent);
      if (parent === undefined) continue;
      const further = {
        to: parent,
        columns: key.parentKey,
        types: key.columns.map((column) => typeIn(to, column)),
      };
      const absent = await absentOf(sides.target, further, referredBy(read, key.columns));
      if (absent.length === 0) continue;
      if (moved.has(parent.name)) throw dangling(to, further, absent);
      queue.push({ ...further, values: absent });
    }
  }
  return insertAll(sides.writer, found.reverse());
}

const typeIn = (table: Table, column: string) => whole(table.columns.get(column)?.type ?? "text");

function dangling(to: Table, { to: parent, columns }: Wanted, absent: readonly string[][]): CleaveError {
  const rows = absent.slice(0, NAMED).map((value) => value.join(", "));
  return new CleaveError(
    "SHARED_ROW_CONFLICT",
    `rows of ${to.name} that are to be copied refer to rows of ${parent.name} that are not on the target: ${columns.join(", ")} = ${rows.join("; ")}`,
  );
}

function referredBy({ columns, rows }: Read, by: readonly string[]): string[][] {
  const places = by.map((column) => columns.findIndex(({ name }) => name === column));
  const values = rows.map((row) => places.map((place) => row[place] ?? null));
  const whole = values.filter((value): value is string[] => value.every((one) => one !== null));
  return [...new Map(whole.map((value) => [JSON.stringify(value), value])).values()];
}

async function readRows(
  source: Database,
  { to, columns: by, types }: Wanted,
  values: readonly (readonly string[])[],
): Promise<Read> {
  const columns = [...to.columns.values()].filter(({ generated }) => !generated);
  const rows: (string | null)[][] = [];
  const names = columns.map(({ name }) => name);
  for (let from = 0; from < values.length; from += BATCH) {
    // Each column by itself: an array of texts would have to be read character by character.
    const texts = columnsOf(names, '"to"').map((column, at) => `${column}::pg_catalog.text AS "${at}"`);
    const result = await source.query<Record<number, string | null>>(
      `SELECT ${texts.join(", ")} FROM ${to.quoted} AS "to" WHERE ${isGiven(by, types, '"to"')}`,
      parameters(values.slice(from, from + BATCH), by.length),
    );
    rows.push(...result.rows.map((row) => names.map((_, at) => row[at] ?? null)));
  }
  return { to, columns, rows };
}

/** Those of the values that no row of the target has. */
async function absentOf(
  target: Database,
  { to, columns, types }: Wanted,
  values: readonly string[][],
): Promise<string[][]> {
  const absent: string[][] = [];
  const { from, typed } = given(types);
  const match = columnsOf(columns, '"to"').map((key, at) => `${key} = ${typed[at]}`);
  for (let start = 0; start < values.length; start += BATCH) {
    const batch = values.slice(start, start + BATCH);
    const { rows } = await target.query<{ at: number }>(
      `SELECT "given".at::pg_catalog.int4 AS at FROM ${from} WHERE NOT EXISTS (SELECT FROM ${to.quoted} AS "to" WHERE ${match.join(" AND ")})`,
      parameters(batch, columns.length),
    );
    absent.push(...rows.map(({ at }) => batch[at - 1] as string[]));
  }
  return absent;
}

/** As the copy's role, which the guard lets through; triggers and foreign keys of the target have nothing to say to it. */
async function insertAll(writer: Database, reads: readonly Read[]): Promise<number> {
  let inserted = 0;
  await writer.query(
    `BEGIN; SET LOCAL SESSION AUTHORIZATION ${quoteIdentifier(APPLY_ROLE)}; SET LOCAL session_replication_role = replica`,
  );
  try {
    for (const { to, columns, rows } of reads) {
      const names = columns.map(({ name }) => quoteIdentifier(name));
      const { from, typed } = given(columns.map(({ type }) => whole(type)));
      for (let start = 0; start < rows.length; start += BATCH) {
        const { rowCount } = await writer.query(
          `INSERT INTO ${to.quoted} (${names.join(", ")}) OVERRIDING SYSTEM VALUE
           SELECT ${typed.join(", ")} FROM ${from} ON CONFLICT DO NOTHING`,
          parameters(rows.slice(start, start + BATCH), columns.length),
        );
        inserted += rowCount ?? 0;
      }
    }
    await writer.query("COMMIT");
    return inserted;
  } catch (error) {
    await writer.query("ROLLBACK").catch(() => undefined);
    throw refused(error);
  }
}

/** What constraints and types of the target do not take is there for an operator to see. */
function refused(error: unknown): unknown {
  const { code, table, message } = error as { code?: string; table?: string; message?: string };
  if (code === undefined || !/^2[23]/.test(code)) return error;
  return new CleaveError(
    "SHARED_ROW_CONFLICT",
    `a row of ${table ?? "nobody alone"} cannot be copied: ${message}`,
    {
      cause: error,
    },
  );
}
