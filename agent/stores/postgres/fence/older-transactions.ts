/**
 * Waits for transactions that may have looked before something was committed. A transaction that found no route of
 * its organization wrote without the migration's lock, and so no fence would wait for it; a REPEATABLE READ one may
 * still do so much later. So after routes were staged everything in flight has to end before a fence may be raised.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Queryable } from "../server/queryable.ts";

/**
 * Transactions of this database that wrote or hold a snapshot, and prepared ones. One that did neither yet looks anew
 * when it starts to. A virtual transaction id is never used twice while the server runs.
 */
const IN_FLIGHT = `
SELECT l.virtualxid AS id, format('pid %s, user %s, application %s, since %s, %s', a.pid, a.usename, a.application_name,
    to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), a.state) AS description
FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.locktype = 'virtualxid' AND l.granted
  AND l.virtualxid = l.virtualtransaction
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
  AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
UNION ALL
SELECT '-1/' || transaction, format('prepared transaction %L since %s', gid, prepared)
FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()`;

/** Also on the path of the read-only window, after rows moved between organizations. */
const LOOK_EVERY_MS = 10;

export interface WaitOptions {
  readonly signal?: AbortSignal;
  /** Told who is waited for, whenever that changes; for the operator. */
  readonly onWaiting?: (transactions: readonly string[]) => void;
}

/** For the operator, of what `onWaiting` was told. */
export function waitsForOlder(transactions: readonly string[]): CleaveError {
  return new CleaveError(
    "POSTGRES_WAITS",
    `waiting for transactions that are older than the staged routes: ${transactions.join("; ")}`,
  );
}

/** Resolves when every transaction has ended that was in flight at the time of the call. */
export async function waitForOlderTransactions(db: Queryable, options: WaitOptions = {}): Promise<void> {
  const inFlight = async () => {
    const { rows } = await db.query<{ id: string; description: string }>(IN_FLIGHT);
    return new Map(rows.map((row) => [row.id, row.description]));
  };
  const older = await inFlight();
  let told = "";
  while (older.size > 0) {
    const ids = [...older.keys()].join();
    if (ids !== told) options.onWaiting?.([...older.values()]);
    told = ids;
    await sleep(LOOK_EVERY_MS, undefined, options.signal ? { signal: options.signal } : {});
    const now = await inFlight();
    for (const id of older.keys()) if (!now.has(id)) older.delete(id);
  }
}
