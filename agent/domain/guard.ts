/**
 * May this Pod serve this access now? Pure, and from memory: rules 8 and 12. The four phases of a share are those of
 * ARCHITECTURE.md; PostgreSQL, Git and objects enforce the same table for writes by themselves.
 */
import type { AssignmentsOf } from "../../protocol/assignments.ts";
import {
  type ClusterState,
  type Migration,
  rollbacksOf,
  routeOf,
  sharePhase,
} from "../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import { isOver } from "../../protocol/migration-machine.ts";

export type Access =
  | { readonly outcome: "allow" }
  /** Another Pod is authoritative. */
  | { readonly outcome: "wrongPod"; readonly podId: PodId }
  /** Read-only for a moment; `retryAfterMs` is how long the fence can last at most. */
  | { readonly outcome: "fenced"; readonly retryAfterMs: number }
  /** This Pod is authoritative, but not open yet. */
  | { readonly outcome: "opening" }
  /** The source cannot confirm that it may still serve reads (rule 12). */
  | { readonly outcome: "unconfirmed" }
  /** The cluster is not configured, so nobody knows who this Pod is (rule 7). */
  | { readonly outcome: "unknownIdentity" };

/** What the agent knows beside the log. */
export interface LocalFacts {
  readonly self: PodId;
  /** All stores of this Pod enforce that its own share of the migration is open. */
  readonly openedHere: (migrationId: MigrationId) => boolean;
  readonly leaseValid: boolean;
  readonly now: number;
}

export interface AccessRequest {
  /** Null: the request concerns no organization; it belongs to the default Pod as cluster-wide data does. */
  readonly organizationId: OrganizationId | null;
  readonly write: boolean;
}

export function decideAccess(
  state: ClusterState,
  local: LocalFacts,
  request: AccessRequest,
  assignmentsOf: AssignmentsOf,
): Access {
  const { defaultPodId } = state;
  // An event that this agent does not know stops it from acting, not from serving (rule 13, I5): nobody can take an
  // organization from this Pod without a fence that this very agent would have had to raise. Once a fence is up that
  // no longer holds: the unknown event may be what gave the organization away, so reads stop too.
  if (defaultPodId === null) {
    mark("access-without-identity");
    return { outcome: "unknownIdentity" };
  }
  const { organizationId, write } = request;
  if (organizationId === null) {
    return !write || local.self === defaultPodId
      ? { outcome: "allow" }
      : { outcome: "wrongPod", podId: defaultPodId };
  }
  const claim = claimOf(state, organizationId, assignmentsOf);
  if (!claim) {
    const podId = routeOf(state, organizationId, assignmentsOf)?.podId ?? defaultPodId;
    return podId === local.self ? { outcome: "allow" } : { outcome: "wrongPod", podId };
  }
  const { migration, target } = claim;
  const source = migration.sourcePodId;
  switch (sharePhase(migration, target)) {
    case "source":
      return local.self === source ? { outcome: "allow" } : { outcome: "wrongPod", podId: source };
    case "fenced": {
      if (local.self !== source) return { outcome: "wrongPod", podId: source };
      if (write) {
        mark("write-refused-fenced");
        return {
          outcome: "fenced",
          retryAfterMs: Math.max(0, (migration.context.fence?.deadlineAt ?? 0) - local.now),
        };
      }
      const confirmed = local.leaseValid && migration.notUnderstood === null && state.notUnderstood === null;
      mark(confirmed ? "read-served-fenced" : "read-unconfirmed");
      return confirmed ? { outcome: "allow" } : { outcome: "unconfirmed" };
    }
    case "transferred":
      if (local.self === target) mark("access-while-opening");
      return local.self === target ? { outcome: "opening" } : { outcome: "wrongPod", podId: target };
    case "opened":
      if (local.self !== target) return { outcome: "wrongPod", podId: target };
      return local.openedHere(migration.migrationId) ? { outcome: "allow" } : { outcome: "opening" };
  }
}

/** By a rollback that is over: the migration that retains the others still names it, and says nothing of it any more. */
function wentBack(
  state: ClusterState,
  { migrationId }: Migration,
  organizationId: OrganizationId,
  assignmentsOf: AssignmentsOf,
): boolean {
  return rollbacksOf(state, migrationId).some(
    ({ lifecycle, context, assignments }) =>
      lifecycle === "completed" &&
      context.targetPodIds.some((podId) => context.shares[podId] === "opened") &&
      assignmentsOf(assignments.digest).has(organizationId),
  );
}

/** The newest migration that names the organization. Migrations are few; none of them is scanned. */
function claimOf(
  state: ClusterState,
  organizationId: OrganizationId,
  assignmentsOf: AssignmentsOf,
): { readonly migration: Migration; readonly target: PodId } | null {
  let newest: { migration: Migration; target: PodId } | null = null;
  for (const migration of Object.values(state.migrations)) {
    if (isOver(migration.lifecycle)) continue;
    const target = assignmentsOf(migration.assignments.digest).get(organizationId);
    if (target !== undefined && wentBack(state, migration, organizationId, assignmentsOf)) continue;
    if (
      target !== undefined &&
      (newest === null || migration.plannedSequence >= newest.migration.plannedSequence)
    ) {
      newest = { migration, target };
    }
  }
  return newest;
}
