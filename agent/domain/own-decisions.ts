/** The two things an agent may append by itself: that it opens, and that a fence ran out (rules 6 and 7). Pure. */
import type { ClusterState, Migration } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import { lowerExpiredFence } from "../../protocol/fence-deadline.ts";
import type { Epoch, MigrationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";

/**
 * `Opened`, if the log still says that this Pod's share is transferred and closed in that epoch. A revocation that
 * came first wins by the log's order, and nothing is appended.
 */
export function decideOpening(
  state: ClusterState,
  migrationId: MigrationId,
  self: PodId,
  epoch: Epoch,
): ClusterEvent[] {
  const migration = state.migrations[migrationId];
  if (!migration || migration.notUnderstood !== null || state.notUnderstood !== null) return [];
  const { transfer, shares } = migration.context;
  if (transfer?.epoch !== epoch || shares[self] !== "closed") return [];
  return [{ type: "Opened", v: 1, migrationId, epoch, podId: self }];
}

/** Agents leave the coordinator this much time to lower an expired fence with its better reason. */
export const AGENT_LOWERS_AFTER_MS = 300;

export function decideLowering(state: ClusterState, self: PodId, now: number): ClusterEvent[] {
  for (const migration of Object.values(state.migrations)) {
    if (migration.sourcePodId !== self && migration.context.shares[self] === undefined) continue;
    const reason = `the deadline passed and ${self} heard of no transfer`;
    const event = lowerExpiredFence(migration, now - AGENT_LOWERS_AFTER_MS, reason);
    if (event) {
      mark("fence-lowered-by-an-agent");
      return [event];
    }
  }
  return [];
}

/** A log server that was cut off from its peers may answer for this long after a newer record exists (measured: 1 s). */
const LOG_STALENESS_MS = 2_000;

/** The length of the read lease that a source keeps renewing, from before its fence goes up; null: none. */
export function leaseWanted(state: ClusterState, self: PodId): number | null {
  const leases = Object.values(state.migrations)
    .filter((m) => m.sourcePodId === self)
    .filter((m) => ["ready", "fencing", "matching", "transferring"].includes(m.lifecycle))
    .map((m) => m.settings.cutover.readLeaseMs);
  return leases.length === 0 ? null : Math.min(...leases);
}

/** After this long no read lease can be left. A tenth more, because two clocks may run at slightly different rates. */
export function leaseEndMs(readLeaseMs: number): number {
  return (readLeaseMs + LOG_STALENESS_MS) * 1.1;
}

/**
 * Rule 12: a target may open once the source said that it is dormant in this epoch, or once every read lease that
 * the source can hold must have run out. `sinceTransferSeenMs` is measured on this agent's own monotonic clock from
 * when it folded the transfer: a lease was granted before the transfer was appended, so it ends earlier than this.
 */
export function sourceIsSilent(
  dormantEpoch: number,
  epoch: Epoch,
  sinceTransferSeenMs: number,
  readLeaseMs: number,
): boolean {
  if (dormantEpoch >= epoch) mark("source-said-dormant");
  else if (sinceTransferSeenMs >= leaseEndMs(readLeaseMs)) mark("lease-must-be-over");
  return dormantEpoch >= epoch || sinceTransferSeenMs >= leaseEndMs(readLeaseMs);
}

/**
 * The source's word that it serves nothing of what it gave away (rule 12), as an epoch; 0: not yet. Given only once
 * the transfer is on disk: an agent that crashed and forgot it would lease reads again as long as a log server that
 * was cut off confirms the old end of the log.
 */
export function dormantEpochOf(migration: Migration, self: PodId, durableSequence: number): number {
  if (migration.sourcePodId !== self) return 0;
  return durableTransfer(migration, durableSequence)?.epoch ?? 0;
}

/**
 * May a target open what the transfer gave it? Only once the transfer is on its disk: an agent that opened and forgot
 * it would follow the former authority again, into copies that are written to here by then.
 */
export function mayOpen(migration: Migration, durableSequence: number): boolean {
  const isDurable = durableTransfer(migration, durableSequence) !== null;
  if (!isDurable) mark("opening-waits-for-the-disk");
  return isDurable;
}

/** The transfer, once a crash cannot take it from this Pod; null before. */
function durableTransfer({ context: { transfer } }: Migration, durableSequence: number) {
  return transfer !== null && transfer.sequence <= durableSequence ? transfer : null;
}

/**
 * May an agent put an aborted migration behind it for good? Only once the abort is on disk: after a crash it would
 * act on what was before the abort, raise the fence again, and then never release it.
 */
export function mayForget(state: ClusterState, durableSequence: number): boolean {
  if (state.sequence > durableSequence) mark("forgetting-waits-for-checkpoint");
  return state.sequence <= durableSequence;
}
