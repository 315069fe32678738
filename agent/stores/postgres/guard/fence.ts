/** The fence of one migration (rule 4), and the marker that proves to a target that it has everything (rule 5). */
import { randomUUID } from "node:crypto";
import type { ClientBase } from "pg";
import type { SharePhase } from "../../../../protocol/cluster.ts";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Epoch, Lsn, MigrationId, PodId } from "../../../../protocol/ids.ts";
import { literal, lockKeys } from "./names.ts";
import { waitForOlderTransactions } from "./older-transactions.ts";
import { inTransaction, isLockTimeout, onOneConnection, type Queryable } from "./queryable.ts";
import { flipShares, setShares } from "./staging.ts";
import { findLockHolders, type LockHolder } from "./stragglers.ts";

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

/** Between one look at the stragglers and the next; in between the fence waits in the lock's queue. */
const ROUND_MS = 10;
/** A terminated backend that has not gone after this is stuck in the kernel, or worse. */
const TERMINATION_MS = 3_000;

/**
 * Makes the shares of the targets read-only and resolves when that is durable and every writer that was admitted
 * before has ended. Idempotent: at once when all are fenced already.
 * @throws CleaveError DRAIN_INCOMPLETE, with nothing fenced, naming the writer that cannot be ended.
 */
export async function raiseFence(db: Queryable, options: FenceOptions): Promise<RaisedFence> {
  return onOneConnection(db, (client) => raise(client, options));
}

async function raise(client: ClientBase, options: FenceOptions): Promise<RaisedFence> {
  const { migrationId, graceMs, signal } = options;
  const startedAt = performance.now();
  const elapsedMs = () => performance.now() - startedAt;
  const terminated = new Map<number, LockHolder>();
  signal?.throwIfAborted();
  let waitMs = Math.max(1, graceMs);
  while (!(await lockAndFlip(client, options, waitMs))) {
    signal?.throwIfAborted();
    waitMs = ROUND_MS;
    const holders = await findLockHolders(client, migrationId);
    const prepared = holders.find((holder) => holder.pid === null);
    if (prepared)
      throw new CleaveError("DRAIN_INCOMPLETE", `${prepared.description} cannot be ended by Cleave`);
    if (elapsedMs() > graceMs + TERMINATION_MS)
      throw new CleaveError(
        "DRAIN_INCOMPLETE",
        `still in flight: ${holders.map((holder) => holder.description).join("; ") || "nobody who is visible"}`,
      );
    for (const holder of holders) {
      // A newcomer that slipped in between two rounds has its grace too; the next round keeps others out.
      if (holder.pid === null || holder.ageMs < Math.min(graceMs, 2 * ROUND_MS)) continue;
      terminated.set(holder.pid, holder);
      await client.query("SELECT pg_catalog.pg_terminate_backend($1)", [holder.pid]);
    }
  }
  return { stragglers: [...terminated.values()].map((holder) => holder.description), drainMs: elapsedMs() };
}

/** True when the shares are fenced; false when writers held the lock for longer than `waitMs`. */
async function lockAndFlip(client: ClientBase, options: FenceOptions, waitMs: number): Promise<boolean> {
  const { migrationId, epoch, targetPodIds } = options;
  try {
    // One message: the flip follows the lock without a round trip in between.
    await client.query(
      `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = ${Math.ceil(waitMs)};
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
    return true;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    if (isLockTimeout(error)) return false;
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
