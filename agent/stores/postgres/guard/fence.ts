/** The fence of one migration (rule 4), and the marker that proves to a target that it has everything (rule 5). */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import type { SharePhase } from "../../../../protocol/cluster.ts";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Epoch, Lsn, MigrationId, PodId } from "../../../../protocol/ids.ts";
import { literal, lockKeys } from "./names.ts";
import { waitForOlderTransactions } from "./older-transactions.ts";
import { inTransaction, onOneConnection, type Queryable } from "./queryable.ts";
import { flipShares, setShares } from "./staging.ts";
import { findLockHolders, terminateLockHolders } from "./stragglers.ts";

export interface FenceOptions {
  readonly migrationId: MigrationId;
  readonly epoch: Epoch;
  readonly targetPodIds: readonly PodId[];
  /** How long writers in flight may take to finish before they are terminated. */
  readonly graceMs: number;
  readonly signal?: AbortSignal;
}

export interface RaisedFence {
  /** The writers that were terminated, described for the operator. */
  readonly stragglers: readonly string[];
  /** From the request for the lock until every writer had ended. */
  readonly drainMs: number;
}

/** Between one look at the stragglers and the next, once their grace is over. */
const ROUND_MS = 10;
/** A terminated backend that has not gone after this is stuck in the kernel, or worse. */
const TERMINATION_MS = 3_000;

/**
 * Makes the shares of the targets read-only and resolves when that is durable and every writer that was admitted
 * before has ended. Idempotent: at once when all are fenced already. `onOther` lends another connection to the same
 * database: for looking at writers, and terminating them, while the fence waits for them on `db`.
 * @throws CleaveError DRAIN_INCOMPLETE, with nothing fenced, naming the writer that cannot be ended.
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
  await flipped.catch((error: unknown) => {
    throw refusal ?? error;
  });
  return { stragglers: [...stragglers.values()], drainMs: elapsedMs() };
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

async function lockAndFlip(client: ClientBase, options: FenceOptions): Promise<void> {
  const { migrationId, epoch, targetPodIds } = options;
  try {
    // One message: the flip follows the lock without a round trip in between.
    await client.query(
      `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;
       SELECT pg_catalog.pg_advisory_xact_lock(${lockKeys(literal(migrationId))})`,
    );
    await requireNoNewerEpoch(client, options);
    const shares = Object.fromEntries(targetPodIds.map((podId) => [podId, "fenced"])) as Record<
      PodId,
      SharePhase
    >;
    await settleMoves(client, options);
    await flipShares(client, migrationId, shares, epoch);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

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

async function requireNoNewerEpoch(client: ClientBase, options: FenceOptions): Promise<void> {
  const { migrationId, epoch, targetPodIds } = options;
  const { rows } = await client.query<{ target_pod_id: string; epoch: string; phase: SharePhase }>(
    "SELECT target_pod_id, epoch, phase FROM cleave.share WHERE migration_id = $1 AND target_pod_id = ANY($3::text[]) AND (epoch > $2 OR phase IN ('transferred', 'opened'))",
    [migrationId, epoch, targetPodIds],
  );
  const found = rows[0];
  if (found)
    throw new CleaveError(
      "COMMAND_NOT_POSSIBLE",
      `the share of ${found.target_pod_id} is ${found.phase} at epoch ${found.epoch}; a fence of epoch ${epoch} comes too late`,
    );
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

/**
 * Writes the marker of a raised fence, durably; again it returns the same token.
 * `lsn` is a position of flushed WAL that has the marker, and every write before it, in front.
 * @throws CleaveError INTERNAL when the fence of that epoch is not up, for then the marker would prove nothing.
 */
export async function writeMarker(
  db: Queryable,
  { migrationId, epoch }: { readonly migrationId: MigrationId; readonly epoch: Epoch },
): Promise<{ readonly token: string; readonly lsn: Lsn }> {
  return onOneConnection(db, async (client) => {
    const token = await inTransaction(client, async () => {
      await client.query("SET LOCAL synchronous_commit = on");
      const { rows: shares } = await client.query<{ epoch: string | null; phase: string }>(
        "SELECT epoch, phase FROM cleave.share WHERE migration_id = $1 FOR SHARE",
        [migrationId],
      );
      const up =
        shares.length > 0 &&
        shares.every((share) => share.phase === "fenced" && Number(share.epoch) === epoch);
      invariant(up, `the fence ${epoch} of ${migrationId} is not up, so no marker of it may be written`);
      await client.query("INSERT INTO cleave.marker VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [
        migrationId,
        epoch,
        randomUUID(),
      ]);
      return (await readMarker(client, migrationId, epoch))?.token;
    });
    invariant(token !== undefined, "a marker that was just written is not there");
    const { rows } = await client.query<{ lsn: Lsn }>("SELECT pg_catalog.pg_current_wal_flush_lsn() AS lsn");
    const lsn = rows[0]?.lsn;
    invariant(lsn !== undefined, "the server gave no WAL position");
    return { token, lsn };
  });
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
