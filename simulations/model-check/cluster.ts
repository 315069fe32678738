/** The small cluster that is explored: one source, a few targets, one organization for each, one migration. */
import { type Assignments, digestOf, encodeAssignments } from "../../protocol/assignments.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { MigrationId, OrganizationId, PodId, StoreName } from "../../protocol/ids.ts";
import { Settings } from "../../protocol/plan.ts";

export const MIGRATION_ID = "split-1" as MigrationId;
export const SOURCE = "pod-0" as PodId;
/** One store stands for all: consensus is a conjunction over stores, which do not know of one another. */
export const STORES: readonly StoreName[] = ["postgres"];

/** The only two times: everything happens "now", or is looked at so late that every deadline has passed. */
export const NOW = 1_000_000;
export const LATE = NOW + 365 * 24 * 3600 * 1000;

export interface Cluster {
  readonly targets: readonly PodId[];
  readonly pods: readonly PodId[];
  /** The organization of each target. */
  readonly organizations: readonly OrganizationId[];
  readonly assignmentsOf: () => Assignments;
  readonly prefix: readonly ClusterEvent[];
}

export interface ClusterOptions {
  readonly targets: number;
  readonly from: "planned" | "ready";
  readonly approval: "auto" | "manual";
  readonly attempts: number;
}

export function smallCluster(options: ClusterOptions): Cluster {
  const numbers = Array.from({ length: options.targets }, (_, index) => index + 1);
  const targets = numbers.map((n) => `pod-${n}` as PodId);
  const organizations = numbers.map((n) => `${n}` as OrganizationId);
  const assignments: Assignments = new Map(
    organizations.map((organization, index) => [organization, targets[index] as PodId]),
  );
  const digest = digestOf(encodeAssignments(assignments));
  const base = { v: 1 as const, migrationId: MIGRATION_ID };
  const pods = [SOURCE, ...targets];
  const planned: ClusterEvent[] = [
    { type: "ClusterConfigured", v: 1, pods, defaultPodId: SOURCE, stores: [...STORES] },
    {
      type: "MigrationPlanned",
      ...base,
      v: 2,
      kind: "split",
      sourcePodId: SOURCE,
      targetPodIds: targets,
      assignments: { digest, organizations: organizations.length },
      settings: Settings.parse({
        settlingMs: 0,
        cutover: { approval: options.approval, attempts: options.attempts },
      }),
    },
  ];
  const ready: ClusterEvent[] = [
    { type: "PreflightStarted", ...base, start: true },
    { type: "PreflightPassed", ...base, findings: [] },
    { type: "SeedingCompleted", ...base },
    { type: "ReplicasCaughtUp", ...base },
  ];
  return {
    targets,
    pods,
    organizations,
    assignmentsOf: () => assignments,
    prefix: options.from === "planned" ? planned : [...planned, ...ready],
  };
}
