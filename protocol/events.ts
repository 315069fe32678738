/**
 * The events of the log. Only decisions are logged; a record holds the events of one decision, all or nothing.
 * Changing a schema means a new version: the hash of all schemas is pinned by a test.
 */
import { z } from "zod";
import { Evidence, Finding, Timestamp } from "./evidence.ts";
import { Digest, Epoch, MigrationId, PodId, RouteVersion, StoreName } from "./ids.ts";
import { Settings } from "./plan.ts";

const reason = z.string().max(2_000);
/** Who decided: `operator:alice`, `coordinator:c1`, `agent:pod-0`. */
export const Actor = z.string().min(1).max(200);

/** Per Pod, per store: the evidence a consensus rests on. */
export const EvidenceTable = z.record(z.string(), z.partialRecord(StoreName, Evidence));
export type EvidenceTable = z.infer<typeof EvidenceTable>;

const migration = { v: z.literal(1), migrationId: MigrationId };
/** Of version 1 were other names of the same fields: `renamed.ts`. */
const migrationV2 = { v: z.literal(2), migrationId: MigrationId };

export const EVENT_SCHEMAS = {
  /** The cluster's Pods and stores; the default Pod is authoritative for every organization without a route. */
  ClusterConfigured: z.object({
    type: z.literal("ClusterConfigured"),
    v: z.literal(1),
    pods: z.array(PodId).min(1).max(1000),
    defaultPodId: PodId,
    stores: z.array(StoreName).min(1),
  }),
  MigrationPlanned: z.object({
    type: z.literal("MigrationPlanned"),
    ...migrationV2,
    /** 3 where the plan accepts databases: a version that does not know of that must not check as if it did (rule 13). */
    v: z.literal([2, 3]),
    kind: z.literal("split"),
    sourcePodId: PodId,
    targetPodIds: z.array(PodId).min(1).max(100),
    assignments: z.object({ digest: Digest, organizations: z.number().int().positive() }),
    settings: Settings,
  }),
  /** A move has one target. An event of its own, so that a version that cannot move anything says so (rule 13). */
  MovePlanned: z.object({
    type: z.literal("MovePlanned"),
    ...migrationV2,
    sourcePodId: PodId,
    targetPodId: PodId,
    assignments: z.object({ digest: Digest, organizations: z.number().int().positive() }),
    settings: Settings,
  }),
  /**
   * Organizations go back to where `of` took them from: a move whose copies have been kept level since that transfer.
   * An event of its own, so that a version that keeps no way back says so.
   */
  RollbackPlanned: z.object({
    type: z.literal("RollbackPlanned"),
    ...migrationV2,
    of: MigrationId,
    sourcePodId: PodId,
    targetPodId: PodId,
    assignments: z.object({ digest: Digest, organizations: z.number().int().positive() }),
    settings: Settings,
  }),
  /** `start`: go on to seeding when all checks pass; otherwise (a dry run) return to `planned` with the findings. */
  PreflightStarted: z.object({ type: z.literal("PreflightStarted"), ...migration, start: z.boolean() }),
  PreflightPassed: z.object({
    type: z.literal("PreflightPassed"),
    ...migration,
    findings: z.array(Finding).max(500),
  }),
  PreflightRefused: z.object({
    type: z.literal("PreflightRefused"),
    ...migration,
    findings: z.array(Finding).max(500),
  }),
  /** Every target has its base copy and follows. */
  SeedingCompleted: z.object({ type: z.literal("SeedingCompleted"), ...migration }),
  /** First consensus: within the lag bounds for the settling time, verified, no mismatch open. */
  ReplicasCaughtUp: z.object({ type: z.literal("ReplicasCaughtUp"), ...migration }),
  ReplicasFellBehind: z.object({
    type: z.literal("ReplicasFellBehind"),
    ...migration,
    reasons: z.array(reason).max(100),
  }),
  CutoverApproved: z.object({ type: z.literal("CutoverApproved"), ...migration }),
  FenceRaised: z.object({
    type: z.literal("FenceRaised"),
    ...migration,
    epoch: Epoch,
    deadlineAt: Timestamp,
  }),
  /** The source drained its writers and took its final positions (rule 4). */
  SourceDrained: z.object({ type: z.literal("SourceDrained"), ...migration, epoch: Epoch }),
  /** Second, exact consensus: every store of every target equals the source at the fence. */
  ConsensusReached: z.object({
    type: z.literal("ConsensusReached"),
    ...migration,
    epoch: Epoch,
    evidence: EvidenceTable,
  }),
  /** The decision. Before it: abort. After it: forward, or a revocation of a share that has not opened. */
  AuthorityTransferred: z.object({
    type: z.literal("AuthorityTransferred"),
    ...migration,
    epoch: Epoch,
    routeVersion: RouteVersion,
  }),
  /**
   * Of a rollback whose source is lost for ever: the copy takes over as it is, without evidence, because an operator
   * says that the source will never serve again. What had not flowed back is lost; the reason says who decided so.
   */
  TransferForced: z.object({
    type: z.literal("TransferForced"),
    ...migration,
    epoch: Epoch,
    routeVersion: RouteVersion,
    reason,
  }),
  /** The source serves again; the replicas go on following, so that the hours of copying are not thrown away. */
  FenceLowered: z.object({ type: z.literal("FenceLowered"), ...migration, epoch: Epoch, reason }),
  Opened: z.object({ type: z.literal("Opened"), ...migration, epoch: Epoch, podId: PodId }),
  /** One target's share goes back to the source; only while that target has not appended `Opened`. */
  TransferRevoked: z.object({
    type: z.literal("TransferRevoked"),
    ...migration,
    podId: PodId,
    routeVersion: RouteVersion,
    reason,
  }),
  MigrationAborted: z.object({ type: z.literal("MigrationAborted"), ...migration, reason }),
  /** Nothing is decided by itself any more, and nothing is removed; what follows goes on following. */
  MigrationPaused: z.object({ type: z.literal("MigrationPaused"), ...migration, reason }),
  MigrationResumed: z.object({ type: z.literal("MigrationResumed"), ...migration }),
  /** What one target's organizations change flows back no more: they cannot be rolled back from here on. */
  ReverseReplicationGivenUp: z.object({
    type: z.literal("ReverseReplicationGivenUp"),
    ...migration,
    podId: PodId,
    reason,
  }),
  /**
   * `end`: end the retention when all checks pass; otherwise (a dry run) only say what would be removed.
   * `despiteReverseReplication`: also where the way back is not level.
   */
  RemovalCheckStarted: z.object({
    type: z.literal("RemovalCheckStarted"),
    ...migrationV2,
    end: z.boolean(),
    despiteReverseReplication: z.boolean().optional(),
  }),
  /** The checks' findings: of a dry run, or because of an error among them; the retention goes on. */
  RemovalChecked: z.object({
    type: z.literal("RemovalChecked"),
    ...migration,
    findings: z.array(Finding).max(500),
  }),
  /** The way back is given up: from here on dormant data is removed (rule 10). */
  RetentionEnded: z.object({
    type: z.literal("RetentionEnded"),
    ...migration,
    findings: z.array(Finding).max(500),
  }),
  /** No Pod holds dormant repositories or objects of the migration; rows, which say whose those were, are next. */
  FilesRemoved: z.object({ type: z.literal("FilesRemoved"), ...migration }),
  /** Nothing dormant is left of the migration on any Pod. */
  RowsRemoved: z.object({ type: z.literal("RowsRemoved"), ...migration }),
} as const;

export type EventType = keyof typeof EVENT_SCHEMAS;
export type ClusterEvent = { [K in EventType]: z.infer<(typeof EVENT_SCHEMAS)[K]> }[EventType];
export type MigrationEvent = Exclude<ClusterEvent, { type: "ClusterConfigured" }>;
/** The events that begin a migration; each names its assignments, which have to be at hand before it is folded. */
export type PlannedEvent = Extract<ClusterEvent, { readonly assignments: unknown }>;

/** An event of a type or version that this process does not know; it is kept, and stops its migration (rule 13). */
export const UnknownEvent = z.looseObject({
  type: z.string().max(100),
  v: z.number().int(),
  migrationId: MigrationId.optional(),
});
export type UnknownEvent = z.infer<typeof UnknownEvent>;

/** One append: who decided what, when. */
export interface LogRecord {
  readonly v: 1;
  readonly at: number;
  readonly by: string;
  readonly events: readonly ClusterEvent[];
}

/** A record as read back: events of newer versions appear as `unknown`. */
export interface ReadRecord {
  readonly at: number;
  readonly by: string;
  readonly events: readonly (ClusterEvent | { readonly type: "Unknown"; readonly event: UnknownEvent })[];
}
export const RecordEnvelope = z.object({
  v: z.literal(1),
  at: Timestamp,
  by: Actor,
  events: z.array(UnknownEvent).min(1).max(20),
});
