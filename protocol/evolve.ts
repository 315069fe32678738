/** Fold: state × record → state. Total and pure; folding from zero or from any checkpoint gives the same (I8). */
import type { ClusterState, Migration } from "./cluster.ts";
import type { ClusterEvent, MigrationEvent, PlannedEvent, ReadRecord } from "./events.ts";
import { mark } from "./marks.ts";
import { advance, initialSnapshot, type MachineEvent } from "./migration-machine.ts";
import type { MigrationKind } from "./plan.ts";

interface Stamp {
  readonly at: number;
  readonly by: string;
  readonly sequence: number;
}

export function evolve(state: ClusterState, record: ReadRecord, sequence: number): ClusterState {
  const stamp: Stamp = { at: record.at, by: record.by, sequence };
  let next = state;
  for (const event of record.events) {
    next = event.type === "Unknown" ? withUnknown(next, event.event) : withEvent(next, event, stamp);
  }
  return { ...next, sequence };
}

function withUnknown(
  state: ClusterState,
  event: { type: string; v: number; migrationId?: string | undefined },
): ClusterState {
  mark("event-not-understood");
  const what = `event ${event.type} of version ${event.v}`;
  const migration = event.migrationId === undefined ? undefined : find(state, event.migrationId);
  if (migration) return withMigration(state, { ...migration, notUnderstood: what });
  return { ...state, notUnderstood: what };
}

function withEvent(state: ClusterState, event: ClusterEvent, stamp: Stamp): ClusterState {
  if (event.type === "ClusterConfigured") {
    return { ...state, pods: event.pods, defaultPodId: event.defaultPodId, stores: event.stores };
  }
  if (isPlanned(event)) {
    if (find(state, event.migrationId)) return state;
    return withMigration(state, {
      migrationId: event.migrationId,
      kind: kindOf(event),
      of: event.type === "RollbackPlanned" ? event.of : null,
      sourcePodId: event.sourcePodId,
      assignments: event.assignments,
      settings: event.settings,
      plannedAt: stamp.at,
      plannedSequence: stamp.sequence,
      plannedBy: stamp.by,
      notUnderstood: null,
      ...initialSnapshot(event.type === "MigrationPlanned" ? event.targetPodIds : [event.targetPodId]),
    });
  }
  const before = find(state, event.migrationId);
  if (!before) return state;
  const machineEvent: MachineEvent = { ...event, ...stamp };
  const after: Migration = { ...before, ...advance(before, machineEvent) };
  return withRoutes(withMigration(state, after), before, after, event);
}

/** Routes and epochs follow from what the machine accepted, not from the event alone. */
function withRoutes(
  state: ClusterState,
  before: Migration,
  after: Migration,
  event: MigrationEvent,
): ClusterState {
  if (event.type === "FenceRaised" && after.context.fence?.epoch === event.epoch) {
    return { ...state, epoch: Math.max(state.epoch, event.epoch) };
  }
  if (
    (event.type === "AuthorityTransferred" || event.type === "TransferForced") &&
    before.context.transfer === null &&
    after.context.transfer !== null
  ) {
    const layer = {
      migrationId: after.migrationId,
      version: event.routeVersion,
      digest: after.assignments.digest,
      revoked: {},
    };
    const epoch = Math.max(state.epoch, event.epoch);
    return { ...state, epoch, routeVersion: event.routeVersion, routeLayers: [layer, ...state.routeLayers] };
  }
  if (
    event.type === "TransferRevoked" &&
    before.context.shares[event.podId] === "closed" &&
    after.context.shares[event.podId] === "revoked"
  ) {
    const routeLayers = state.routeLayers.map((layer) =>
      layer.migrationId === after.migrationId
        ? { ...layer, revoked: { ...layer.revoked, [event.podId]: event.routeVersion } }
        : layer,
    );
    return { ...state, routeVersion: event.routeVersion, routeLayers };
  }
  return state;
}

/** Begins a migration: its assignments have to be known before it is folded. */
export function isPlanned(event: ReadRecord["events"][number]): event is PlannedEvent {
  return "assignments" in event;
}

function kindOf(event: PlannedEvent): MigrationKind {
  if (event.type === "MigrationPlanned") return event.kind;
  return event.type === "MovePlanned" ? "move" : "rollback";
}

function find(state: ClusterState, migrationId: string): Migration | undefined {
  return Object.hasOwn(state.migrations, migrationId)
    ? state.migrations[migrationId as Migration["migrationId"]]
    : undefined;
}

function withMigration(state: ClusterState, migration: Migration): ClusterState {
  return { ...state, migrations: { ...state.migrations, [migration.migrationId]: migration } };
}
