/** What a person wants to know of a migration: where it is, what it waits for, what they may do next. Pure. */
import { type ClusterState, type Migration, reverseReplicationOf } from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import type {
  Evidence,
  Finding,
  Problem,
  ReverseReplicationStatus,
  StoreStatus,
} from "../../protocol/evidence.ts";
import type { MigrationId, PodId, StoreName } from "../../protocol/ids.ts";
import type {
  Fence,
  Lifecycle,
  Pause,
  RemovalCheck,
  ShareState,
  Transfer,
} from "../../protocol/migration-machine.ts";
import type { MigrationKind } from "../../protocol/plan.ts";
import { STORE_STATES, type StoreState } from "../../protocol/wording.ts";
import { type Command, possibleCommands } from "./commands.ts";
import {
  exactConsensus,
  notCaughtUp,
  notRemoved,
  notSeeded,
  participants,
  preflight,
  reverseReplicationBehind,
} from "./consensus.ts";
import { keptWalBytes } from "./decide.ts";
import type { Observations } from "./observations.ts";
import { type Estimate, estimateOf, type Paces } from "./pace.ts";

export interface StoreView
  extends Pick<
    StoreStatus,
    "reached" | "progress" | "lag" | "verified" | "scrub" | "problems" | "stragglers" | "reverseReplication"
  > {
  /** What it is doing; `reached` says whether that is done, or is being kept up. */
  readonly state: StoreState;
  /** Equal to the source at the newest fence; null while there is nothing to compare, and on the source. */
  readonly matched: boolean | null;
  readonly evidence: Evidence | null;
}

export interface PodStatus {
  readonly podId: PodId;
  readonly role: "source" | "target";
  readonly share: ShareState | null;
  /** Null for a store of which nothing was reported. */
  readonly stores: Readonly<Partial<Record<StoreName, StoreView | null>>>;
}

export interface ReverseReplicationView {
  readonly podId: PodId;
  /** Why nothing flows back any more; null while it does. */
  readonly givenUp: string | null;
  /** What the source's stores say of it. */
  readonly stores: Readonly<Partial<Record<StoreName, ReverseReplicationStatus>>>;
}

export interface MigrationStatus {
  readonly migrationId: MigrationId;
  readonly kind: MigrationKind;
  /** Of a rollback: what is rolled back. */
  readonly of: MigrationId | null;
  readonly lifecycle: Lifecycle;
  readonly sourcePodId: PodId;
  readonly organizations: number;
  readonly waitingFor: readonly string[];
  readonly findings: readonly Finding[];
  readonly attempts: number;
  readonly approvedBy: string | null;
  readonly fence: Fence | null;
  readonly transfer: Transfer | null;
  readonly reason: string | null;
  /** What the source's disk keeps for the slowest target, and what it may; null while it is not known. */
  readonly wal: { readonly keptBytes: number; readonly budgetBytes: number | null } | null;
  /** How long the present step still takes, and by what; null where it waits for a person or is a matter of moments. */
  readonly estimate: Estimate | null;
  readonly paused: Pause | null;
  /** Of each target that keeps a way back, or kept one; empty before the transfer. */
  readonly reverseReplication: readonly ReverseReplicationView[];
  /** The newest look at what would be removed; null before the first. */
  readonly removalCheck: RemovalCheck | null;
  readonly pods: readonly PodStatus[];
  readonly possibleCommands: readonly (Command["type"] | "rollback")[];
}

export interface ClusterStatus {
  readonly at: number;
  /** The coordinator's connection to NATS is up. */
  readonly connected: boolean;
  readonly sequence: number;
  readonly pods: readonly {
    readonly podId: PodId;
    readonly lastReportAgeMs: number | null;
    readonly incarnation: number | null;
    readonly software: string | null;
    /** Of the Pod itself, whether it takes part in anything or not. */
    readonly problems: readonly Problem[];
  }[];
  readonly migrations: readonly MigrationStatus[];
}

export function clusterStatus(
  state: ClusterState,
  observations: Observations,
  paces: Paces,
  connected: boolean,
  now: number,
): ClusterStatus {
  return {
    at: now,
    connected,
    sequence: state.sequence,
    pods: state.pods.map((podId) => {
      const received = observations.reports.get(podId);
      return {
        podId,
        lastReportAgeMs: received ? now - received.receivedAt : null,
        incarnation: received?.report.incarnation ?? null,
        software: received?.report.software ?? null,
        problems: received?.report.problems ?? [],
      };
    }),
    migrations: Object.values(state.migrations).map((migration) =>
      migrationStatus(state, migration, observations, paces, now),
    ),
  };
}

function migrationStatus(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  paces: Paces,
  now: number,
): MigrationStatus {
  const { context } = migration;
  const storesOf = (podId: PodId) =>
    observations.reports.get(podId)?.report.migrations[migration.migrationId]?.stores;
  return {
    migrationId: migration.migrationId,
    kind: migration.kind,
    of: migration.of,
    lifecycle: migration.lifecycle,
    sourcePodId: migration.sourcePodId,
    organizations: migration.assignments.organizations,
    waitingFor: waitingFor(state, migration, observations, now),
    findings: [...context.findings],
    attempts: context.attempts,
    approvedBy: context.approvedBy,
    fence: context.fence && context.fenceUp ? context.fence : null,
    transfer: context.transfer,
    reason: context.reason,
    wal: walOf(migration, observations),
    estimate: estimateOf(migration, participants(migration), storesOf, paces, now),
    paused: context.paused,
    reverseReplication: reverseReplicationViews(migration, observations),
    removalCheck: context.removalCheck,
    pods: participants(migration).map((podId) => podStatus(state, migration, observations, podId)),
    possibleCommands: possibleCommands(migration),
  };
}

function reverseReplicationViews(migration: Migration, observations: Observations): ReverseReplicationView[] {
  const { transfer, reverseReplicationGivenUp, targetPodIds } = migration.context;
  if (transfer === null) return [];
  const kept = reverseReplicationOf(migration);
  const report = observations.reports.get(migration.sourcePodId)?.report;
  const stores = Object.entries(report?.migrations[migration.migrationId]?.stores ?? {});
  return targetPodIds
    .filter((podId) => kept.includes(podId) || reverseReplicationGivenUp[podId] !== undefined)
    .map((podId) => ({
      podId,
      givenUp: reverseReplicationGivenUp[podId] ?? null,
      stores: Object.fromEntries(
        stores.flatMap(([store, status]) => {
          const way = status.reverseReplication?.[podId];
          return way === undefined ? [] : [[store, way]];
        }),
      ),
    }));
}

function walOf(migration: Migration, observations: Observations): MigrationStatus["wal"] {
  const keptBytes = keptWalBytes(migration, observations);
  return keptBytes === null ? null : { keptBytes, budgetBytes: migration.settings.walBudget.bytes };
}

function podStatus(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  podId: PodStatus["podId"],
): PodStatus {
  const isSource = podId === migration.sourcePodId;
  const report = observations.reports.get(podId)?.report.migrations[migration.migrationId];
  const source = observations.reports.get(migration.sourcePodId)?.report.migrations[migration.migrationId];
  const stores: Partial<Record<StoreName, StoreView | null>> = {};
  for (const store of state.stores) {
    const status = report?.stores[store];
    const expected = source?.stores[store]?.evidence;
    const actual = status?.evidence;
    const compared = !isSource && expected && actual && expected.epoch === actual.epoch;
    stores[store] = status
      ? {
          state: STORE_STATES[status.goal],
          reached: status.reached,
          progress: status.progress,
          lag: status.lag,
          verified: status.verified,
          scrub: status.scrub,
          matched: compared ? expected.digest === actual.digest : null,
          evidence: actual ?? null,
          reverseReplication: status.reverseReplication,
          problems: [...status.problems],
          stragglers: [...status.stragglers],
        }
      : null;
  }
  return {
    podId,
    role: isSource ? "source" : "target",
    share: isSource ? null : (migration.context.shares[podId] ?? null),
    stores,
  };
}

/** Plain sentences; empty only when nothing is awaited. */
export function waitingFor(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  const unknown = state.notUnderstood ?? migration.notUnderstood;
  if (unknown !== null) return [`a newer coordinator: this one does not know ${unknown}`];
  const { paused } = migration.context;
  if (paused !== null) return [`an operator: resume it (paused by ${paused.by}: ${paused.reason})`];
  switch (migration.lifecycle) {
    case "planned":
      return ["an operator: start it, or check it first"];
    case "preflight":
      return [...preflight(state, migration, observations, "start", now).waitingFor];
    case "seeding":
      return notSeeded(state, migration, observations, now);
    case "following": {
      const reasons = notCaughtUp(state, migration, observations, now);
      if (reasons.length > 0) return reasons;
      const since = observations.caughtUpSince.get(migration.migrationId) ?? now;
      const leftMs = Math.max(0, migration.settings.settlingMs - (now - since));
      return [`the settling time: ${(leftMs / 1000).toFixed(1)} s more within the bounds`];
    }
    case "ready":
      return waitingWhenReady(state, migration, observations, now);
    case "fencing":
    case "matching":
    case "transferring":
      return [...exactConsensus(state, migration, observations, now).waitingFor];
    case "activating":
      return migration.context.targetPodIds
        .filter((podId) => migration.context.shares[podId] === "closed")
        .map((podId) => {
          const stores =
            observations.reports.get(podId)?.report.migrations[migration.migrationId]?.stores ?? {};
          const problems = Object.values(stores).flatMap((status) =>
            status.problems.map((problem) => problem.message),
          );
          return problems.length > 0
            ? `${podId}: ${problems.join("; ")}`
            : `${podId}: is being promoted and opened`;
        });
    case "retaining":
      if (migration.context.removalCheck?.open)
        return [...preflight(state, migration, observations, "removal", now).waitingFor];
      return [
        ...reverseReplicationBehind(state, migration, observations, now),
        migration.context.removalCheck?.end
          ? "an operator: put right what speaks against the removal, and finalize again"
          : migration.of === null
            ? "an operator: finalize it when nobody needs the way back any more"
            : `an operator: finalize it, and what ${migration.sourcePodId} still has of these organizations is removed`,
      ];
    case "cleaning":
      return notRemoved(state, migration, observations, now);
    case "refused":
    case "completed":
    case "aborted":
      return [];
  }
}

function waitingWhenReady(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  const reasons = notCaughtUp(state, migration, observations, now);
  if (reasons.length > 0) return reasons;
  if (!cutoverWanted(migration)) {
    const { reason, attempts } = migration.context;
    return [
      attempts > 0 && reason
        ? `an operator: approve the cutover again or abort (last attempt: ${reason})`
        : "an operator: approve the cutover",
    ];
  }
  const checks = preflight(state, migration, observations, "fence", now);
  const errors = checks.findings
    .filter((finding) => finding.severity === "error")
    .map((finding) => finding.message);
  return [...checks.waitingFor, ...errors];
}
