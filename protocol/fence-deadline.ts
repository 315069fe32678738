/** Rule 6: at its deadline anyone may lower a fence through the log; nobody may lower it in another way. */
import type { ClusterState, Migration } from "./cluster.ts";
import type { ClusterEvent } from "./events.ts";

/** A fence is up and its deadline has passed. */
export function fenceExpired(migration: Migration, now: number): boolean {
  const { fence, fenceUp } = migration.context;
  return fenceUp && fence !== null && now >= fence.deadlineAt;
}

/** The event that lowers an expired fence, or null. The log's compare-and-set decides against a transfer. */
export function lowerExpiredFence(migration: Migration, now: number, reason: string): ClusterEvent | null {
  const { fence } = migration.context;
  if (!fenceExpired(migration, now) || fence === null || migration.notUnderstood !== null) return null;
  return { type: "FenceLowered", v: 1, migrationId: migration.migrationId, epoch: fence.epoch, reason };
}

/** The earliest deadline of a fence that is up, or null. */
export function nextFenceDeadlineAt(state: ClusterState): number | null {
  const deadlines = Object.values(state.migrations).flatMap((m) =>
    m.context.fenceUp && m.context.fence && m.notUnderstood === null ? [m.context.fence.deadlineAt] : [],
  );
  return deadlines.length === 0 ? null : Math.min(...deadlines);
}
