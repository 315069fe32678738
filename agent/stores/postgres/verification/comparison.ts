/**
 * Compares rows of a live source with those of a target that follows it. A row counts as different only if the source's
 * did not change between two readings, and the target, having applied everything up to after the first of them, has
 * another: what is merely on its way is never called a difference.
 */
import type { ErrorCode } from "../../../../protocol/errors.ts";
import type { MovedTable, Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import type { RowKey } from "./keys.ts";
import { type Bucket, bucketDigests, bucketsFor, rowHashes, rowsOfBuckets } from "./rows.ts";

export interface Difference {
  readonly table: string;
  readonly key: RowKey;
  readonly what: string;
  /** Default: MISMATCH. */
  readonly code?: ErrorCode;
}

export interface Sides {
  readonly source: Database;
  readonly target: Database;
  readonly moving: Moving;
  /** Resolves when everything up to a position of the source is durable on the target. */
  readonly applied: (lsn: string) => Promise<void>;
  readonly signal: AbortSignal;
}

/** A row that is changed and changed back between readings looks the same each time, but not so many times. */
const READINGS = 3;
const BATCH = 500;

/** The rows that differ for good, of those that `keys` name. Rows that keep changing are noted by their writers anew. */
export async function compareRows(
  sides: Sides,
  table: MovedTable,
  keys: readonly RowKey[],
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (let from = 0; from < keys.length; from += BATCH)
    found.push(...(await compareBatch(sides, table, keys.slice(from, from + BATCH))));
  return found;
}

async function compareBatch(sides: Sides, table: MovedTable, keys: readonly RowKey[]): Promise<Difference[]> {
  const { source, target, moving, applied, signal } = sides;
  // Most are equal, and need no position to wait for.
  let suspects = await unequal(sides, table, keys);
  let differences: Difference[] = [];
  for (let reading = 0; reading < READINGS && suspects.length > 0; reading++) {
    signal.throwIfAborted();
    const before = await rowHashes(source, moving, table, suspects);
    await applied(await walPosition(source));
    const theirs = await rowHashes(target, moving, table, suspects);
    const after = await rowHashes(source, moving, table, suspects);
    differences = suspects.flatMap((key, at) => {
      const [ours, hash] = [after[at] ?? null, theirs[at] ?? null];
      // What changed between the two readings says nothing; its writer has noted it anew.
      if (ours === hash || ours !== (before[at] ?? null)) return [];
      const what =
        hash === null
          ? "is missing on the target"
          : ours === null
            ? "is on the target alone"
            : "has other contents on the target";
      return [{ table: table.name, key, what }];
    });
    suspects = differences.map(({ key }) => key);
  }
  return await namingGenerated(sides, table, differences);
}

/** What is copied may be equal, and what the target computed from it another. */
async function namingGenerated(
  { source, target, moving }: Sides,
  table: MovedTable,
  differences: readonly Difference[],
): Promise<Difference[]> {
  if (table.generated.length === 0 || differences.length === 0) return [...differences];
  const copied = { ...table, generated: [] };
  const keys = differences.map(({ key }) => key);
  const [ours, theirs] = await Promise.all([
    rowHashes(source, moving, copied, keys),
    rowHashes(target, moving, copied, keys),
  ]);
  const columns = table.generated.join(", ");
  const what = `has other generated values (${columns}) on the target: make the functions that compute them the same on both Pods, and then update the row on the source`;
  return differences.map((difference, at) =>
    ours[at] !== null && ours[at] === theirs[at] ? { ...difference, what } : difference,
  );
}

async function unequal(
  { source, target, moving }: Sides,
  table: MovedTable,
  keys: readonly RowKey[],
): Promise<readonly RowKey[]> {
  const [ours, theirs] = await Promise.all([
    rowHashes(source, moving, table, keys),
    rowHashes(target, moving, table, keys),
  ]);
  return keys.filter((_, at) => ours[at] !== theirs[at]);
}

/** Buckets whose rows are in memory at once. */
const AT_ONCE = 20;
/** A table whose every row became another is put right piece by piece. */
const AT_MOST = 100_000;

/** A server's estimate may be off by so much; by more, and a bucket's rows are too many to be in memory. */
const OFF_BY = 4;

/**
 * All rows of a table (of those that differ, the first hundred thousand): by buckets, and row by row where a bucket differs.
 * `rows` is an estimate of their number.
 */
export async function compareTable(sides: Sides, table: MovedTable, rows: number): Promise<Difference[]> {
  const { source, target, moving, signal } = sides;
  const buckets = bucketsFor(rows);
  const [ours, theirs] = await Promise.all([
    bucketDigests(source, moving, table, buckets),
    bucketDigests(target, moving, table, buckets),
  ]);
  const present = Math.max(rowsIn(ours), rowsIn(theirs));
  const differing = [...new Set([...ours.keys(), ...theirs.keys()])].filter(
    (bucket) => ours.get(bucket)?.digest !== theirs.get(bucket)?.digest,
  );
  if (differing.length > 0 && bucketsFor(present) > OFF_BY * buckets)
    return await compareTable(sides, table, present);
  const found: Difference[] = [];
  for (let from = 0; from < differing.length && found.length < AT_MOST; from += AT_ONCE) {
    signal.throwIfAborted();
    const chosen = differing.slice(from, from + AT_ONCE);
    const [here, there] = await Promise.all([
      rowsOfBuckets(source, moving, table, buckets, chosen),
      rowsOfBuckets(target, moving, table, buckets, chosen),
    ]);
    const suspects = [...new Set([...here.keys(), ...there.keys()])].filter(
      (key) => here.get(key) !== there.get(key),
    );
    const keys = suspects.map((key) => JSON.parse(key) as RowKey);
    found.push(...(await compareRows(sides, table, keys)));
  }
  return found;
}

const rowsIn = (buckets: ReadonlyMap<number, Bucket>) =>
  [...buckets.values()].reduce((sum, { rows }) => sum + rows, 0);

/** Of what the source has written; everything that it has acknowledged lies before it. */
export async function walPosition(source: Database): Promise<string> {
  const { rows } = await source.query<{ lsn: string }>(
    "SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS lsn",
  );
  return rows[0]?.lsn ?? "0/0";
}

export function describe({ table, key, what }: Difference): string {
  return `the row of ${table} with key (${key.join(", ")}) ${what}`;
}
