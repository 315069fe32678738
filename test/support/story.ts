/** Given / when / then on events: what the log holds, what happens, and which events (or refusal) follow. */
import { type Assignments, digestOf, encodeAssignments } from "../../protocol/assignments.ts";
import { type ClusterState, emptyCluster, type Migration } from "../../protocol/cluster.ts";
import { decodeRecord, encodeRecord } from "../../protocol/codec.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Goal, StoreStatus } from "../../protocol/evidence.ts";
import { evolve } from "../../protocol/evolve.ts";
import type {
  Digest,
  Epoch,
  MigrationId,
  OrganizationId,
  PodId,
  RouteVersion,
  StoreName,
} from "../../protocol/ids.ts";
import type { MigrationReport, Report } from "../../protocol/messages.ts";
import { Settings } from "../../protocol/plan.ts";

export const pod = (id: string) => id as PodId;
export const org = (id: string) => id as OrganizationId;
export const epoch = (n: number) => n as Epoch;
export const version = (n: number) => n as RouteVersion;
export const migrationId = "split-1" as MigrationId;
export const STORES: StoreName[] = ["postgres", "git", "objects"];

export const assignments: Assignments = new Map([
  [org("1"), pod("pod-100")],
  [org("2"), pod("pod-101")],
]);
export const digest = digestOf(encodeAssignments(assignments));
export const assignmentsOf = (wanted: Digest): Assignments => {
  if (wanted !== digest) throw new Error(`unknown assignments ${wanted}`);
  return assignments;
};

const base = { v: 1 as const, migrationId };

/** Events by short names, for stories. */
export const say = {
  configured: (): ClusterEvent => ({
    type: "ClusterConfigured",
    v: 1,
    pods: [pod("pod-0"), pod("pod-100"), pod("pod-101")],
    defaultPodId: pod("pod-0"),
    stores: STORES,
  }),
  planned: (settings: Parameters<typeof Settings.parse>[0] = {}): ClusterEvent => ({
    type: "MigrationPlanned",
    ...base,
    v: 2,
    kind: "split",
    sourcePodId: pod("pod-0"),
    targetPodIds: [pod("pod-100"), pod("pod-101")],
    assignments: { digest, organizations: assignments.size },
    // A way back has tests of its own.
    settings: Settings.parse({ retention: { reverseReplication: "none" }, ...(settings as object) }),
  }),
  checking: (start = true): ClusterEvent => ({ type: "PreflightStarted", ...base, start }),
  passed: (): ClusterEvent => ({ type: "PreflightPassed", ...base, findings: [] }),
  seeded: (): ClusterEvent => ({ type: "SeedingCompleted", ...base }),
  caughtUp: (): ClusterEvent => ({ type: "ReplicasCaughtUp", ...base }),
  fellBehind: (): ClusterEvent => ({ type: "ReplicasFellBehind", ...base, reasons: ["a test says so"] }),
  approved: (): ClusterEvent => ({ type: "CutoverApproved", ...base }),
  fenced: (n = 1, deadlineAt = 100_000): ClusterEvent => ({
    type: "FenceRaised",
    ...base,
    epoch: epoch(n),
    deadlineAt,
  }),
  drained: (n = 1): ClusterEvent => ({ type: "SourceDrained", ...base, epoch: epoch(n) }),
  matched: (n = 1): ClusterEvent => ({ type: "ConsensusReached", ...base, epoch: epoch(n), evidence: {} }),
  transferred: (n = 1, v = 1): ClusterEvent => ({
    type: "AuthorityTransferred",
    ...base,
    epoch: epoch(n),
    routeVersion: version(v),
  }),
  lowered: (n = 1): ClusterEvent => ({ type: "FenceLowered", ...base, epoch: epoch(n), reason: "deadline" }),
  opened: (podId: string, n = 1): ClusterEvent => ({
    type: "Opened",
    ...base,
    epoch: epoch(n),
    podId: pod(podId),
  }),
  revoked: (podId: string, v = 2): ClusterEvent => ({
    type: "TransferRevoked",
    ...base,
    podId: pod(podId),
    routeVersion: version(v),
    reason: "late",
  }),
  aborted: (): ClusterEvent => ({ type: "MigrationAborted", ...base, reason: "operator" }),
  paused: (): ClusterEvent => ({ type: "MigrationPaused", ...base, reason: "a backup runs" }),
  resumed: (): ClusterEvent => ({ type: "MigrationResumed", ...base }),
  removalChecking: (end = true): ClusterEvent => ({ type: "RemovalCheckStarted", ...base, v: 2, end }),
  retentionEnded: (): ClusterEvent => ({ type: "RetentionEnded", ...base, findings: [] }),
  filesRemoved: (): ClusterEvent => ({ type: "FilesRemoved", ...base }),
  rowsRemoved: (): ClusterEvent => ({ type: "RowsRemoved", ...base }),
};

/** The way to each lifecycle, as events. */
export const until = {
  ready: (settings: Parameters<typeof Settings.parse>[0] = {}) => [
    say.configured(),
    say.planned(settings),
    say.checking(),
    say.passed(),
    say.seeded(),
    say.caughtUp(),
  ],
  fencing: () => [...until.ready(), say.approved(), say.fenced()],
  activating: () => [...until.fencing(), say.drained(), say.matched(), say.transferred()],
  retaining: () => [...until.activating(), say.opened("pod-100"), say.opened("pod-101")],
  cleaning: () => [...until.retaining(), say.removalChecking(), say.retentionEnded()],
};

/** Folds one record per event, at one time unit each, through the wire format as every process does. */
export function fold(
  events: readonly ClusterEvent[],
  from: ClusterState = emptyCluster,
  at = 1_000,
): ClusterState {
  return events.reduce(
    (state, event) =>
      evolve(
        state,
        decodeRecord(encodeRecord({ v: 1, at, by: "operator:test", events: [event] })),
        state.sequence + 1,
      ),
    from,
  );
}

export function theMigration(state: ClusterState): Migration {
  const migration = state.migrations[migrationId];
  if (!migration) throw new Error("the story has no migration");
  return migration;
}

export function storeStatus(goal: Goal, extra: Partial<StoreStatus> = {}): StoreStatus {
  return {
    goal,
    reached: true,
    progress: null,
    lag: goal === "follow" || goal === "match" ? { amount: 0, unit: "bytes" } : null,
    verified: true,
    evidence: null,
    problems: [],
    stragglers: [],
    ...extra,
  };
}

export interface ReportOptions {
  readonly goal: Goal;
  readonly appliedSequence?: number;
  readonly incarnation?: number;
  readonly reportSequence?: number;
  readonly at?: number;
  readonly evidenceEpoch?: number;
  /** Digest of one store, where it is to differ. */
  readonly digests?: Partial<Record<StoreName, string>>;
  readonly stores?: Partial<Record<StoreName, StoreStatus>>;
  readonly preflight?: MigrationReport["preflight"];
}

export function report(podId: string, options: ReportOptions): Report {
  const stores = Object.fromEntries(
    STORES.map((store) => [
      store,
      storeStatus(options.goal, {
        evidence:
          options.evidenceEpoch === undefined
            ? null
            : {
                epoch: epoch(options.evidenceEpoch),
                digest: options.digests?.[store] ?? `same ${store}`,
                details: {},
              },
      }),
    ]),
  );
  return {
    v: 2,
    podId: pod(podId),
    incarnation: options.incarnation ?? 1,
    reportSequence: options.reportSequence ?? 1,
    appliedSequence: options.appliedSequence ?? 1_000,
    at: options.at ?? 1_000,
    software: "test",
    notUnderstood: null,
    migrations: {
      [migrationId]: {
        stores: { ...stores, ...options.stores },
        preflight: options.preflight ?? null,
        dormantEpoch: 0,
      },
    },
  };
}
