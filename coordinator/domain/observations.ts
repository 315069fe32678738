/** What a coordinator has heard: inputs of decisions, never logged (rule 3). Plain, immutable data. */
import type { ClusterState } from "../../protocol/cluster.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import type { Report } from "../../protocol/messages.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";

export interface Received {
  readonly report: Report;
  /** By the coordinator's clock. */
  readonly receivedAt: number;
}

export interface Observations {
  /** Newest report of the newest incarnation, per Pod. */
  readonly reports: ReadonlyMap<PodId, Received>;
  /** Since when a migration has been caught up without a break; absent while it is not. */
  readonly caughtUpSince: ReadonlyMap<MigrationId, number>;
  /** Since when a ready migration has not been caught up; absent while it is. */
  readonly behindSince: ReadonlyMap<MigrationId, number>;
  /** The state in which each migration was last seen. */
  readonly lifecycles: ReadonlyMap<MigrationId, Lifecycle>;
}

export const noObservations: Observations = {
  reports: new Map(),
  caughtUpSince: new Map(),
  behindSince: new Map(),
  lifecycles: new Map(),
};

/**
 * Takes a report in. A report of an older incarnation or an older sequence is refused: a restarted agent has
 * forgotten what its predecessor promised, and messages may arrive in any order (rule 3).
 * @throws CleaveError REPORT_UNKNOWN_POD or REPORT_STALE.
 */
export function accept(
  observations: Observations,
  state: ClusterState,
  report: Report,
  now: number,
): Observations {
  if (!state.pods.includes(report.podId)) {
    throw new CleaveError(
      "REPORT_UNKNOWN_POD",
      `a report came from ${report.podId}, which is not in the cluster`,
    );
  }
  const known = observations.reports.get(report.podId)?.report;
  if (known) {
    const older =
      report.incarnation < known.incarnation ||
      (report.incarnation === known.incarnation && report.reportSequence <= known.reportSequence);
    if (older) {
      mark(report.incarnation < known.incarnation ? "report-of-a-former-life" : "report-overtaken");
      throw new CleaveError(
        "REPORT_STALE",
        `${report.podId} reported ${report.incarnation}/${report.reportSequence}, but ${known.incarnation}/${known.reportSequence} is known`,
      );
    }
  }
  return {
    ...observations,
    reports: new Map(observations.reports).set(report.podId, { report, receivedAt: now }),
  };
}

/**
 * Notes the state of a migration. Another coordinator may see the targets otherwise than this one (its reports do not
 * arrive): what each has known for long would be decided the moment the other's decision is in the log, without an end.
 * So readiness that was just withdrawn has to settle anew, and one that was just found gets its grace.
 */
export function enter(
  observations: Observations,
  migrationId: MigrationId,
  lifecycle: Lifecycle,
  now: number,
): Observations {
  const before = observations.lifecycles.get(migrationId);
  if (before === lifecycle) return observations;
  const lifecycles = new Map(observations.lifecycles).set(migrationId, lifecycle);
  const restarted = (since: ReadonlyMap<MigrationId, number>) =>
    since.has(migrationId) ? new Map(since).set(migrationId, now) : since;
  const { caughtUpSince, behindSince } = observations;
  if (before === "ready" && lifecycle === "following")
    return { ...observations, lifecycles, caughtUpSince: restarted(caughtUpSince) };
  if (before === "following" && lifecycle === "ready")
    return { ...observations, lifecycles, behindSince: restarted(behindSince) };
  return { ...observations, lifecycles };
}

/** Starts and stops the two clocks of a migration: how long caught up, how long behind. */
export function track(
  observations: Observations,
  migrationId: MigrationId,
  caughtUp: boolean,
  now: number,
): Observations {
  const { caughtUpSince, behindSince } = observations;
  if (
    caughtUp
      ? caughtUpSince.has(migrationId) && !behindSince.has(migrationId)
      : behindSince.has(migrationId) && !caughtUpSince.has(migrationId)
  ) {
    return observations;
  }
  const since = new Map(caughtUpSince);
  const behind = new Map(behindSince);
  if (caughtUp) {
    behind.delete(migrationId);
    since.set(migrationId, since.get(migrationId) ?? now);
  } else {
    since.delete(migrationId);
    behind.set(migrationId, behind.get(migrationId) ?? now);
  }
  return { ...observations, caughtUpSince: since, behindSince: behind };
}
