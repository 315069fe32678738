/** The state of the whole cluster as folded from the log. Plain data: a checkpoint is this, encoded. */
import type { Assignments, AssignmentsOf } from "./assignments.ts";
import type { Digest, MigrationId, OrganizationId, PodId, RouteVersion, StoreName } from "./ids.ts";
import { isOver, type MigrationSnapshot } from "./migration-machine.ts";
import type { MigrationKind, Settings } from "./plan.ts";

export interface Migration extends MigrationSnapshot {
  readonly migrationId: MigrationId;
  readonly kind: MigrationKind;
  /** Of a rollback: the migration that took its organizations away. */
  readonly of: MigrationId | null;
  readonly sourcePodId: PodId;
  readonly assignments: { readonly digest: Digest; readonly organizations: number };
  readonly settings: Settings;
  /** By the planner's clock: for people. What came first says `plannedSequence`. */
  readonly plannedAt: number;
  /** Of the record that planned it: the log alone orders migrations (rule 17). */
  readonly plannedSequence: number;
  readonly plannedBy: string;
  /** An event of this migration that this process does not know: it no longer acts on it (rule 13). */
  readonly notUnderstood: string | null;
}

/** One transfer of many organizations: the routes change by adding one layer, whatever their number. */
export interface RouteLayer {
  readonly migrationId: MigrationId;
  readonly version: RouteVersion;
  readonly digest: Digest;
  /** Targets whose share went back, with the version at which it did. */
  readonly revoked: Readonly<Record<PodId, RouteVersion>>;
}

export interface ClusterState {
  /** Sequence of the last record folded; 0 before the first. */
  readonly sequence: number;
  readonly pods: readonly PodId[];
  /** Authoritative for every organization that no layer names; null until the cluster is configured. */
  readonly defaultPodId: PodId | null;
  readonly stores: readonly StoreName[];
  /** The highest fence epoch used. */
  readonly epoch: number;
  readonly routeVersion: RouteVersion;
  /** Newest first. */
  readonly routeLayers: readonly RouteLayer[];
  readonly migrations: Readonly<Record<MigrationId, Migration>>;
  /** A cluster-wide event that this process does not know: it no longer acts at all (rule 13). */
  readonly notUnderstood: string | null;
}

export const emptyCluster: ClusterState = {
  sequence: 0,
  pods: [],
  defaultPodId: null,
  stores: [],
  epoch: 0,
  routeVersion: 0 as RouteVersion,
  routeLayers: [],
  migrations: {},
  notUnderstood: null,
};

/** Every event so far was known to the process that folded them: a newer version of it would fold the same. */
export function isUnderstood(state: ClusterState): boolean {
  return (
    state.notUnderstood === null && Object.values(state.migrations).every((m) => m.notUnderstood === null)
  );
}

export interface Route {
  readonly organizationId: OrganizationId;
  readonly podId: PodId;
  readonly version: RouteVersion;
}

/** The authoritative Pod of an organization, or null while the cluster is not configured. */
export function routeOf(
  state: ClusterState,
  organizationId: OrganizationId,
  assignmentsOf: AssignmentsOf,
): Route | null {
  for (const layer of state.routeLayers) {
    const podId = assignmentsOf(layer.digest).get(organizationId);
    if (podId === undefined || layer.revoked[podId] !== undefined) continue;
    return { organizationId, podId, version: layer.version };
  }
  if (state.defaultPodId === null) return null;
  return { organizationId, podId: state.defaultPodId, version: 0 as RouteVersion };
}

/**
 * How one target's share of a migration is to be enforced on every Pod, by every store and by the guard:
 * `source`: the source is authoritative; `fenced`: nobody may write; `transferred`: the target is
 * authoritative but has not opened; `opened`: the target is authoritative and serves.
 */
export type SharePhase = "source" | "fenced" | "transferred" | "opened";

/**
 * Whether a store that holds a share in the first phase has been told more than whoever asks for the second: nothing in
 * the log leads from one to the other, so the asker's memory is older than the store (rule 18). An opened share stays one
 * until its migration is settled; one that was transferred is opened, or goes back to the source.
 */
export function isBehind(held: SharePhase, wanted: SharePhase): boolean {
  if (held === "opened") return wanted !== "opened";
  return held === "transferred" && wanted === "fenced";
}

export function sharePhase(migration: Migration, podId: PodId): SharePhase {
  const share = migration.context.shares[podId];
  if (migration.context.transfer !== null) {
    if (share === "revoked") return "source";
    return share === "opened" ? "opened" : "transferred";
  }
  return migration.context.fenceUp ? "fenced" : "source";
}

/** The rollbacks of a migration, in the order in which they were planned. */
export function rollbacksOf(state: ClusterState, migrationId: MigrationId): Migration[] {
  return Object.values(state.migrations)
    .filter((migration) => migration.of === migrationId)
    .sort((a, b) => a.plannedSequence - b.plannedSequence);
}

/**
 * Targets whose changes flow back to the source: prepared while the migration is made, armed before a target opens, kept
 * up until the retention is over.
 */
export function reverseReplicationOf({ lifecycle, context, settings }: Migration): PodId[] {
  const over = lifecycle === "cleaning" || isOver(lifecycle);
  if (over || settings.retention.reverseReplication === "none") return [];
  return context.targetPodIds.filter(
    (podId) => context.shares[podId] !== "revoked" && context.reverseReplicationGivenUp[podId] === undefined,
  );
}

/** The live migration (if any) that claims an organization, for at most one can (PROTOCOL, lifecycle). */
export function claimsOf(assignments: Assignments, others: Iterable<Assignments>): OrganizationId[] {
  const claimed: OrganizationId[] = [];
  for (const other of others)
    for (const organization of assignments.keys()) if (other.has(organization)) claimed.push(organization);
  return claimed;
}
