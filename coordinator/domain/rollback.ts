/**
 * The way back. A rollback is a migration of its own, from the new authority to the copy that was left behind and that
 * has been kept level since: fenced, matched and transferred as every other. Pure.
 */
import type { Assignments, AssignmentsOf } from "../../protocol/assignments.ts";
import {
  type ClusterState,
  claimsOf,
  isUnderstood,
  type Migration,
  reverseReplicationOf,
  routeOf,
} from "../../protocol/cluster.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Digest, Epoch, MigrationId, OrganizationId, PodId, RouteVersion } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import type { Settings } from "../../protocol/plan.ts";
import { findMigration, requireFree, some } from "./commands.ts";

/** Of a migration's id. */
const MAX_NAME = 40;

export interface RollbackRequest {
  /** The migration that took the organizations away. */
  readonly of: MigrationId;
  /** Names the rollback; null: the first free of `<of>-back-1`, `-2`, … */
  readonly as: MigrationId | null;
  /** Null: all that `podId` took over and still has. */
  readonly organizations: readonly OrganizationId[] | null;
  /** Whose organizations go back; null: of the Pod that has them, or of the only one that took some over. */
  readonly podId: PodId | null;
  readonly approval: "auto" | "manual";
  /** The Pod is lost for ever: take over without evidence. The reason goes into the log. Null for a rollback. */
  readonly acceptLoss: string | null;
}

export interface Rollback {
  readonly migrationId: MigrationId;
  readonly sourcePodId: PodId;
  readonly targetPodId: PodId;
  readonly assignments: Assignments;
}

/**
 * What would go back, and as what.
 * @throws CleaveError MIGRATION_UNKNOWN, COMMAND_NOT_POSSIBLE, ROLLBACK_TOO_LATE, REVERSE_REPLICATION_GONE, ORGANIZATION_CLAIMED,
 * PLAN_UNKNOWN_ORGANIZATION, PLAN_INVALID, PLAN_NOT_ON_SOURCE, POD_BUSY, MIGRATION_EXISTS or MESSAGE_VERSION_UNKNOWN.
 */
export function findRollback(
  state: ClusterState,
  request: RollbackRequest,
  assignmentsOf: AssignmentsOf,
): Rollback {
  if (!isUnderstood(state))
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", "this coordinator met an event that it does not know");
  const migration = findMigration(state, request.of);
  requireRetaining(migration);
  const whole = assignmentsOf(migration.assignments.digest);
  const sourcePodId = request.podId ?? onlyPod(migration, whole, request.organizations);
  requireReverseReplication(migration, sourcePodId, request.acceptLoss !== null);
  const organizations = request.organizations ?? stillAt(state, whole, sourcePodId, assignmentsOf);
  const unknown = organizations.filter((id) => !whole.has(id));
  if (unknown.length > 0)
    throw new CleaveError("PLAN_UNKNOWN_ORGANIZATION", `${some(unknown)}: not part of ${request.of}`);
  const elsewhere = organizations.filter((id) => routeOf(state, id, assignmentsOf)?.podId !== sourcePodId);
  if (elsewhere.length > 0)
    throw new CleaveError("PLAN_NOT_ON_SOURCE", `${some(elsewhere)}: not served by ${sourcePodId}`);
  if (organizations.length === 0)
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `${sourcePodId} has nothing of ${request.of} any more`);
  const targetPodId = migration.sourcePodId;
  const assignments: Assignments = new Map(organizations.map((id) => [id, targetPodId]));
  requireUnclaimed(state, request.of, assignments, assignmentsOf);
  for (const other of Object.values(state.migrations))
    if (other.migrationId !== request.of && !isOver(other.lifecycle))
      requireFree(other, { kind: "move", source: sourcePodId }, [targetPodId]);
  return { migrationId: request.as ?? freeName(state, request.of), sourcePodId, targetPodId, assignments };
}

/** The events that begin the rollback: checks first, as always; with `acceptLoss` the transfer itself. */
export function decideRollback(
  state: ClusterState,
  request: RollbackRequest,
  digest: Digest,
  assignmentsOf: AssignmentsOf,
): readonly ClusterEvent[] {
  const found = findRollback(state, request, assignmentsOf);
  const { migrationId, sourcePodId, targetPodId, assignments } = found;
  if (Object.hasOwn(state.migrations, migrationId))
    throw new CleaveError("MIGRATION_EXISTS", `${migrationId} exists already`);
  const base = { v: 1 as const, migrationId };
  const planned: ClusterEvent = {
    type: "RollbackPlanned",
    ...base,
    v: 2,
    of: request.of,
    sourcePodId,
    targetPodId,
    assignments: { digest, organizations: assignments.size },
    settings: settingsOf(findMigration(state, request.of).settings, request.approval),
  };
  if (request.acceptLoss === null) return [planned, { type: "PreflightStarted", ...base, start: true }];
  mark("transfer-forced");
  const epoch = (state.epoch + 1) as Epoch;
  const routeVersion = (state.routeVersion + 1) as RouteVersion;
  return [planned, { type: "TransferForced", ...base, epoch, routeVersion, reason: request.acceptLoss }];
}

/** The copies have followed for long and settle nothing any more; and behind a rollback there is no other way back. */
function settingsOf(settings: Settings, approval: RollbackRequest["approval"]): Settings {
  // Of the split alone: nothing is copied on the way back.
  const { acceptedDatabases: _ofTheSplit, ...kept } = settings;
  return {
    ...kept,
    settlingMs: 0,
    cutover: { ...settings.cutover, approval },
    retention: { forMs: null, reverseReplication: "none" },
  };
}

function requireRetaining({ migrationId, lifecycle, context, of }: Migration): void {
  if (of !== null)
    throw new CleaveError(
      "COMMAND_NOT_POSSIBLE",
      `${migrationId} is a rollback itself: finalize it, and then ${of}; then the organizations can be moved again`,
    );
  if (lifecycle === "cleaning" || lifecycle === "completed")
    throw new CleaveError("ROLLBACK_TOO_LATE", `the retention of ${migrationId} is over`);
  if (lifecycle !== "retaining")
    throw new CleaveError(
      "COMMAND_NOT_POSSIBLE",
      `${migrationId} is ${lifecycle}: ${context.transfer === null ? "it can be aborted" : "its Pods have to open first"}`,
    );
  if (context.paused !== null)
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `${migrationId} is paused: resume it first`);
  if (context.removalCheck?.open && context.removalCheck.end)
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `${migrationId} is being finalized`);
}

function requireReverseReplication(migration: Migration, podId: PodId, acceptLoss: boolean): void {
  const { migrationId, context, settings } = migration;
  if (context.shares[podId] !== "opened")
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `${podId} took nothing over in ${migrationId}`);
  if (acceptLoss || reverseReplicationOf(migration).includes(podId)) return;
  const why =
    settings.retention.reverseReplication === "none"
      ? "its plan has no reverse replication"
      : `reverse replication from ${podId} was given up: ${context.reverseReplicationGivenUp[podId]}`;
  throw new CleaveError("REVERSE_REPLICATION_GONE", `${migrationId}: ${why}`);
}

/** A rollback has one source, as a move has one target. */
function onlyPod(
  { migrationId, context }: Migration,
  whole: Assignments,
  organizations: readonly OrganizationId[] | null,
): PodId {
  const wanted =
    organizations === null
      ? context.targetPodIds.filter((podId) => context.shares[podId] === "opened")
      : [...new Set(organizations.flatMap((id) => whole.get(id) ?? []))];
  const [only] = wanted;
  if (only !== undefined && wanted.length === 1) return only;
  throw new CleaveError(
    "PLAN_INVALID",
    wanted.length === 0
      ? `none of these organizations is part of ${migrationId}`
      : `they are on ${wanted.join(", ")}: roll back one Pod's organizations after the other's`,
  );
}

/** What the Pod took over and has not given back. */
function stillAt(
  state: ClusterState,
  whole: Assignments,
  podId: PodId,
  assignmentsOf: AssignmentsOf,
): OrganizationId[] {
  return [...whole].flatMap(([id, target]) =>
    target === podId && routeOf(state, id, assignmentsOf)?.podId === podId ? [id] : [],
  );
}

function requireUnclaimed(
  state: ClusterState,
  of: MigrationId,
  assignments: Assignments,
  assignmentsOf: AssignmentsOf,
): void {
  for (const other of Object.values(state.migrations)) {
    if (other.migrationId === of || isOver(other.lifecycle)) continue;
    const claimed = claimsOf(assignments, [assignmentsOf(other.assignments.digest)]);
    if (claimed.length > 0)
      throw new CleaveError("ORGANIZATION_CLAIMED", `${some(claimed)}: part of ${other.migrationId}`);
  }
}

function freeName(state: ClusterState, of: MigrationId): MigrationId {
  for (let turn = 1; ; turn += 1) {
    const suffix = `-back-${turn}`;
    const name = `${of.slice(0, MAX_NAME - suffix.length)}${suffix}` as MigrationId;
    if (!Object.hasOwn(state.migrations, name)) return name;
  }
}
