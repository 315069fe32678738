/** The fence of one migration (rule 4), with the marker that proves to a target that it has everything (rule 5). */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import type { SharePhase } from "../../../../protocol/cluster.ts";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Epoch, Lsn, MigrationId, PodId } from "../../../../protocol/ids.ts";
import { isLockTimeout, onOneConnection, type Queryable, sqlStateOf } from "../server/queryable.ts";
import { type CheckedState, OUTDATED, requireUnchanged } from "./checked.ts";
import { flipLockKeys, literal, lockKeys } from "./names.ts";
import { waitForOlderTransactions } from "./older-transactions.ts";
import { setShares } from "./staging.ts";
import { findLockHolders, terminateLockHolders } from "./stragglers.ts";

export interface FenceOptions {
  readonly migrationId: MigrationId;
  readonly epoch: Epoch;
  readonly targetPodIds: readonly PodId[];
  /** How long writers in flight may take to finish before they are terminated. */
  readonly graceMs: number;
  /** What the checks have looked at, which still has to be so; absent where nothing was to be checked. */
  readonly checked?: CheckedState;
  readonly signal?: AbortSignal;
}

export interface RaisedFence {
  /** The writers that were terminated, described for the operator. */
  readonly stragglers: readonly string[];
  /** From the request for the lock until every writer had ended and the fence was durable. */
  readonly drainMs: number;
  /** Of the fence's marker: a target that has replayed it has every write before it (rule 5). */
  readonly token: string;
  /** Of a move: the snapshot up to which its target had compared; null when it had not. */
  readonly verified: string | null;
  /** How often the source's schema was changed when the fence went up. */
  readonly schemaGeneration: number;
  /** A position of flushed WAL that has the marker in front of it. */
  readonly lsn: Lsn;
}

/** Between one look at the stragglers and the next, once their grace is over. */
const ROUND_MS = 10;
/** A terminated backend that has not gone after this is stuck in the kernel, or worse. */
const TERMINATION_MS = 3_000;
/** After that the server gives up by itself. */
const LEFT_ALONE_MS = 1_000;
/** SQLSTATE of a fence of an older epoch than the share's. */
const TOO_LATE = "CL409";
/** SQLSTATE of a fence that would have to vouch for rows that were not compared. */
const UNCOMPARED = "CL410";

/**
 * Makes the shares of the targets read-only and resolves when that is durable and every writer that was admitted
 * before has ended. Idempotent: at once when all are fenced already. `onOther` lends another connection to the same
 * database: for looking at writers, and terminating them, while the fence waits for them on `db`.
 * @throws CleaveError with nothing fenced: DRAIN_INCOMPLETE, naming the writer that cannot be ended; SCHEMA_CHANGED, naming
 * what was changed since rows were last compared; CHECKS_OUTDATED, naming what is not as the checks saw it.
 */
export async function raiseFence(db: Queryable, onOther: Lend, options: FenceOptions): Promise<RaisedFence> {
  return onOneConnection(db, (client) => raise(client, onOther, options));
}

export type Lend = <T>(work: (db: Queryable) => Promise<T>) => Promise<T>;

async function raise(client: ClientBase, onOther: Lend, options: FenceOptions): Promise<RaisedFence> {
  const { migrationId, graceMs, signal } = options;
  const startedAt = performance.now();
  const elapsedMs = () => performance.now() - startedAt;
  const fencePid = (client as ClientBase & { readonly processID: number }).processID;
  signal?.throwIfAborted();
  const settled = new AbortController();
  // The request for the lock stays in its queue from here on, and whoever comes later is refused: see `admit`.
  const flipped = lockAndFlip(client, options).finally(() => settled.abort());
  const quiet = flipped.catch(() => undefined);
  const stragglers = new Map<number, string>();
  let refusal: unknown;
  try {
    await pause(graceMs, settled.signal, signal);
    while (!settled.signal.aborted) {
      signal?.throwIfAborted();
      await onOther((db) => endStragglers(db, migrationId, fencePid, stragglers));
      if (elapsedMs() > graceMs + TERMINATION_MS) {
        const holders = await onOther((db) => findLockHolders(db, migrationId, fencePid));
        const who = holders.map(({ description }) => description).join("; ");
        throw new CleaveError("DRAIN_INCOMPLETE", `still in flight: ${who || "nobody who is visible"}`);
      }
      await pause(ROUND_MS, settled.signal, signal);
    }
  } catch (error) {
    refusal = error;
    await cancel(fencePid, onOther, settled.signal);
  }
  await quiet;
  // The lock may have come free at the last moment: then the fence is up, whatever was about to be said.
  const { token, verified, schema_generation, lsn } = await flipped.catch((error: unknown) => {
    throw refusal ?? known(error);
  });
  const schemaGeneration = Number(schema_generation);
  return {
    stragglers: [...stragglers.values()],
    drainMs: elapsedMs(),
    token,
    verified,
    schemaGeneration,
    lsn,
  };
}

function known(error: unknown): unknown {
  if (isLockTimeout(error)) return new CleaveError("DRAIN_INCOMPLETE", "writers in flight do not end");
  if (sqlStateOf(error) === UNCOMPARED)
    return new CleaveError("SCHEMA_CHANGED", (error as Error).message, { cause: error });
  if (sqlStateOf(error) === OUTDATED)
    return new CleaveError("CHECKS_OUTDATED", (error as Error).message, { cause: error });
  if (sqlStateOf(error) !== TOO_LATE) return error;
  return new CleaveError("COMMAND_NOT_POSSIBLE", (error as Error).message, { cause: error });
}

/** Ends after `ms`, or as soon as one of the signals says so. */
async function pause(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
  const given = signals.filter((signal) => signal !== undefined);
  await sleep(Math.max(1, ms), undefined, { signal: AbortSignal.any(given) }).catch(() => undefined);
}

async function endStragglers(
  db: Queryable,
  migrationId: MigrationId,
  fencePid: number,
  stragglers: Map<number, string>,
): Promise<void> {
  for (const { pid, description } of await terminateLockHolders(db, migrationId, fencePid)) {
    if (pid === null) throw new CleaveError("DRAIN_INCOMPLETE", `${description} cannot be ended by Cleave`);
    if (!stragglers.has(pid)) stragglers.set(pid, description);
  }
}

/** Ends the wait for the lock, which leaves nothing fenced. */
async function cancel(pid: number, onOther: Lend, settled: AbortSignal): Promise<void> {
  while (!settled.aborted) {
    await onOther((db) => db.query("SELECT pg_catalog.pg_cancel_backend($1)", [pid])).catch(() => undefined);
    await pause(ROUND_MS, settled);
  }
}

interface Flipped {
  readonly token: string;
  readonly verified: string | null;
  readonly schema_generation: string;
  readonly lsn: Lsn;
}

/**
 * All in one message, so that organizations are not read-only for a dozen round trips: lock, flip, marker, commit,
 * position. The marker is written by the transaction that flips: it holds the lock that every writer in flight has
 * given up by then, so all of their commits are in front of it in the WAL.
 */
async function lockAndFlip(client: ClientBase, options: FenceOptions): Promise<Flipped> {
  try {
    const atOnce = await client.query(`${lock(options)}; ${flip(options)}; COMMIT; ${flipped(options)}`);
    const result = lastRow(atOnce);
    if (result) return result;
    await client.query(lock(options));
    await settleMoves(client, options);
    const later = lastRow(await client.query(`${flip(options)}; COMMIT; ${flipped(options)}`));
    invariant(later !== undefined, `the shares of ${options.migrationId} were flipped, and are not fenced`);
    return later;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

function lastRow(results: unknown): Flipped | undefined {
  return (results as readonly { readonly rows: readonly Flipped[] }[]).at(-1)?.rows[0];
}

/** The server goes on with the message when this process dies: then nobody cancels it, and newcomers are refused so long. */
const lock = ({ migrationId, graceMs }: FenceOptions) => `
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = ${Math.ceil(graceMs + TERMINATION_MS + LEFT_ALONE_MS)}; SET LOCAL statement_timeout = 0; SET LOCAL synchronous_commit = on;
SELECT pg_catalog.pg_advisory_xact_lock(${lockKeys(literal(migrationId))})`;

/**
 * Nothing when rows were moved between organizations: that has to be settled first. See also `flipShares`. Each epoch is
 * raised once: an agent may have died while this message waited for writers, and the fence may be lowered by now.
 */
const flip = ({ migrationId, epoch, targetPodIds, checked }: FenceOptions) => `
DO LANGUAGE plpgsql ${literal(`
DECLARE
  later record;
  changed record;
  targets CONSTANT text[] := ${textArray(targetPodIds)};
  migration CONSTANT text := ${literal(migrationId)};
BEGIN
  PERFORM pg_catalog.pg_advisory_xact_lock(${flipLockKeys("migration")});
  SELECT * INTO later FROM cleave.share AS s WHERE s.migration_id = migration AND s.target_pod_id = ANY (targets)
    AND (s.epoch > ${epoch} OR s.phase IN ('transferred', 'opened') OR (s.epoch = ${epoch} AND s.phase <> 'fenced'));
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '${TOO_LATE}', MESSAGE = pg_catalog.format(
      'the share of %s is %s at epoch %s; a fence of epoch ${epoch} comes too late', later.target_pod_id, later.phase, later.epoch);
  END IF;
  IF EXISTS (SELECT FROM cleave.moved AS m WHERE m.migration_id = migration) THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM cleave.share AS s WHERE s.migration_id = migration AND s.target_pod_id = ANY (targets)
      AND (s.phase, s.epoch) IS DISTINCT FROM ('fenced', ${epoch})) THEN
    -- Of a move: rows may be others by a change of the schema that neither a writer nor the stream has told of.
    SELECT c.tag, c.objects[1] AS object INTO changed
      FROM cleave.schema_change AS c LEFT JOIN cleave.verified AS v ON v.migration_id = migration
      WHERE NOT COALESCE(pg_catalog.pg_visible_in_snapshot(c.xid, v.snapshot::pg_catalog.pg_snapshot), false)
        AND EXISTS (SELECT FROM cleave.share AS s WHERE s.migration_id = migration AND s.logical AND (s.rollback_of IS NULL OR (v.snapshot IS NOT NULL AND ${checked !== undefined}))) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION USING ERRCODE = '${UNCOMPARED}', MESSAGE = pg_catalog.format('%s (%s) came after the last comparison of rows', changed.tag, changed.object);
    END IF;
    ${checked === undefined ? "" : requireUnchanged(checked)}
    UPDATE cleave.pod SET generation = pg_catalog.setval('cleave.flip', generation + 1);
    UPDATE cleave.share AS s SET phase = 'fenced', epoch = ${epoch}
      WHERE s.migration_id = migration AND s.target_pod_id = ANY (targets);
  END IF;
  IF (SELECT count(*) FROM cleave.share AS s WHERE s.migration_id = migration AND s.target_pod_id = ANY (targets))
      <> pg_catalog.cardinality(targets) THEN
    RAISE EXCEPTION 'not every share of % is staged in this database', migration;
  END IF;
  INSERT INTO cleave.marker (migration_id, epoch, token, verified, schema_generation) VALUES (migration, ${epoch}, ${literal(randomUUID())},
    (SELECT v.snapshot FROM cleave.verified AS v WHERE v.migration_id = migration), cleave.schema_generation()) ON CONFLICT DO NOTHING;
END`)}`;

/** One row when the fence is up; the position is behind the marker, and flushed. */
const flipped = ({ migrationId, epoch, targetPodIds }: FenceOptions) => `
SELECT m.token, m.verified, m.schema_generation, pg_catalog.pg_current_wal_flush_lsn() AS lsn FROM cleave.marker AS m
WHERE m.migration_id = ${literal(migrationId)} AND m.epoch = ${epoch} AND NOT EXISTS (
  SELECT FROM cleave.share AS s WHERE s.migration_id = m.migration_id AND s.target_pod_id = ANY (${textArray(targetPodIds)})
    AND (s.phase, s.epoch) IS DISTINCT FROM ('fenced', m.epoch))`;

const textArray = (values: readonly string[]) =>
  `ARRAY[${values.map((value) => literal(value)).join(", ")}]::text[]`;

/**
 * Parents that came from another organization while routes were staged: a transaction that wrote to a child may have
 * found the former owner, and so holds another lock or none. All that were in flight then have to end; most of them
 * are neighbours', so none is terminated. Without such moves, which is nearly always, this is one look at an empty table.
 */
async function settleMoves(
  client: ClientBase,
  { migrationId, graceMs, signal }: FenceOptions,
): Promise<void> {
  const { rowCount } = await client.query("DELETE FROM cleave.moved WHERE migration_id = $1", [migrationId]);
  if (rowCount === 0) return;
  const grace = AbortSignal.timeout(Math.max(1, graceMs));
  let waitedFor: readonly string[] = [];
  try {
    await waitForOlderTransactions(client, {
      signal: signal ? AbortSignal.any([signal, grace]) : grace,
      onWaiting: (transactions) => {
        waitedFor = transactions;
      },
    });
  } catch (error) {
    signal?.throwIfAborted();
    if (!grace.aborted) throw error;
    throw new CleaveError(
      "DRAIN_INCOMPLETE",
      `rows moved between organizations, and these transactions may have seen them before: ${waitedFor.join("; ")}`,
    );
  }
}

/** The source serves the shares again. */
export async function lowerFence(
  db: Queryable,
  options: {
    readonly migrationId: MigrationId;
    readonly targetPodIds: readonly PodId[];
    readonly epoch: Epoch | null;
  },
): Promise<void> {
  const shares = Object.fromEntries(options.targetPodIds.map((podId) => [podId, "source"])) as Record<
    PodId,
    SharePhase
  >;
  await setShares(db, options.migrationId, shares, options.epoch);
}

/** The marker of a fence as far as this server (a hot standby too) has it. */
export async function readMarker(
  db: Queryable,
  migrationId: MigrationId,
  epoch: Epoch,
): Promise<{ readonly token: string } | null> {
  const { rows } = await db.query<{ token: string }>(
    "SELECT token FROM cleave.marker WHERE migration_id = $1 AND epoch = $2",
    [migrationId, epoch],
  );
  return rows[0] ?? null;
}

/** How long the server itself looks before it answers that there is none yet. */
const MARKER_ROUNDS = 25;

/** As `readMarker`, but waits for it up to a twentieth of a second, on the server: asking again and again costs more. */
export async function awaitMarker(
  db: Queryable,
  migrationId: MigrationId,
  epoch: Epoch,
): Promise<{ readonly token: string } | null> {
  const where = `migration_id = ${literal(migrationId)} AND epoch = ${epoch}`;
  const results = await db.query(
    `DO LANGUAGE plpgsql ${literal(`BEGIN
    FOR round IN 1..${MARKER_ROUNDS} LOOP
      EXIT WHEN EXISTS (SELECT FROM cleave.marker WHERE ${where});
      PERFORM pg_catalog.pg_sleep(0.002);
    END LOOP;
  END`)}; SELECT token FROM cleave.marker WHERE ${where}`,
  );
  const rows = (results as unknown as readonly { readonly rows: readonly { token: string }[] }[]).at(
    -1,
  )?.rows;
  return rows?.[0] ?? null;
}
