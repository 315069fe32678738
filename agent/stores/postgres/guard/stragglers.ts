/** Who holds a migration's lock: the writers that a fence waits for. */
import type { MigrationId } from "../../../../protocol/ids.ts";
import { LOCK_CLASS } from "./names.ts";
import type { Queryable } from "./queryable.ts";

export interface LockHolder {
  /** Null for a prepared transaction, which no backend belongs to. */
  readonly pid: number | null;
  /** Since its transaction began (or was prepared). */
  readonly ageMs: number;
  readonly description: string;
}

const QUERY_CHARACTERS = 100;

const HOLDERS = `
SELECT l.pid, COALESCE(extract(epoch FROM clock_timestamp() - COALESCE(a.xact_start, p.prepared)) * 1000, 0)::float8 AS age_ms,
  CASE WHEN l.pid IS NULL THEN format('the prepared transaction %L of user %s, prepared at %s', p.gid, p.owner, p.prepared)
    ELSE format('pid %s, user %s, application %L, %s, transaction since %s, last query since %s: %s', l.pid, a.usename,
      a.application_name, COALESCE(a.state, 'unknown state'), a.xact_start, a.query_start,
      left(regexp_replace(a.query, '\\s+', ' ', 'g'), $3))
  END AS description
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction::text = split_part(l.virtualtransaction, '/', 2)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1 AND l.objid::int8 = (hashtext($2)::int8 & 4294967295)
  AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()`;

export async function findLockHolders(
  db: Queryable,
  migrationId: MigrationId,
): Promise<readonly LockHolder[]> {
  const { rows } = await db.query<{ pid: number | null; age_ms: number; description: string }>(HOLDERS, [
    LOCK_CLASS,
    migrationId,
    QUERY_CHARACTERS,
  ]);
  return rows.map((row) => ({ pid: row.pid, ageMs: row.age_ms, description: row.description }));
}
