/**
 * The two consensus checks. Both answer with reasons: an empty list is a yes, and everything unknown is a no
 * (rule 11): a missing voter, an old report, a store without status or evidence.
 */
import { type ClusterState, type Migration, reverseReplicationOf } from "../../protocol/cluster.ts";
import type { EvidenceTable } from "../../protocol/events.ts";
import type { CheckStage, Evidence, Finding, Goal, StoreStatus } from "../../protocol/evidence.ts";
import type { PodId, StoreName } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import type { MigrationReport } from "../../protocol/messages.ts";
import { formatAmount } from "../../protocol/wording.ts";
import type { Observations, Received } from "./observations.ts";
import { storeLabel } from "./wording.ts";

/** An agent reports at least once a second; one that is silent for this long is a missing voter. */
export const REPORT_FRESH_MS = 5_000;
/** Deadlines and leases tolerate less than this between two clocks. */
const CLOCK_SKEW_MS = 5_000;
/** The checks before the fence must be this recent. */
export const FENCE_CHECK_FRESH_MS = 30_000;

export function participants(migration: Migration): readonly PodId[] {
  return [migration.sourcePodId, ...migration.context.targetPodIds];
}

/**
 * Whose dormant data is removed. A replica of a split that gave its share back is a whole Pod without a purpose, and
 * most often a dead one: it is no voter here, and its machine is the operator's to wipe.
 */
export function cleaners(migration: Migration): readonly PodId[] {
  const { shares } = migration.context;
  return participants(migration).filter((podId) => migration.kind !== "split" || shares[podId] !== "revoked");
}

interface Voter {
  readonly podId: PodId;
  readonly received: Received;
  readonly report: MigrationReport;
}

/** That an agent has not been heard for too long to be a voter; null when it has. */
function silenceOf(podId: PodId, { receivedAt }: Received, now: number): string | null {
  const silentMs = now - receivedAt;
  if (silentMs <= REPORT_FRESH_MS) return null;
  mark("voter-missing");
  return `${podId}: its agent has been silent for ${Math.round(silentMs / 1000)} s`;
}

/** The Pod's newest report of this migration, or the reason why there is none that counts. */
function voter(migration: Migration, observations: Observations, podId: PodId, now: number): Voter | string {
  const received = observations.reports.get(podId);
  if (!received) {
    mark("voter-missing");
    return `${podId}: its agent has not reported`;
  }
  const silence = silenceOf(podId, received, now);
  if (silence !== null) return silence;
  if (received.report.notUnderstood) {
    mark("voter-does-not-understand");
    return `${podId}: its agent does not know ${received.report.notUnderstood}`;
  }
  const report = received.report.migrations[migration.migrationId];
  if (!report) return `${podId}: its agent has not begun with this migration`;
  return { podId, received, report };
}

function problemsOf(podId: PodId, store: StoreName, status: StoreStatus): string[] {
  return status.problems.map((problem) => `${podId}: ${storeLabel(store)}: ${problem.message}`);
}

/** Every store of the Pod has reached one of `goals`. */
function notReached(state: ClusterState, found: Voter, goals: readonly Goal[]): string[] {
  return state.stores.flatMap((store) => {
    const status = found.report.stores[store];
    if (!status || !goals.includes(status.goal))
      return [`${found.podId}: ${storeLabel(store)} has not begun`];
    if (status.reached) return [];
    const problems = problemsOf(found.podId, store, status);
    if (problems.length > 0) return problems;
    const { progress } = status;
    const far = progress
      ? ` (${formatAmount(progress.done, progress.unit)} of ${formatAmount(progress.total, progress.unit)})`
      : "";
    return [`${found.podId}: ${storeLabel(store)} is at work${far}`];
  });
}

/** Why seeding is not complete. */
export function notSeeded(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  return participants(migration).flatMap((podId) => {
    const found = voter(migration, observations, podId, now);
    if (typeof found === "string") return [found];
    return notReached(
      state,
      found,
      podId === migration.sourcePodId ? ["prepare", "serve"] : ["seed", "follow"],
    );
  });
}

/** Why the present step of the removal is not done. */
export function notRemoved(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  return cleaners(migration).flatMap((podId) => {
    const found = voter(migration, observations, podId, now);
    if (typeof found === "string") return [found];
    return notReached(state, found, [migration.context.filesRemoved ? "removeRows" : "removeFiles"]);
  });
}

const boundsOf = ({ settings }: Migration): Record<StoreName, number> => ({
  postgres: settings.lagBounds.postgresBytes,
  git: settings.lagBounds.gitRepositories,
  objects: settings.lagBounds.objects,
});

/** Why the copies that were left behind are not level with what the new Pods have: a rollback would have to wait for it. */
export function reverseReplicationBehind(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  const bounds = boundsOf(migration);
  const opened = reverseReplicationOf(migration).filter(
    (podId) => migration.context.shares[podId] === "opened",
  );
  if (opened.length === 0) return [];
  const found = voter(migration, observations, migration.sourcePodId, now);
  if (typeof found === "string") return [found];
  return opened.flatMap((podId) =>
    state.stores.flatMap((store) => {
      const way = found.report.stores[store]?.reverseReplication?.[podId];
      const from = `reverse replication from ${podId}: ${storeLabel(store)}`;
      if (way === undefined) return [`${from} has not begun`];
      if (way.problem !== null) return [`${from}: ${way.problem.message}`];
      const { amount, unit } = way.lag;
      if (amount === null) return [`${from}: lag is not known yet`];
      if (amount > bounds[store])
        return [`${from} ${formatAmount(amount, unit)} behind, bound ${formatAmount(bounds[store], unit)}`];
      return way.verified ? [] : [`${from} is being verified`];
    }),
  );
}

/** Why the first consensus does not hold: lag bounds, verification, problems, silent agents. */
export function notCaughtUp(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): string[] {
  const boundOf = boundsOf(migration);
  return participants(migration).flatMap((podId) => {
    const found = voter(migration, observations, podId, now);
    if (typeof found === "string") return [found];
    const isSource = podId === migration.sourcePodId;
    const reasons = notReached(state, found, isSource ? ["serve"] : ["follow"]);
    if (reasons.length > 0) return reasons;
    return state.stores.flatMap((store) => {
      const status = found.report.stores[store] as StoreStatus;
      const problems = problemsOf(podId, store, status);
      if (problems.length > 0 || isSource) return problems;
      const amount = status.lag?.amount ?? null;
      if (amount === null) return [`${podId}: ${storeLabel(store)}: lag is not known yet`];
      if (amount > boundOf[store]) {
        const unit = status.lag?.unit ?? "";
        return [
          `${podId}: ${storeLabel(store)} ${formatAmount(amount, unit)} behind, bound ${formatAmount(boundOf[store], unit)}`,
        ];
      }
      return status.verified ? [] : [`${podId}: ${storeLabel(store)} is being verified`];
    });
  });
}

export interface PreflightVerdict {
  readonly waitingFor: readonly string[];
  readonly findings: readonly Finding[];
}

/**
 * Findings of all participants, or whom it still waits for. `fence` findings must be recent; before a `removal` every
 * store also has to have closed or opened what the transfer said, since from then on it does other things.
 */
export function preflight(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  stage: CheckStage,
  now: number,
): PreflightVerdict {
  const waitingFor: string[] = [];
  const findings: Finding[] = [];
  const since: Record<CheckStage, number> = {
    start: migration.context.preflightSequence,
    fence: 0,
    removal: migration.context.removalCheck?.sequence ?? 0,
  };
  for (const podId of stage === "removal" ? cleaners(migration) : participants(migration)) {
    const found = voter(migration, observations, podId, now);
    if (typeof found === "string") {
      waitingFor.push(found);
      continue;
    }
    if (stage === "removal" && migration.context.shares[podId] !== "revoked")
      waitingFor.push(...notReached(state, found, ["yield", "open"]));
    const { report } = found.received;
    const checks = found.report.preflight;
    const skewMs = Math.abs(report.at - found.received.receivedAt);
    if (skewMs > CLOCK_SKEW_MS) {
      mark("clock-differs");
      const message = `${podId}: its clock differs by ${Math.round(skewMs / 1000)} s from the coordinator's`;
      findings.push({ store: null, severity: "error", code: "CLOCK_SKEW", message });
    }
    const current = report.appliedSequence >= since[stage];
    const recent = stage !== "fence" || (checks !== null && report.at - checks.at <= FENCE_CHECK_FRESH_MS);
    if (!current || checks === null || checks.stage !== stage || !recent)
      waitingFor.push(`${podId}: its checks are running`);
    else
      for (const finding of checks.findings)
        findings.push({ ...finding, message: `${podId}: ${finding.message}` });
  }
  return { waitingFor, findings };
}

export interface ExactConsensus {
  /** The source has drained and has evidence for every store. */
  readonly drained: boolean;
  readonly waitingFor: readonly string[];
  readonly evidence: EvidenceTable;
}

/**
 * Second consensus. Evidence counts for the fence's epoch only, from an agent that had applied that very
 * `FenceRaised` and is heard still (rule 3), and targets match a store when their digest equals the source's.
 */
export function exactConsensus(
  state: ClusterState,
  migration: Migration,
  observations: Observations,
  now: number,
): ExactConsensus {
  const { fence } = migration.context;
  const evidence: EvidenceTable = {};
  const waitingFor: string[] = [];
  const take = (podId: PodId, goal: Goal): Partial<Record<StoreName, Evidence>> => {
    const found: Partial<Record<StoreName, Evidence>> = {};
    const received = observations.reports.get(podId);
    const report = received?.report.migrations[migration.migrationId];
    const silence = received === undefined ? null : silenceOf(podId, received, now);
    evidence[podId] = found;
    if (silence !== null) {
      waitingFor.push(silence);
      return found;
    }
    for (const store of state.stores) {
      const status = report?.stores[store];
      if (!received || !status) waitingFor.push(`${podId}: ${storeLabel(store)}: no report`);
      else if (!fence || received.report.appliedSequence < fence.raisedSequence) {
        mark("evidence-before-the-fence");
        waitingFor.push(`${podId}: has not applied the fence`);
      } else if (status.goal !== goal || !status.reached || status.evidence?.epoch !== fence.epoch) {
        const problems = problemsOf(podId, store, status);
        const doing = goal === "fence" ? "is draining writers" : "is catching up to the fence";
        waitingFor.push(...(problems.length > 0 ? problems : [`${podId}: ${storeLabel(store)} ${doing}`]));
      } else found[store] = status.evidence;
    }
    return found;
  };
  const source = take(migration.sourcePodId, "fence");
  const drained = waitingFor.length === 0;
  for (const podId of migration.context.targetPodIds) {
    const target = take(podId, "match");
    for (const store of state.stores) {
      const [expected, actual] = [source[store]?.digest, target[store]?.digest];
      if (expected !== undefined && actual !== undefined && expected !== actual) {
        mark("contents-differ");
        waitingFor.push(`${podId}: ${storeLabel(store)} differs: source ${expected}, target ${actual}`);
      }
    }
  }
  return { drained, waitingFor: [...new Set(waitingFor)], evidence };
}
