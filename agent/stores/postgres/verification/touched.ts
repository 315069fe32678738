/**
 * Which rows changed since they were last compared. Writers note them on the source (guard-functions.ts), in their own
 * transactions, independently of the change stream that copies them; so a change that the stream loses is found.
 *
 * How far the comparison came is a snapshot of the source and no position: a transaction may note a row early and
 * commit late, and a snapshot says of each whether it was there.
 */
import type { MigrationId } from "../../../../protocol/ids.ts";
import { lockKeys } from "../fence/names.ts";
import type { Database } from "../server/connection.ts";
import { quoteLiteral } from "../server/queryable.ts";
import { pagesOf } from "./pages.ts";
import type { TouchedRow } from "./rows.ts";

/** A writer of millions of rows (a backfill) notes them all: so many of them are in memory at once. */
const PAGE_ROWS = 10_000;

export interface Touched {
  /** Has every row of the pages, and nothing that came later. */
  readonly snapshot: string;
  /** Each row once, and ordered, so that two readers of one list have the same pages. */
  readonly pages: AsyncIterable<readonly TouchedRow[]>;
}

/** The rows noted since the snapshot `since`; all of them when that is null. `pageRows`: of a page at most. */
export async function readTouched(
  source: Database,
  migrationId: MigrationId,
  since: string | null,
  pageRows = PAGE_ROWS,
): Promise<Touched> {
  const later =
    since === null
      ? ""
      : `AND NOT pg_catalog.pg_visible_in_snapshot(touched.xid, ${quoteLiteral(since)}::pg_catalog.pg_snapshot)`;
  const list = `SELECT DISTINCT touched."table" COLLATE "C" AS "table", touched.key COLLATE "C" AS key FROM cleave.touched
     WHERE touched.migration_id = ${quoteLiteral(migrationId)} ${later} ORDER BY 1, 2`;
  // Nearly always it is short, and read at once.
  const { rows } = await source.query<{ snapshot: string; table: string | null; key: string[] | null }>(
    `SELECT present.snapshot, noted."table", noted.key
       FROM (SELECT pg_catalog.pg_current_snapshot()::text AS snapshot) AS present
       LEFT JOIN (${list} LIMIT ${pageRows + 1}) AS noted ON true ORDER BY 2, 3`,
  );
  const found = rows.flatMap(({ table, key }) => (table === null || key === null ? [] : [{ table, key }]));
  if (found.length <= pageRows) return { snapshot: rows[0]?.snapshot ?? "", pages: onePage(found) };
  let snapshot = "";
  const pages = pagesOf<TouchedRow & Record<string, unknown>>(source, list, pageRows, (of) => {
    snapshot = of;
  });
  const first = await pages.next();
  return { snapshot, pages: after(first, pages) };
}

async function* onePage(rows: readonly TouchedRow[]): AsyncGenerator<readonly TouchedRow[]> {
  if (rows.length > 0) yield rows;
}

async function* after<T>(first: IteratorResult<T>, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}

/** The source's present snapshot. */
export async function snapshotOf(source: Database): Promise<string> {
  const { rows } = await source.query<{ snapshot: string }>(
    "SELECT pg_catalog.pg_current_snapshot()::text AS snapshot",
  );
  return rows[0]?.snapshot ?? "";
}

/**
 * Remembers on the source that everything up to `snapshot` is equal, as any writer would: while a fence is up or waits
 * for writers, nothing is remembered, so that both Pods compare the same rows under it.
 * @returns whether it was.
 */
export async function saveVerified(
  source: Database,
  migrationId: MigrationId,
  snapshot: string,
): Promise<boolean> {
  const migration = quoteLiteral(migrationId);
  const results = (await source.query(`
DO LANGUAGE plpgsql ${quoteLiteral(`BEGIN
  IF pg_catalog.pg_try_advisory_xact_lock_shared(${lockKeys(migration)}) THEN
    INSERT INTO cleave.verified AS known (migration_id, snapshot)
      SELECT DISTINCT share.migration_id, ${quoteLiteral(snapshot)} FROM cleave.share WHERE share.migration_id = ${migration}
        AND (share.phase = 'source' OR (share.phase = 'opened' AND share.back AND share.target_pod_id = pg_catalog.current_setting('cluster_name')))
      ON CONFLICT (migration_id) DO UPDATE SET snapshot = EXCLUDED.snapshot;
  END IF;
END`)};
SELECT FROM cleave.verified WHERE migration_id = ${migration} AND snapshot = ${quoteLiteral(snapshot)}`)) as unknown as {
    rowCount: number;
  }[];
  return results.at(-1)?.rowCount === 1;
}

/** Forgets what was noted before a snapshot that is remembered as equal. */
export async function pruneTouched(source: Database, migrationId: MigrationId, saved: string): Promise<void> {
  await source.query(
    "DELETE FROM cleave.touched WHERE migration_id = $1 AND pg_catalog.pg_visible_in_snapshot(xid, $2::text::pg_catalog.pg_snapshot)",
    [migrationId, saved],
  );
}
