/** Who holds a migration's lock: the writers that a fence waits for. */
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Queryable } from "../server/queryable.ts";
import { LOCK_CLASS } from "./names.ts";

export interface LockHolder {
  /** Null for a prepared transaction, which no backend belongs to. */
  readonly pid: number | null;
  readonly description: string;
}

const QUERY_CHARACTERS = 100;

/**
 * Whose lock `l` is. A prepared transaction keeps the virtual id of the session that prepared it, which says nothing of
 * its real one; that one it has locked too. None is found when it ended between two looks at the locks.
 */
const PREPARED = `
SELECT format('the prepared transaction %L of user %s, prepared at %s', p.gid, p.owner, p.prepared)
FROM pg_catalog.pg_locks own JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE own.locktype = 'transactionid' AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction`;

const HOLDERS = `
SELECT l.pid,
  CASE WHEN l.pid IS NULL THEN COALESCE((${PREPARED}), 'a prepared transaction')
    ELSE format('pid %s, user %s, application %L, %s, transaction since %s, last query since %s: %s', l.pid, a.usename,
      a.application_name, COALESCE(a.state, 'unknown state'), a.xact_start, a.query_start,
      left(regexp_replace(a.query, '\\s+', ' ', 'g'), $3))
  END AS description
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1 AND l.objid::int8 = (hashtext($2)::int8 & 4294967295)
  AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM $4`;

/** `fencePid` is the backend that is raising the fence. */
export async function findLockHolders(
  db: Queryable,
  migrationId: MigrationId,
  fencePid: number,
): Promise<readonly LockHolder[]> {
  return (await db.query<LockHolder & Record<string, unknown>>(HOLDERS, parameters(migrationId, fencePid)))
    .rows;
}

/**
 * Terminates every backend that holds the lock and returns them. Where a prepared transaction is among the holders,
 * which cannot be ended in this way, nobody is terminated, for it would be in vain.
 * In one statement, for PostgreSQL can terminate a backend only, not a transaction: a round trip later, a pooled
 * connection could be in a transaction of somebody who has nothing to do with this.
 */
export async function terminateLockHolders(
  db: Queryable,
  migrationId: MigrationId,
  fencePid: number,
): Promise<readonly LockHolder[]> {
  const { rows } = await db.query<LockHolder & Record<string, unknown>>(
    `SELECT pid, description, CASE WHEN NOT bool_or(pid IS NULL) OVER () THEN pg_catalog.pg_terminate_backend(pid) END FROM (${HOLDERS}) AS holder`,
    parameters(migrationId, fencePid),
  );
  return rows;
}

function parameters(migrationId: MigrationId, fencePid: number): unknown[] {
  return [LOCK_CLASS, migrationId, QUERY_CHARACTERS, fencePid];
}
