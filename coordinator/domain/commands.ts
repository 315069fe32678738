/** What operators ask for: events, or a typed refusal that is thrown. Pure. */
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
import type { Digest, MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import { isOver, type Lifecycle } from "../../protocol/migration-machine.ts";
import type { Plan } from "../../protocol/plan.ts";
import { participants } from "./consensus.ts";
import { revocation } from "./decide.ts";

export type Command =
  | { readonly type: "check" }
  | { readonly type: "start" }
  | { readonly type: "approve" }
  | { readonly type: "abort"; readonly reason: string }
  | { readonly type: "revoke"; readonly podId: PodId; readonly reason: string }
  | { readonly type: "pause"; readonly reason: string }
  | { readonly type: "resume" }
  /** Ends the retention, `despiteReverseReplication` also where it is not level; `dryRun` only says what would be removed. */
  | { readonly type: "finalize"; readonly dryRun: boolean; readonly despiteReverseReplication?: boolean }
  /** What the Pod's organizations change flows back no more. */
  | { readonly type: "giveUp"; readonly podId: PodId; readonly reason: string };

type Events = readonly ClusterEvent[];

const POSSIBLE: Record<Command["type"], readonly Lifecycle[]> = {
  check: ["planned"],
  start: ["planned"],
  approve: ["following", "ready"],
  abort: ["planned", "preflight", "seeding", "following", "ready", "fencing", "matching", "transferring"],
  revoke: ["activating"],
  pause: ["seeding", "following", "ready", "retaining", "cleaning"],
  resume: ["seeding", "following", "ready", "retaining", "cleaning"],
  finalize: ["retaining"],
  giveUp: ["activating", "retaining"],
};

/** What an operator may do next; `rollback` is planned (rollback.ts), the others are commands. */
export function possibleCommands(migration: Migration): (Command["type"] | "rollback")[] {
  const { lifecycle, context } = migration;
  const flowsBack = reverseReplicationOf(migration).length > 0;
  const pointless = new Set<Command["type"]>([context.paused === null ? "resume" : "pause"]);
  if (!flowsBack) pointless.add("giveUp");
  const commands = (Object.keys(POSSIBLE) as Command["type"][]).filter(
    (type) => !pointless.has(type) && POSSIBLE[type].includes(lifecycle),
  );
  return lifecycle === "retaining" && flowsBack ? ["rollback", ...commands] : commands;
}

export function findMigration(state: ClusterState, migrationId: MigrationId): Migration {
  const migration = Object.hasOwn(state.migrations, migrationId) ? state.migrations[migrationId] : undefined;
  if (!migration) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${migrationId}`);
  return migration;
}

/**
 * @throws CleaveError MIGRATION_UNKNOWN, COMMAND_NOT_POSSIBLE, ABORT_AFTER_TRANSFER, ORGANIZATION_CLAIMED or
 * MESSAGE_VERSION_UNKNOWN.
 */
export function decideCommand(
  state: ClusterState,
  migrationId: MigrationId,
  command: Command,
  assignmentsOf: AssignmentsOf,
): Events {
  const migration = findMigration(state, migrationId);
  const notUnderstood = state.notUnderstood ?? migration.notUnderstood;
  if (notUnderstood !== null)
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", `this coordinator does not know ${notUnderstood}`);
  const base = { v: 1 as const, migrationId };
  if (!POSSIBLE[command.type].includes(migration.lifecycle)) {
    if (command.type === "abort" && migration.context.transfer !== null) {
      mark("abort-after-transfer-refused");
      throw new CleaveError(
        "ABORT_AFTER_TRANSFER",
        `${migrationId} transferred authority in epoch ${migration.context.transfer.epoch}`,
      );
    }
    // Asking twice for what has already happened is not an error: the first answer may have been lost.
    if (command.type === "abort" && migration.lifecycle === "aborted") return [];
    if (command.type === "finalize" && ["cleaning", "completed"].includes(migration.lifecycle)) return [];
    if (command.type === "start" && migration.context.startRequested && !isOver(migration.lifecycle))
      return [];
    mark("command-not-possible");
    throw new CleaveError(
      "COMMAND_NOT_POSSIBLE",
      `${migrationId} is ${migration.lifecycle}: ${command.type} is not possible`,
    );
  }
  switch (command.type) {
    case "check":
      return [{ type: "PreflightStarted", ...base, start: false }];
    case "start":
      return [{ type: "PreflightStarted", ...base, start: true }];
    case "approve":
      return migration.context.approvedBy === null ? [{ type: "CutoverApproved", ...base }] : [];
    case "abort":
      return [{ type: "MigrationAborted", ...base, reason: command.reason }];
    case "pause":
      return migration.context.paused === null
        ? [{ type: "MigrationPaused", ...base, reason: command.reason }]
        : [];
    case "resume":
      return migration.context.paused === null ? [] : [{ type: "MigrationResumed", ...base }];
    case "finalize":
      return decideFinalize(state, migration, command, assignmentsOf);
    case "giveUp":
      return giveUp(migration, command.podId, command.reason);
    case "revoke": {
      const share = migration.context.shares[command.podId];
      if (share === "revoked") return [];
      if (share !== "closed") {
        const why =
          share === undefined
            ? `${command.podId} is no target of ${migrationId}`
            : `${command.podId} has already opened`;
        throw new CleaveError("COMMAND_NOT_POSSIBLE", why);
      }
      mark("revoked-by-an-operator");
      return [revocation(state, migration, command.podId, command.reason)];
    }
  }
}

function giveUp(migration: Migration, podId: PodId, reason: string): Events {
  const { migrationId, context } = migration;
  if (context.reverseReplicationGivenUp[podId] !== undefined) return [];
  if (!reverseReplicationOf(migration).includes(podId))
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `nothing flows back from ${podId} in ${migrationId}`);
  mark("reverse-replication-given-up-by-an-operator");
  return [{ type: "ReverseReplicationGivenUp", v: 1, migrationId, podId, reason }];
}

/**
 * Nothing that another live migration claims may be removed (rule 10), so that one has to be over first: also a rollback
 * of this one, which removes what it left itself.
 */
function decideFinalize(
  state: ClusterState,
  migration: Migration,
  { dryRun, despiteReverseReplication = false }: Extract<Command, { type: "finalize" }>,
  assignmentsOf: AssignmentsOf,
): Events {
  const { migrationId, context } = migration;
  if (context.paused !== null)
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `${migrationId} is paused: resume it first`);
  if (!isUnderstood(state))
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", "this coordinator met an event that it does not know");
  const own = assignmentsOf(migration.assignments.digest);
  for (const other of Object.values(state.migrations)) {
    // What went back is no concern of the migration before any more, which still names it.
    if (other.migrationId === migrationId || other.migrationId === migration.of) continue;
    if (isOver(other.lifecycle)) continue;
    const claimed = claimsOf(own, [assignmentsOf(other.assignments.digest)]);
    if (claimed.length > 0)
      throw new CleaveError(
        "ORGANIZATION_CLAIMED",
        `${some(claimed)}: part of ${other.migrationId}, which is ${other.lifecycle} and has to be over first`,
      );
  }
  const check = context.removalCheck;
  if (check?.open && (check.end || dryRun)) return [];
  return [{ type: "RemovalCheckStarted", v: 2, migrationId, end: !dryRun, despiteReverseReplication }];
}

/**
 * Accepts a plan: every Pod known, every organization on the source and claimed by no other live migration.
 * The same plan again is accepted and changes nothing.
 */
export function decidePlan(
  state: ClusterState,
  plan: Plan,
  assignments: Assignments,
  digest: Digest,
  assignmentsOf: AssignmentsOf,
): Events {
  // What is not understood may have taken organizations away or claimed them.
  if (!isUnderstood(state))
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", "this coordinator met an event that it does not know");
  const targetPodIds = [...new Set(assignments.values())].sort();
  const existing = Object.hasOwn(state.migrations, plan.migration)
    ? state.migrations[plan.migration]
    : undefined;
  if (existing) {
    if (existing.assignments.digest === digest && existing.sourcePodId === plan.source) return [];
    throw new CleaveError("MIGRATION_EXISTS", `${plan.migration} exists with another plan`);
  }
  for (const podId of [plan.source, ...targetPodIds]) {
    if (!state.pods.includes(podId))
      throw new CleaveError("PLAN_UNKNOWN_POD", `${podId} is not in the cluster (${state.pods.join(", ")})`);
  }
  if (targetPodIds.includes(plan.source))
    throw new CleaveError("PLAN_INVALID", `${plan.source} is both source and target`);
  if (plan.kind === "move" && targetPodIds.length > 1)
    throw new CleaveError(
      "PLAN_INVALID",
      `a move has one target, and this plan names ${targetPodIds.join(", ")}: write a plan for each`,
    );
  const { acceptedDatabases } = plan.settings;
  if (plan.kind === "move" && acceptedDatabases !== undefined)
    throw new CleaveError(
      "PLAN_INVALID",
      "a move copies no database, so acceptedDatabases is of splits alone",
    );
  const live = Object.values(state.migrations).filter((migration) => !isOver(migration.lifecycle));
  for (const migration of live) requireFree(migration, plan, targetPodIds);
  const claimed = claimsOf(
    assignments,
    live.map((migration) => assignmentsOf(migration.assignments.digest)),
  );
  if (claimed.length > 0)
    throw new CleaveError("ORGANIZATION_CLAIMED", `${some(claimed)}: part of another live migration`);
  const elsewhere = [...assignments.keys()].filter(
    (id) => routeOf(state, id, assignmentsOf)?.podId !== plan.source,
  );
  if (elsewhere.length > 0)
    throw new CleaveError("PLAN_NOT_ON_SOURCE", `${some(elsewhere)}: not served by ${plan.source}`);
  const planned = {
    v: 2 as const,
    migrationId: plan.migration,
    sourcePodId: plan.source,
    assignments: { digest, organizations: assignments.size },
    settings: plan.settings,
  };
  const [targetPodId] = targetPodIds;
  return plan.kind === "move" && targetPodId !== undefined
    ? [{ type: "MovePlanned", ...planned, targetPodId }]
    : [
        {
          type: "MigrationPlanned",
          kind: "split",
          ...planned,
          v: acceptedDatabases === undefined ? 2 : 3,
          targetPodIds,
        },
      ];
}

/**
 * One migration at a time for each Pod: a fence of one would wait for what the other does. A migration that retains
 * has nothing to do but to keep what it left behind, so organizations may be moved meanwhile; but a Pod with the
 * copies of a split is no empty one.
 * @throws CleaveError POD_BUSY.
 */
export function requireFree(
  migration: Migration,
  plan: Pick<Plan, "kind" | "source">,
  targetPodIds: readonly PodId[],
): void {
  const others = participants(migration);
  // While it removes what it left behind, nothing may come to these Pods that could be taken for that.
  const retaining = migration.lifecycle === "retaining";
  const emptyOnes = plan.kind === "move" ? [] : targetPodIds;
  const wanted = retaining ? emptyOnes : [plan.source, ...targetPodIds];
  const busy = wanted.filter((podId) => others.includes(podId));
  if (busy.length > 0)
    throw new CleaveError("POD_BUSY", `${busy.join(", ")} takes part in ${migration.migrationId}`);
}

/** The first of many, for a message. */
export function some(ids: readonly OrganizationId[]): string {
  const shown = ids.slice(0, 5).join(", ");
  return ids.length > 5 ? `${shown} and ${ids.length - 5} more` : shown;
}
