/** Rule 10: deletion asks twice. This is the log's answer; a store asks its own Pod besides. Pure. */
import type { AssignmentsOf } from "../../protocol/assignments.ts";
import { type ClusterState, isUnderstood, type Migration, routeOf } from "../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import type { Removal } from "../../protocol/ports/store.ts";

export function removalOf(
  newest: () => ClusterState,
  migrationId: MigrationId,
  self: PodId,
  assignmentsOf: AssignmentsOf,
): Removal {
  return {
    mayRemove: (organizationId) => mayRemove(newest(), migrationId, self, organizationId, assignmentsOf),
  };
}

const tookOver = ({ context }: Migration): boolean => Object.values(context.shares).includes("opened");

/**
 * May what this Pod has of the organization go, for a migration that cleans? Another Pod is authoritative, retention is
 * over, and no other live migration claims the organization. Whatever is not understood may be such a migration.
 */
export function mayRemove(
  state: ClusterState,
  migrationId: MigrationId,
  self: PodId,
  organizationId: OrganizationId,
  assignmentsOf: AssignmentsOf,
): boolean {
  const migration = state.migrations[migrationId];
  const cleaning = migration?.lifecycle === "cleaning" && migration.context.paused === null;
  if (!cleaning || !isUnderstood(state)) return false;
  if (routeOf(state, organizationId, assignmentsOf)?.podId === self) {
    mark("authoritative-is-kept");
    return false;
  }
  return !Object.values(state.migrations).some(
    (other) =>
      other.migrationId !== migrationId &&
      // What was rolled back is no way back of that migration any more; what it left is for the rollback to remove.
      // What the rollback did not take over, because it was given back, that migration still retains.
      !(other.migrationId === migration.of && tookOver(migration)) &&
      !isOver(other.lifecycle) &&
      assignmentsOf(other.assignments.digest).has(organizationId),
  );
}
