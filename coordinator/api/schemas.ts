/** What the API answers, exactly: the same words as in the code, checked against its types when this is compiled. */
import { z } from "zod";
import { Actor, EVENT_SCHEMAS, EvidenceTable, UnknownEvent } from "../../protocol/events.ts";
import {
  Evidence,
  Finding,
  Problem,
  ReverseReplicationStatus,
  StoreStatus,
  Timestamp,
} from "../../protocol/evidence.ts";
import { Epoch, MigrationId, OrganizationId, PodId, RouteVersion, StoreName } from "../../protocol/ids.ts";
import { LIFECYCLES } from "../../protocol/migration-machine.ts";
import { STORE_STATES } from "../../protocol/wording.ts";
import type { HistoryEntry } from "../domain/history.ts";
import type { ClusterStatus, MigrationStatus, PodStatus, StoredRecord, StoreView } from "./ports.ts";

const Lifecycle = z.enum(LIFECYCLES).meta({ id: "Lifecycle" });
const Count = z.number().int().nonnegative();
const Sequence = Count.describe("Of a record of the log");
const Share = z.enum(["closed", "opened", "revoked"]).nullable().describe("Of a target; null on the source");
const Role = z.enum(["source", "target"]);
const COMMANDS = [
  "check",
  "start",
  "approve",
  "abort",
  "revoke",
  "pause",
  "resume",
  "giveUp",
  "finalize",
  "rollback",
] as const;

const FindingAnswer = Finding.meta({ id: "Finding" });
const EvidenceAnswer = Evidence.meta({ id: "Evidence" });

const StoreAnswer = StoreStatus.pick({
  reached: true,
  progress: true,
  lag: true,
  verified: true,
  scrub: true,
  problems: true,
  stragglers: true,
  reverseReplication: true,
})
  .extend({
    state: z
      .enum([...new Set(Object.values(STORE_STATES))])
      .describe("What it is doing; `reached` says whether that is done, or is being kept up"),
    matched: z
      .boolean()
      .nullable()
      .describe("Equal to the source at the newest fence; null: nothing to compare, or this is the source"),
    evidence: EvidenceAnswer.nullable(),
  })
  .meta({ id: "StoreView" });

const Stores = z
  .partialRecord(StoreName, StoreAnswer.nullable())
  .readonly()
  .describe("Null: nothing was reported of this store");

const Participant = z
  .object({ podId: PodId, role: Role, share: Share, stores: Stores })
  .meta({ id: "PodStatus" });

const ReverseReplication = z
  .object({
    podId: PodId,
    givenUp: z.string().nullable().describe("Why nothing flows back any more; null while it does"),
    stores: z.partialRecord(StoreName, ReverseReplicationStatus).readonly(),
  })
  .meta({ id: "ReverseReplication" });

const Pause = z.object({ at: Timestamp, by: Actor, reason: z.string() }).nullable();
const Commands = z.array(z.enum(COMMANDS)).readonly().describe("What is possible now");
const WaitingFor = z.array(z.string()).readonly().describe("Sentences; none: it waits for nothing");

export const MigrationAnswer = z
  .object({
    migrationId: MigrationId,
    kind: z.enum(["split", "move", "rollback"]),
    of: MigrationId.nullable().describe("Of a rollback: what is rolled back"),
    lifecycle: Lifecycle,
    sourcePodId: PodId,
    organizations: Count,
    waitingFor: WaitingFor,
    findings: z.array(FindingAnswer).readonly(),
    attempts: Count.describe("Fences that were raised"),
    approvedBy: z.string().nullable(),
    fence: z
      .object({ epoch: Epoch, raisedAt: Timestamp, raisedSequence: Sequence, deadlineAt: Timestamp })
      .nullable()
      .describe("While the organizations are read-only"),
    transfer: z
      .object({
        epoch: Epoch,
        routeVersion: RouteVersion,
        at: Timestamp,
        sequence: Sequence,
        forced: z.boolean().describe("Without evidence, because the source is lost for ever"),
      })
      .nullable(),
    reason: z.string().nullable().describe("Of the last lowering of a fence, revocation or abort"),
    wal: z
      .object({ keptBytes: z.number(), budgetBytes: z.number().nullable() })
      .nullable()
      .describe("What the source's disk keeps for the slowest target, and what it may"),
    estimate: z
      .object({
        leftMs: z.number().nullable().describe("Null: there is no basis for one"),
        basis: z.string().describe("What it was computed from, or why it could not be"),
      })
      .nullable()
      .describe("How long the present step still takes; null: it waits for a person, or takes a moment"),
    paused: Pause,
    reverseReplication: z
      .array(ReverseReplication)
      .readonly()
      .describe("Of each target that keeps reverse replication, or kept one"),
    removalCheck: z
      .object({
        sequence: Sequence,
        end: z.boolean(),
        despiteReverseReplication: z.boolean(),
        by: z.string(),
        open: z.boolean(),
      })
      .nullable(),
    pods: z.array(Participant).readonly(),
    possibleCommands: Commands,
  })
  .meta({ id: "MigrationStatus" });

const AgentSeen = {
  podId: PodId,
  lastReportAgeMs: z.number().nullable().describe("Null: this coordinator has heard nothing of it"),
  incarnation: z.number().nullable().describe("Grows with every start of the agent"),
  software: z.string().nullable().describe("The agent's version"),
  problems: z
    .array(Problem)
    .readonly()
    .describe("What is wrong with the Pod itself, whether it takes part in anything or not"),
};

export const StatusAnswer = z
  .object({
    at: Timestamp,
    connected: z.boolean().describe("NATS answers this coordinator"),
    sequence: Sequence,
    pods: z.array(z.object(AgentSeen)).readonly(),
    migrations: z.array(MigrationAnswer).readonly(),
  })
  .meta({ id: "ClusterStatus" });

export const MigrationPage = z
  .object({
    migrations: z.array(
      z
        .object({
          ...MigrationAnswer.pick({
            migrationId: true,
            kind: true,
            of: true,
            lifecycle: true,
            sourcePodId: true,
            organizations: true,
            waitingFor: true,
            paused: true,
            possibleCommands: true,
          }).shape,
          targetPodIds: z.array(PodId).readonly(),
          plannedAt: Timestamp,
          plannedBy: Actor,
        })
        .meta({ id: "MigrationSummary" }),
    ),
    next: MigrationId.nullable().describe("`after` of the next page; null: this is the last"),
  })
  .meta({ id: "MigrationPage" });

export const PodAnswer = z
  .object({
    ...AgentSeen,
    isDefault: z.boolean().describe("Serves every organization that no migration has moved"),
    stores: z
      .array(StoreName)
      .readonly()
      .describe("That the agent reported of; none while it takes part in nothing"),
    migrations: z
      .array(z.object({ migrationId: MigrationId, lifecycle: Lifecycle, role: Role, share: Share }))
      .readonly()
      .describe("In which it takes, or took, part"),
  })
  .meta({ id: "Pod" });
export const PodsAnswer = z.object({ at: Timestamp, pods: z.array(PodAnswer) }).meta({ id: "Pods" });
export const OnePodAnswer = PodAnswer.extend({
  migrations: z
    .array(
      z.object({ migrationId: MigrationId, lifecycle: Lifecycle, role: Role, share: Share, stores: Stores }),
    )
    .readonly(),
}).meta({ id: "PodDetails" });

export const EvidenceAnswers = z
  .object({
    migrationId: MigrationId,
    epoch: Epoch.nullable().describe("Of the newest fence; null before the first"),
    consensus: EvidenceTable.nullable().describe(
      "What the transfer rests on, from the log: by Pod and store. Null before the exact consensus",
    ),
    reported: z
      .array(
        z.object({
          podId: PodId,
          role: Role,
          stores: z.partialRecord(
            StoreName,
            z.object({ evidence: EvidenceAnswer.nullable(), matched: z.boolean().nullable() }),
          ),
        }),
      )
      .describe("What the Pods say now"),
  })
  .meta({ id: "MigrationEvidence" });

const HistoryAnswerEntry = z
  .object({
    sequence: Sequence,
    at: Timestamp,
    by: Actor,
    type: z.string(),
    what: z.string().describe("What was decided, in a sentence"),
    why: z.array(z.string()).readonly(),
    from: Lifecycle.nullable(),
    to: Lifecycle.nullable(),
    findings: z.array(FindingAnswer).readonly(),
    evidence: EvidenceTable.nullable(),
  })
  .meta({ id: "HistoryEntry" });
export const HistoryAnswer = z
  .object({ migrationId: MigrationId, entries: z.array(HistoryAnswerEntry) })
  .meta({ id: "History" });

export const OrganizationPage = z
  .object({
    migrationId: MigrationId,
    organizations: z.array(
      z
        .object({
          organizationId: OrganizationId,
          podId: PodId.describe("Where the plan assigns it"),
          phase: z
            .enum(["source", "fenced", "transferred", "opened"])
            .describe("How every Pod enforces the share of this target"),
          servedBy: PodId.describe("The Pod that is authoritative for it now"),
          routeVersion: RouteVersion,
        })
        .meta({ id: "MigratedOrganization" }),
    ),
    total: Count.describe("Of the migration"),
    found: Count.describe("That begin with `search`"),
    next: OrganizationId.nullable().describe("`after` of the next page; null: this is the last"),
  })
  .meta({ id: "OrganizationPage" });

export const RouteAnswer = z
  .object({ organizationId: OrganizationId, podId: PodId, version: RouteVersion })
  .meta({ id: "Route" });
export const RoutePage = z
  .object({
    defaultPodId: PodId.nullable(),
    routes: z.array(RouteAnswer),
    next: OrganizationId.nullable().describe("`after` of the next page; null: this is the last"),
  })
  .meta({ id: "RoutePage" });

const { ClusterConfigured, ...migrationEvents } = EVENT_SCHEMAS;
const EventAnswer = z
  .union([
    ClusterConfigured,
    ...Object.values(migrationEvents),
    z
      .object({ type: z.literal("Unknown"), event: UnknownEvent })
      .describe("Of a newer version than this coordinator"),
  ])
  .meta({ id: "ClusterEvent" });
export const RecordAnswer = z
  .object({ sequence: Sequence, at: Timestamp, by: Actor, events: z.array(EventAnswer).readonly() })
  .meta({ id: "LogRecord" });
export const RecordPage = z
  .object({
    records: z.array(RecordAnswer).readonly(),
    complete: z
      .boolean()
      .describe("false: the coordinator began with a checkpoint and no longer has all records after `after`"),
  })
  .meta({ id: "RecordPage" });

export const Accepted = z
  .object({ migrationId: MigrationId, lifecycle: Lifecycle.describe("When it was decided") })
  .meta({ id: "Accepted" });

/** A field that one of the two has and the other has not would be dropped from answers, or missing in the description. */
type Same<A, B> = [A, B, keyof A, keyof B] extends [B, A, keyof B, keyof A] ? true : never;
type Out<S extends z.ZodType> = z.output<S>;
export const sameAsInCode: [
  Same<Out<typeof StatusAnswer>, ClusterStatus>,
  Same<Out<typeof StatusAnswer>["pods"][number], ClusterStatus["pods"][number]>,
  Same<Out<typeof MigrationAnswer>, MigrationStatus>,
  Same<Out<typeof Participant>, PodStatus>,
  Same<Out<typeof StoreAnswer>, StoreView>,
  Same<Out<typeof ReverseReplication>, MigrationStatus["reverseReplication"][number]>,
  Same<Out<typeof HistoryAnswerEntry>, HistoryEntry>,
  Same<Out<typeof RecordAnswer>, StoredRecord>,
  Same<(typeof COMMANDS)[number], MigrationStatus["possibleCommands"][number]>,
] = [true, true, true, true, true, true, true, true, true];
