/**
 * What of a copy is done, written on the target in the very transactions that write the rows: whatever is killed, a
 * range that is said to be done is there, and one that is there is said to be.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import { COPY_TABLES } from "../fence/names.ts";
import type { Database } from "../server/connection.ts";
import type { Moving } from "./moved-tables.ts";
import type { KeyText, Range, TablePlan } from "./ranges.ts";
import type { Snapshot } from "./snapshot.ts";

const TABLES = `CREATE SCHEMA IF NOT EXISTS cleave; ${COPY_TABLES}`;

/** A part of a table, and how far it is copied. */
export interface RangeState {
  readonly table: string;
  readonly range: Range;
  /** The last key that is on the target; null before the first. */
  readonly upto: KeyText | null;
  readonly done: boolean;
  readonly rows: number;
  readonly bytes: number;
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
}

export type CopyBegun = Pick<Snapshot, "name" | "consistentLsn">;

/** The snapshot of a copy that was begun; null for none. */
export async function begunCopy(db: Database, migration: string): Promise<CopyBegun | null> {
  if (!(await hasJournal(db))) return null;
  const { rows } = await db.query<{ snapshot: string; lsn: string }>(
    "SELECT snapshot, lsn FROM cleave.copying WHERE migration = $1",
    [migration],
  );
  return rows[0] === undefined ? null : { name: rows[0].snapshot, consistentLsn: rows[0].lsn };
}

/** Null when the copy from this snapshot was not divided yet. */
export async function readRanges(
  db: Database,
  migration: string,
  snapshot: CopyBegun,
): Promise<RangeState[] | null> {
  const begun = await begunCopy(db, migration);
  if (begun?.name !== snapshot.name || begun.consistentLsn !== snapshot.consistentLsn) return null;
  const { rows } = await db.query<{
    table: string;
    range: string;
    upto: string | null;
    done: boolean;
    rows: string;
    bytes: string;
    estimated_rows: string;
    estimated_bytes: string;
  }>(
    `SELECT "table", range, upto, done, rows, bytes, estimated_rows, estimated_bytes FROM cleave.copied WHERE migration = $1`,
    [migration],
  );
  return rows.map((row) => ({
    table: row.table,
    range: JSON.parse(row.range) as Range,
    upto: row.upto === null ? null : (JSON.parse(row.upto) as KeyText),
    done: row.done,
    rows: Number(row.rows),
    bytes: Number(row.bytes),
    estimatedRows: Number(row.estimated_rows),
    estimatedBytes: Number(row.estimated_bytes),
  }));
}

/** The ranges of a plan, of which nothing is copied. */
export function rangesOf(plans: readonly TablePlan[]): RangeState[] {
  return plans.flatMap(({ table, ranges, estimatedRows, estimatedBytes }) =>
    ranges.map((range) => ({
      table: table.name,
      range,
      upto: null,
      done: false,
      rows: 0,
      bytes: 0,
      estimatedRows: Math.round(estimatedRows / ranges.length),
      estimatedBytes: Math.round(estimatedBytes / ranges.length),
    })),
  );
}

/** Before the first row is copied: from here on what is on the target is known to be of this snapshot. */
export async function writeRanges(
  db: Database,
  migration: string,
  snapshot: CopyBegun,
  ranges: readonly RangeState[],
): Promise<void> {
  await db.query(TABLES);
  await db.query("BEGIN");
  try {
    await forgetCopy(db, migration);
    await db.query("INSERT INTO cleave.copying (migration, snapshot, lsn) VALUES ($1, $2, $3)", [
      migration,
      snapshot.name,
      snapshot.consistentLsn,
    ]);
    await db.query(
      `INSERT INTO cleave.copied (migration, "table", range, estimated_rows, estimated_bytes)
       SELECT $1, * FROM unnest($2::text[], $3::text[], $4::int8[], $5::int8[])`,
      [
        migration,
        ranges.map(({ table }) => table),
        ranges.map(({ range }) => JSON.stringify(range)),
        ranges.map(({ estimatedRows }) => estimatedRows),
        ranges.map(({ estimatedBytes }) => estimatedBytes),
      ],
    );
    await db.query("COMMIT");
  } catch (error) {
    await db.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

/** Within the transaction that wrote these rows. */
export async function noteCopied(
  db: Database,
  migration: string,
  state: RangeState,
  copied: {
    readonly upto: KeyText | null;
    readonly rows: number;
    readonly bytes: number;
    readonly done: boolean;
  },
): Promise<void> {
  const { rowCount } = await db.query(
    `UPDATE cleave.copied SET upto = $4, done = $5, rows = rows + $6, bytes = bytes + $7
      WHERE migration = $1 AND "table" = $2 AND range = $3 AND NOT done AND upto IS NOT DISTINCT FROM $8`,
    [
      migration,
      state.table,
      JSON.stringify(state.range),
      jsonOf(copied.upto ?? state.upto),
      copied.done,
      copied.rows,
      copied.bytes,
      jsonOf(state.upto),
    ],
  );
  // Two copies at once, or a copy that was given up in between: rows would be there twice, or not at all.
  if (rowCount !== 1)
    throw new CleaveError(
      "INTERNAL",
      `a range of ${state.table} was copied by somebody else at the same time`,
    );
}

const jsonOf = (key: KeyText | null) => (key === null ? null : JSON.stringify(key));

/** What was copied is not to be relied on any more; in the transaction that removes it. */
export async function forgetCopy(db: Database, migration: string): Promise<void> {
  if (!(await hasJournal(db))) return;
  // No foreign key does it: these sessions have their triggers off.
  await db.query("DELETE FROM cleave.copied WHERE migration = $1", [migration]);
  await db.query("DELETE FROM cleave.copying WHERE migration = $1", [migration]);
}

async function hasJournal(db: Database): Promise<boolean> {
  const { rows } = await db.query<{ present: boolean }>(
    "SELECT pg_catalog.to_regclass('cleave.copied') IS NOT NULL AS present",
  );
  return rows[0]?.present === true;
}

/** The parts of `states` that are of tables that are still moved. @throws CleaveError INTERNAL for any other. */
export function tableOf(moving: Moving, state: RangeState) {
  const table = moving.tables.find(({ name }) => name === state.table);
  if (table === undefined)
    throw new CleaveError("INTERNAL", `${state.table} was copied and is not moved any more`);
  return table;
}
