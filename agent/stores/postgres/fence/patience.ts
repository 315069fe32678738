/**
 * Changes of tables that others use. A lock that is waited for makes everybody wait who comes later, so an attempt takes
 * 50 ms at most; and none is made while somebody is in the way who will not be gone by then.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";
import { inTransaction, isLockTimeout, type Queryable, sqlStateOf } from "../server/queryable.ts";
import { literal } from "./names.ts";

/** For how long those who come later may have to wait for an attempt. */
const ATTEMPT_MS = 50;
/** Between two attempts; it is looked in between, for a moment when nobody is in the way. */
const PAUSE_MS = 200;
const LOOK_EVERY_MS = 20;
/** A transaction that has lasted this long does not end within an attempt, as a rule. */
const LONG_MS = 500;
/** About half a minute; then whoever asked is told, and asks again. */
const PATIENCE_MS = 30_000;

export interface Patience {
  /** For the operator: a table's name, or what else is changed. */
  readonly what: string;
  /** The table to be locked, quoted, partitions included; absent: whatever `work` locks. */
  readonly table?: string;
  /** `EXCLUSIVE` keeps writers out, `ACCESS EXCLUSIVE` readers too. Default: as CREATE TRIGGER. */
  readonly mode?: "SHARE ROW EXCLUSIVE" | "ACCESS EXCLUSIVE";
  readonly migrationId: string;
  readonly signal?: AbortSignal | undefined;
  /** Told who is waited for, whenever that changes. */
  readonly onWaiting?: ((what: string, who: readonly string[]) => void) | undefined;
}

/** For the operator, of what `onWaiting` was told. */
export function waitsForLock(what: string, who: readonly string[]): CleaveError {
  return new CleaveError("POSTGRES_WAITS", `the guard of ${what} waits for ${who.join("; ")}`);
}

interface Blocker {
  readonly pid: number | null;
  readonly vacuum: boolean;
  readonly long: boolean;
  readonly description: string;
}

const OF_READERS = ["AccessShareLock", "RowShareLock"];
const OF_WRITERS = [
  "RowExclusiveLock",
  "ShareUpdateExclusiveLock",
  "ShareLock",
  "ShareRowExclusiveLock",
  "ExclusiveLock",
  "AccessExclusiveLock",
];

/** PostgreSQL itself ends a vacuum for whoever waits a second for it, unless it prevents a wraparound. */
const BLOCKERS = `
SELECT l.pid, bool_or(COALESCE(a.backend_type = 'autovacuum worker' AND a.query !~ 'to prevent wraparound', false)) AS vacuum,
  bool_or(l.pid IS NULL OR COALESCE(clock_timestamp() - a.xact_start > ${LONG_MS} * interval '1 ms', false)) AS long,
  CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
    ELSE format('pid %s, user %s, application %L, transaction since %s, %s', l.pid, max(a.usename), max(a.application_name),
      to_char(max(a.xact_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), max(a.state)) END AS description
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND l.mode = ANY ($2) AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT to_regclass($1)::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(to_regclass($1)))
GROUP BY l.pid ORDER BY 1`;

async function findBlockers(db: Queryable, { table, mode }: Patience): Promise<readonly Blocker[]> {
  if (table === undefined) return [];
  const modes = mode === "ACCESS EXCLUSIVE" ? [...OF_READERS, ...OF_WRITERS] : OF_WRITERS;
  const { rows } = await db.query<Blocker & Record<string, unknown>>(BLOCKERS, [table, modes]);
  for (const { pid, vacuum } of rows)
    if (vacuum && pid !== null) await db.query("SELECT pg_catalog.pg_cancel_backend($1)", [pid]);
  return rows.filter(({ vacuum }) => !vacuum);
}

/**
 * Runs `work` in a transaction of its own that has the table's lock, once it can be had.
 * @throws CleaveError POSTGRES_GUARD_MISSING, naming who is in the way, after half a minute.
 */
export async function patiently(
  db: Queryable,
  patience: Patience,
  work: (client: ClientBase) => Promise<void>,
): Promise<void> {
  const { what, signal } = patience;
  const until = performance.now() + PATIENCE_MS;
  let told = "";
  for (let blockers = await findBlockers(db, patience); ; blockers = await untilFree(db, patience)) {
    signal?.throwIfAborted();
    const cause = blockers.some(({ long }) => long) ? null : await attempt(db, patience, work);
    if (cause === "done") return;
    const who = blockers.map(({ description }) => description);
    if (performance.now() > until)
      throw new CleaveError(
        "POSTGRES_GUARD_MISSING",
        `${what} could not be locked for a moment, because of ${who.join("; ") || "transactions that follow each other"}; it is tried again`,
        { cause },
      );
    if (who.length > 0 && who.join() !== told) patience.onWaiting?.(what, who);
    told = who.join();
  }
}

/** Who is in the way after the pause, or earlier nobody. */
async function untilFree(db: Queryable, patience: Patience): Promise<readonly Blocker[]> {
  const until = performance.now() + PAUSE_MS;
  for (;;) {
    await sleep(LOOK_EVERY_MS, undefined, patience.signal ? { signal: patience.signal } : {});
    const blockers = await findBlockers(db, patience);
    if (performance.now() > until || (patience.table !== undefined && blockers.length === 0)) return blockers;
  }
}

async function attempt(
  db: Queryable,
  { what, table, mode = "SHARE ROW EXCLUSIVE", migrationId }: Patience,
  work: (client: ClientBase) => Promise<void>,
): Promise<unknown> {
  let locked = table === undefined;
  try {
    await inTransaction(db, async (client) => {
      await client.query(
        `SET LOCAL lock_timeout = ${ATTEMPT_MS}; SET LOCAL application_name = ${literal(`cleave ${migrationId}: guard of ${what}`.slice(0, 63))}`,
      );
      if (table !== undefined) {
        // One limit for all partitions; each could be waited for in turn while those before it are held.
        await client.query(`SET LOCAL statement_timeout = ${ATTEMPT_MS}`);
        await client.query(`LOCK TABLE ${table} IN ${mode} MODE`);
        await client.query("SET LOCAL statement_timeout = 0");
        locked = true;
      }
      await work(client);
    });
    return "done";
  } catch (error) {
    // Dropped meanwhile.
    if (!locked && sqlStateOf(error) === "42P01") return "done";
    if (isLockTimeout(error) || (!locked && sqlStateOf(error) === "57014")) return error;
    throw error;
  }
}
