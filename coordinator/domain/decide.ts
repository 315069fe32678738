/**
 * All policy: what happens next, and which commands are possible. Pure; every guard of the protocol is here.
 * `decideNext` and `decideCommand` return the events of one record, or none.
 */
import {
  type ClusterState,
  type Migration,
  reverseReplicationOf,
  rollbacksOf,
} from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Finding } from "../../protocol/evidence.ts";
import { lowerExpiredFence } from "../../protocol/fence-deadline.ts";
import type { Epoch, PodId, RouteVersion } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import { isOver, type Lifecycle } from "../../protocol/migration-machine.ts";
import { formatAmount } from "../../protocol/wording.ts";
import {
  exactConsensus,
  notCaughtUp,
  notRemoved,
  notSeeded,
  preflight,
  reverseReplicationBehind,
} from "./consensus.ts";
import { lowerAfterHook } from "./hook-failure.ts";
import { enter, type Observations, track } from "./observations.ts";

/** A ready migration goes back to following only after it has been behind for this long: lag comes and goes. */
export const BEHIND_GRACE_MS = 5_000;

type Events = readonly ClusterEvent[];
const NOTHING: Events = [];

/** Brings the clocks of `observations` up to date; to be called before `decideNext` with the same `now`. */
export function observe(state: ClusterState, observations: Observations, now: number): Observations {
  let next = observations;
  for (const migration of Object.values(state.migrations)) {
    next = enter(next, migration.migrationId, migration.lifecycle, now);
    if (migration.lifecycle !== "following" && migration.lifecycle !== "ready") continue;
    next = track(next, migration.migrationId, notCaughtUp(state, migration, next, now).length === 0, now);
  }
  return next;
}

/** What happens by itself: the first migration for which something is due, and the events that do it. */
export function decideNext(state: ClusterState, observations: Observations, now: number): Events {
  if (state.notUnderstood !== null) return NOTHING;
  for (const migration of Object.values(state.migrations)) {
    if (migration.notUnderstood !== null || isOver(migration.lifecycle)) continue;
    const events = decideMigration(state, migration, observations, now);
    if (events.length > 0) return events;
  }
  return NOTHING;
}

function decideMigration(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): Events {
  const base = { v: 1 as const, migrationId: migration.migrationId };
  const exceeded =
    migration.settings.walBudget.exceeded === "abort" ? overBudget(migration, observations) : null;
  if (exceeded !== null) return [{ type: "MigrationAborted", ...base, reason: exceeded }];
  const givenUp = reverseReplicationOverBudget(migration, observations);
  if (givenUp !== null) return [givenUp];
  const stranded = strandedRollback(state, migration);
  if (stranded !== null) return [{ type: "MigrationAborted", ...base, reason: stranded }];
  if (migration.context.paused !== null) {
    mark("paused");
    return NOTHING;
  }
  switch (migration.lifecycle) {
    case "preflight": {
      const verdict = preflight(state, migration, observations, "start", now);
      if (verdict.waitingFor.length > 0) return NOTHING;
      const refused = verdict.findings.some((finding) => finding.severity === "error");
      const findings = verdict.findings.slice(0, 500);
      return [{ type: refused ? "PreflightRefused" : "PreflightPassed", ...base, findings }];
    }
    case "seeding":
      return notSeeded(state, migration, observations, now).length === 0
        ? [{ type: "SeedingCompleted", ...base }]
        : NOTHING;
    case "following": {
      const since = observations.caughtUpSince.get(migration.migrationId);
      return since !== undefined && now - since >= migration.settings.settlingMs
        ? [{ type: "ReplicasCaughtUp", ...base }]
        : NOTHING;
    }
    case "ready":
      return decideReady(state, migration, observations, now);
    case "fencing":
    case "matching":
    case "transferring":
      return decideFenced(state, migration, observations, now);
    case "activating":
      return decideRevocation(state, migration, now);
    case "retaining":
      return decideRetention(state, migration, observations, now);
    case "cleaning":
      if (notRemoved(state, migration, observations, now).length > 0) return NOTHING;
      return [{ type: migration.context.filesRemoved ? "RowsRemoved" : "FilesRemoved", ...base }];
    case "planned":
    case "refused":
    case "completed":
    case "aborted":
      return NOTHING;
  }
}

/**
 * When the plan itself ends the retention: once, since what spoke against it is for an operator to look at; and not while
 * a rollback lives, which needs what the end would take down.
 */
function retentionEndsAt(state: ClusterState, { migrationId, context, settings }: Migration): number | null {
  const { forMs } = settings.retention;
  if (rollbacksOf(state, migrationId).some(({ lifecycle }) => !isOver(lifecycle))) return null;
  if (forMs === null || context.transfer === null || context.removalCheck?.end) return null;
  return context.transfer.at + forMs;
}

function decideRetention(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): Events {
  const base = { v: 1 as const, migrationId: migration.migrationId };
  const check = migration.context.removalCheck;
  if (!check?.open) {
    const endsAt = retentionEndsAt(state, migration);
    if (endsAt === null || now < endsAt) return NOTHING;
    mark("retention-ended-by-plan");
    return [{ type: "RemovalCheckStarted", ...base, v: 2, end: true }];
  }
  const verdict = preflight(state, migration, observations, "removal", now);
  if (verdict.waitingFor.length > 0) return NOTHING;
  const findings = [...reverseReplicationFindings(state, migration, observations, now), ...verdict.findings];
  const refused = findings.some((finding) => finding.severity === "error");
  if (refused) mark("removal-refused");
  const type = check.end && !refused ? "RetentionEnded" : "RemovalChecked";
  return [{ type, ...base, findings: findings.slice(0, 500) }];
}

/** Who ends the retention gives the way back up; where it is not level, they may not know that something is wrong with it. */
function reverseReplicationFindings(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): Finding[] {
  const severity = migration.context.removalCheck?.despiteReverseReplication ? "warning" : "error";
  return reverseReplicationBehind(state, migration, observations, now).map((message) => ({
    store: null,
    severity,
    code: "REVERSE_REPLICATION_BEHIND",
    message: message.slice(0, 2_000),
  }));
}

/** Where slots keep WAL and a fence is not up: under one it is a matter of moments. */
const KEEPS_WAL: ReadonlySet<Lifecycle> = new Set(["seeding", "following", "ready"]);

/** A disk that fills with WAL stops the source for everybody: copying again is the smaller harm. */
function overBudget(migration: Migration, observations: Observations): string | null {
  const budget = migration.settings.walBudget.bytes;
  const kept = keptWalBytes(migration, observations);
  if (budget === null || kept === null || kept <= budget || !KEEPS_WAL.has(migration.lifecycle)) return null;
  return `${migration.sourcePodId} keeps ${formatAmount(kept, "bytes")} of WAL for its slowest target, and the budget is ${formatAmount(budget, "bytes")}`;
}

/** After the transfer it is each new Pod's own disk that fills, and what can be given up is the way back. */
function reverseReplicationOverBudget(migration: Migration, observations: Observations): ClusterEvent | null {
  const { bytes, exceeded } = migration.settings.walBudget;
  if (bytes === null || exceeded !== "abort" || migration.context.transfer === null) return null;
  for (const podId of reverseReplicationOf(migration)) {
    const kept = keptBytesOf(migration, observations, podId);
    if (kept === null || kept <= bytes) continue;
    mark("reverse-replication-over-budget");
    const reason = `${podId} keeps ${formatAmount(kept, "bytes")} of WAL for reverse replication, and the budget is ${formatAmount(bytes, "bytes")}`;
    return { type: "ReverseReplicationGivenUp", v: 1, migrationId: migration.migrationId, podId, reason };
  }
  return null;
}

/** A rollback whose way back was given up under it can never match: its organizations stay where they are. */
function strandedRollback(
  state: ClusterState,
  { of, sourcePodId, context, lifecycle }: Migration,
): string | null {
  const before = of === null ? undefined : state.migrations[of];
  if (before === undefined || context.transfer !== null || lifecycle === "planned") return null;
  if (reverseReplicationOf(before).includes(sourcePodId)) return null;
  mark("rollback-without-a-reverse-replication");
  return `reverse replication from ${sourcePodId} was given up: ${before.context.reverseReplicationGivenUp[sourcePodId] ?? "it is over"}`;
}

/** As the source last said; null when it has not. */
export function keptWalBytes(migration: Migration, observations: Observations): number | null {
  return keptBytesOf(migration, observations, migration.sourcePodId);
}

function keptBytesOf(migration: Migration, observations: Observations, podId: PodId): number | null {
  const report = observations.reports.get(podId)?.report;
  return report?.migrations[migration.migrationId]?.stores.postgres?.keptBytes ?? null;
}

function decideReady(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): Events {
  const base = { v: 1 as const, migrationId: migration.migrationId };
  const reasons = notCaughtUp(state, migration, observations, now);
  if (reasons.length > 0) {
    const since = observations.behindSince.get(migration.migrationId);
    if (since === undefined || now - since < BEHIND_GRACE_MS) {
      mark("behind-within-grace");
      return NOTHING;
    }
    mark("behind-for-too-long");
    return [{ type: "ReplicasFellBehind", ...base, reasons: reasons.slice(0, 100) }];
  }
  if (!cutoverWanted(migration)) {
    if (migration.settings.cutover.approval === "auto") mark("attempts-used-up");
    return NOTHING;
  }
  const checks = preflight(state, migration, observations, "fence", now);
  if (checks.waitingFor.length > 0 || checks.findings.some((finding) => finding.severity === "error")) {
    mark("fence-waits-for-checks");
    return NOTHING;
  }
  mark(migration.context.approvedBy === null ? "fence-raised-by-plan" : "fence-raised-by-approval");
  const epoch = (state.epoch + 1) as Epoch;
  return [{ type: "FenceRaised", ...base, epoch, deadlineAt: now + migration.settings.cutover.deadlineMs }];
}

function decideFenced(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): Events {
  const base = { v: 1 as const, migrationId: migration.migrationId };
  const { fence } = migration.context;
  if (!fence) return NOTHING;
  const consensus = exactConsensus(state, migration, observations, now);
  // The deadline is looked at first: evidence that arrives later no longer counts.
  const waited = consensus.waitingFor.length > 0 ? consensus.waitingFor.join("; ") : "the coordinator";
  const lowered = lowerExpiredFence(
    migration,
    now,
    `the deadline passed while waiting for ${waited}`.slice(0, 2_000),
  );
  if (lowered) {
    mark("fence-lowered-by-a-coordinator");
    return [lowered];
  }
  const failed = lowerAfterHook(migration, observations);
  if (failed) return [failed];
  const drained: Events =
    consensus.drained && migration.lifecycle === "fencing"
      ? [{ type: "SourceDrained", ...base, epoch: fence.epoch }]
      : NOTHING;
  if (drained.length > 0)
    mark(consensus.waitingFor.length > 0 ? "drained-before-matched" : "drained-and-matched-at-once");
  if (consensus.waitingFor.length > 0) return drained;
  return [
    ...drained,
    { type: "ConsensusReached", ...base, epoch: fence.epoch, evidence: consensus.evidence },
    {
      type: "AuthorityTransferred",
      ...base,
      epoch: fence.epoch,
      routeVersion: (state.routeVersion + 1) as RouteVersion,
    },
  ];
}

/** A target that does not open in time gives its share back, so that no organization is stranded on it. */
function decideRevocation(state: ClusterState, migration: Migration, now: number): Events {
  const { transfer, shares, targetPodIds } = migration.context;
  const withinMs = migration.settings.cutover.openWithinMs;
  // What was taken over from a lost Pod cannot be given back to it, however long the new one needs.
  if (!transfer || transfer.forced || now < transfer.at + withinMs) return NOTHING;
  const late = targetPodIds.find((podId) => shares[podId] === "closed");
  if (late === undefined) return NOTHING;
  mark("late-target-revoked");
  return [revocation(state, migration, late, `${late} did not open within ${withinMs} ms`)];
}

export function revocation(
  state: ClusterState,
  migration: Migration,
  podId: PodId,
  reason: string,
): ClusterEvent {
  const routeVersion = (state.routeVersion + 1) as RouteVersion;
  return { type: "TransferRevoked", v: 1, migrationId: migration.migrationId, podId, routeVersion, reason };
}

/** When `decideNext` may have something to do although nothing was heard: milliseconds since 1970, or null. */
export function nextDeadlineAt(state: ClusterState, observations: Observations): number | null {
  const deadlines = Object.values(state.migrations).flatMap((migration) => {
    // Nobody is waiting for what this process would not do.
    if (migration.notUnderstood !== null) return [];
    const { fence, fenceUp, transfer } = migration.context;
    const id = migration.migrationId;
    const caughtUp = observations.caughtUpSince.get(id);
    const behind = observations.behindSince.get(id);
    if (fenceUp && fence) return [fence.deadlineAt];
    if (migration.context.paused !== null) return [];
    const endsAt = migration.lifecycle === "retaining" ? retentionEndsAt(state, migration) : null;
    if (endsAt !== null) return [endsAt];
    if (migration.lifecycle === "activating" && transfer && !transfer.forced)
      return [transfer.at + migration.settings.cutover.openWithinMs];
    if (migration.lifecycle === "following" && caughtUp !== undefined)
      return [caughtUp + migration.settings.settlingMs];
    if (migration.lifecycle === "ready" && behind !== undefined) return [behind + BEHIND_GRACE_MS];
    return [];
  });
  return deadlines.length === 0 ? null : Math.min(...deadlines);
}
