/**
 * What one Pod has to reach, derived from the folded log and nothing else (rule 2). Pure, so a crash after an
 * append loses nothing: the next start derives the same duties.
 */
import type { AssignmentsOf } from "../../protocol/assignments.ts";
import {
  type ClusterState,
  type Migration,
  reverseReplicationOf,
  rollbacksOf,
  type SharePhase,
  sharePhase,
} from "../../protocol/cluster.ts";
import type { Goal } from "../../protocol/evidence.ts";
import type { Epoch, MigrationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import type { Lifecycle, ShareState } from "../../protocol/migration-machine.ts";
import type { Duty, RollbackShare } from "../../protocol/ports/store.ts";
import { removalOf } from "./removal.ts";

/** The goal of a Pod in one migration; null: nothing to do, leave everything as it is. */
export function goalOf(migration: Migration, self: PodId): Goal | null {
  const isSource = migration.sourcePodId === self;
  const share = migration.context.shares[self];
  if (!isSource && share === undefined) return null;
  switch (migration.lifecycle) {
    case "planned":
    case "preflight":
    case "refused":
      return null;
    case "seeding":
      return isSource ? "prepare" : "seed";
    case "following":
    case "ready":
      return isSource ? "serve" : "follow";
    case "fencing":
    case "matching":
    case "transferring":
      return isSource ? "fence" : "match";
    case "activating":
    case "retaining":
      if (isSource) return "yield";
      if (share === "opened") return "open";
      if (share === "revoked") mark("revoked-target-stays-closed");
      // A revoked target stays as closed as it is: it enforces the fence or the transfer it last knew.
      return share === "closed" ? "activate" : null;
    case "cleaning":
      return goalWhenCleaning(migration, isSource, share);
    case "completed":
      return null;
    case "aborted":
      return migration.context.begun ? "release" : null;
  }
}

function goalWhenCleaning(
  { kind, context }: Migration,
  isSource: boolean,
  share: ShareState | undefined,
): Goal | null {
  // A replica of a split that gave its share back is a Pod without a purpose: its machine is the operator's to wipe.
  if (kind === "split" && share === "revoked") return null;
  if (context.paused !== null) {
    mark("removal-paused");
    return isSource ? "yield" : share === "opened" ? "open" : null;
  }
  return context.filesRemoved ? "removeRows" : "removeFiles";
}

/**
 * Duties of a Pod, oldest migration first. `released` are aborted migrations whose remains are gone; a newer
 * migration waits until its predecessors' remains are, so that none removes what belongs to another. `newest` is asked
 * for the state at the time when a store wants to remove something.
 */
export function dutiesOf(
  state: ClusterState,
  self: PodId,
  assignmentsOf: AssignmentsOf,
  released: ReadonlySet<MigrationId>,
  newest: () => ClusterState = () => state,
): Duty[] {
  if (state.notUnderstood !== null || state.defaultPodId === null) return [];
  const mine = Object.values(state.migrations)
    .filter(
      (migration) =>
        goalOf(migration, self) !== null &&
        !(migration.lifecycle === "aborted" && released.has(migration.migrationId)),
    )
    .sort((a, b) => a.plannedSequence - b.plannedSequence);
  const cleaning = mine.find((migration) => migration.lifecycle === "aborted");
  if (
    cleaning !== undefined &&
    mine.some(({ plannedSequence }) => plannedSequence > cleaning.plannedSequence)
  )
    mark("successor-waits-for-release");
  if (mine.some(({ notUnderstood }) => notUnderstood !== null)) mark("standing-still");
  return mine
    .filter((migration) => cleaning === undefined || migration.plannedSequence <= cleaning.plannedSequence)
    .filter((migration) => migration.notUnderstood === null)
    .map((migration) =>
      dutyOf(state, migration, self, goalOf(migration, self) as Goal, assignmentsOf, newest),
    );
}

/** Also used for preflight, where there is no duty yet. */
export function dutyOf(
  state: ClusterState,
  migration: Migration,
  self: PodId,
  goal: Goal,
  assignmentsOf: AssignmentsOf,
  newest: () => ClusterState = () => state,
): Duty {
  const targets = migration.context.targetPodIds;
  return {
    migrationId: migration.migrationId,
    kind: migration.kind,
    of: migration.of,
    forced: migration.context.transfer?.forced ?? false,
    reverseReplication: reverseReplicationOf(migration),
    rollbacks: rollbackShares(state, migration, assignmentsOf),
    role: migration.sourcePodId === self ? "source" : "target",
    goal,
    podId: self,
    sourcePodId: migration.sourcePodId,
    targetPodIds: targets,
    defaultPodId: state.defaultPodId as PodId,
    assignments: assignmentsOf(migration.assignments.digest),
    shares: Object.fromEntries(targets.map((podId) => [podId, sharePhase(migration, podId)])) as Record<
      PodId,
      SharePhase
    >,
    epoch: migration.context.fence?.epoch ?? null,
    settings: migration.settings,
    removal:
      migration.lifecycle === "cleaning"
        ? removalOf(newest, migration.migrationId, self, assignmentsOf)
        : null,
  };
}

/**
 * Those that have begun with anything: before that a rollback concerns no store. One whose target could not open is over
 * in this respect: its organizations flow back again as before.
 */
function rollbackShares(
  state: ClusterState,
  { migrationId }: Migration,
  assignmentsOf: AssignmentsOf,
): RollbackShare[] {
  return rollbacksOf(state, migrationId).flatMap((rollback) => {
    const target = rollback.context.targetPodIds[0];
    if (target === undefined || WITHOUT_EFFECT.has(rollback.lifecycle)) return [];
    if (rollback.context.shares[target] === "revoked") return [];
    return [
      {
        migrationId: rollback.migrationId,
        podId: rollback.sourcePodId,
        phase: sharePhase(rollback, target),
        assignments: assignmentsOf(rollback.assignments.digest),
      },
    ];
  });
}

const WITHOUT_EFFECT: ReadonlySet<Lifecycle> = new Set(["planned", "preflight", "refused", "aborted"]);

/** What checks are made for: what a Pod would begin with next. */
export function checkedDuty(
  state: ClusterState,
  migration: Migration,
  self: PodId,
  assignmentsOf: AssignmentsOf,
): Duty {
  const first = migration.sourcePodId === self ? "prepare" : "seed";
  const goal = migration.lifecycle === "retaining" ? "removeRows" : first;
  return dutyOf(state, migration, self, goal, assignmentsOf);
}

/**
 * Is the Pod's own share open? Once `openSince` says that all stores enforced it in this epoch; while something is
 * removed they do other things, which they began only after that.
 */
export function isOpen(duty: Duty, openSince: Epoch | null): boolean {
  if (duty.goal === "removeFiles" || duty.goal === "removeRows") return duty.shares[duty.podId] === "opened";
  return duty.goal === "open" && openSince === duty.epoch;
}

/** Two duties with the same key ask for the same: a store is called again only when it changed. */
export function dutyKey(duty: Duty): string {
  const known = keys.get(duty);
  if (known !== undefined) return known;
  const key = computeKey(duty);
  keys.set(duty, key);
  return key;
}

/** A duty is never changed, and its key is asked for with every report. */
const keys = new WeakMap<Duty, string>();

function computeKey(duty: Duty): string {
  const shares = Object.entries(duty.shares).sort(([a], [b]) => (a < b ? -1 : 1));
  // A fence of a rollback is its own stores' business.
  const rollbacks = duty.rollbacks.map(({ migrationId, phase }) => [
    migrationId,
    phase === "fenced" ? "source" : phase,
  ]);
  return JSON.stringify([
    duty.migrationId,
    duty.goal,
    duty.epoch,
    shares,
    duty.reverseReplication,
    rollbacks,
  ]);
}
