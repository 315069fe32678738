/**
 * The past of a cluster in which several Pods serve: a split that was completed long ago. It is in the log before
 * anything runs, and in every store, as that split left them.
 */
import { type Assignments, digestOf, encodeAssignments } from "../protocol/assignments.ts";
import type { SharePhase } from "../protocol/cluster.ts";
import type { ClusterEvent, ReadRecord } from "../protocol/events.ts";
import type { Epoch, MigrationId, PodId, RouteVersion } from "../protocol/ids.ts";
import { Settings } from "../protocol/plan.ts";
import type { BlobServer } from "./models/blobs.ts";
import { EPOCH_MS } from "./models/host.ts";

export const FOUNDING = "founding" as MigrationId;
/** Whose records every version knows: they are older than all of them. */
export const FOUNDER = "operator:founder";
const EPOCH = 1 as Epoch;

/** In one record, so that no process is ever half-way through it. */
export function foundingRecord(blobs: BlobServer, source: PodId, residents: Assignments): ReadRecord {
  const bytes = encodeAssignments(residents);
  const digest = digestOf(bytes);
  blobs.content.set(digest, bytes);
  const targetPodIds = [...new Set(residents.values())].sort();
  const of = { v: 1 as const, migrationId: FOUNDING };
  const events: ClusterEvent[] = [
    {
      type: "MigrationPlanned",
      ...of,
      v: 2,
      kind: "split",
      sourcePodId: source,
      targetPodIds,
      assignments: { digest, organizations: residents.size },
      settings: Settings.parse({ retention: { reverseReplication: "none" } }),
    },
    { type: "PreflightStarted", ...of, start: true },
    { type: "PreflightPassed", ...of, findings: [] },
    { type: "SeedingCompleted", ...of },
    { type: "ReplicasCaughtUp", ...of },
    { type: "CutoverApproved", ...of },
    { type: "FenceRaised", ...of, epoch: EPOCH, deadlineAt: EPOCH_MS as never },
    { type: "SourceDrained", ...of, epoch: EPOCH },
    { type: "ConsensusReached", ...of, epoch: EPOCH, evidence: {} },
    { type: "AuthorityTransferred", ...of, epoch: EPOCH, routeVersion: 1 as RouteVersion },
    ...targetPodIds.map((podId) => ({ type: "Opened" as const, ...of, epoch: EPOCH, podId })),
  ];
  return { v: 1, at: EPOCH_MS - 60_000, by: FOUNDER, events } as ReadRecord;
}

/** Who is in the cluster: what its first coordinator once decided. */
export function configured(pods: readonly PodId[], defaultPodId: PodId): ClusterEvent {
  return {
    type: "ClusterConfigured",
    v: 1,
    pods: [...pods],
    defaultPodId,
    stores: ["postgres", "git", "objects"],
  };
}

/** The founding's shares as every store enforces them ever since. */
export function openedShares(residents: Assignments): Record<string, SharePhase> {
  return Object.fromEntries([...new Set(residents.values())].map((podId) => [podId, "opened" as const]));
}
