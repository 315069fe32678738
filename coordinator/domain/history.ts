/** The audit trail of one migration: who decided what, when and why, from the log alone. Pure. */
import { type ClusterState, emptyCluster } from "../../protocol/cluster.ts";
import type { ClusterEvent, EvidenceTable, ReadRecord } from "../../protocol/events.ts";
import type { Finding } from "../../protocol/evidence.ts";
import { evolve } from "../../protocol/evolve.ts";
import type { MigrationId } from "../../protocol/ids.ts";
import { type Lifecycle, migrationMachine } from "../../protocol/migration-machine.ts";

export interface HistoryEntry {
  readonly sequence: number;
  /** Milliseconds since 1970, by the clock of whoever decided. */
  readonly at: number;
  /** `operator:alice`, `coordinator:c1`, `agent:pod-0`. */
  readonly by: string;
  readonly type: string;
  /** What was decided, in a sentence. */
  readonly what: string;
  /** Why, where somebody or something gave a reason. */
  readonly why: readonly string[];
  /** Null before the migration was planned. */
  readonly from: Lifecycle | null;
  readonly to: Lifecycle | null;
  readonly findings: readonly Finding[];
  /** Of the exact consensus: what every store of every Pod proved. */
  readonly evidence: EvidenceTable | null;
}

export interface ToldEntry extends HistoryEntry {
  readonly migrationId: MigrationId;
}

export interface NumberedRecord extends ReadRecord {
  readonly sequence: number;
}

/** One more record: the state after it, and what it told of each migration. */
export function foldAndTell(
  before: ClusterState,
  { sequence, ...record }: NumberedRecord,
): { readonly state: ClusterState; readonly told: readonly ToldEntry[] } {
  const told: ToldEntry[] = [];
  let state = before;
  for (const event of record.events) {
    const earlier = state;
    state = evolve(state, { ...record, events: [event] }, sequence);
    if (event.type === "ClusterConfigured") continue;
    const migrationId = event.type === "Unknown" ? event.event.migrationId : event.migrationId;
    if (migrationId === undefined) continue;
    const from = earlier.migrations[migrationId]?.lifecycle ?? null;
    const to = state.migrations[migrationId]?.lifecycle ?? null;
    const { at, by } = record;
    if (event.type === "Unknown") {
      const { type, v } = event.event;
      const what = `something that this version does not know (${type}, version ${v})`;
      told.push({ ...NOTHING, migrationId, sequence, at, by, type, what, from, to });
      continue;
    }
    told.push({ ...NOTHING, ...tell(event), migrationId, sequence, at, by, type: event.type, from, to });
  }
  return { state, told };
}

/** @param records from the beginning of the log on, in order; others' are folded and left out. */
export function historyOf(records: readonly NumberedRecord[], migrationId: MigrationId): HistoryEntry[] {
  const entries: HistoryEntry[] = [];
  let state = emptyCluster;
  for (const record of records) {
    const folded = foldAndTell(state, record);
    state = folded.state;
    for (const { migrationId: of, ...entry } of folded.told) if (of === migrationId) entries.push(entry);
  }
  return entries;
}

type Told = Pick<HistoryEntry, "what"> & Partial<Pick<HistoryEntry, "why" | "findings" | "evidence">>;

const NOTHING: Pick<HistoryEntry, "why" | "findings" | "evidence"> = {
  why: [],
  findings: [],
  evidence: null,
};

function tell(event: Exclude<ClusterEvent, { type: "ClusterConfigured" }>): Told {
  switch (event.type) {
    case "MigrationPlanned":
      return {
        what: `split of ${event.sourcePodId}: ${event.assignments.organizations} organizations to ${event.targetPodIds.join(", ")}`,
      };
    case "MovePlanned":
      return {
        what: `move of ${event.assignments.organizations} organizations from ${event.sourcePodId} to ${event.targetPodId}`,
      };
    case "RollbackPlanned":
      return {
        what: `rollback of ${event.of}: ${event.assignments.organizations} organizations from ${event.sourcePodId} back to ${event.targetPodId}`,
      };
    case "TransferForced":
      return {
        what: `authority was taken over without evidence, route version ${event.routeVersion}: what had not flowed back is lost`,
        why: [event.reason],
      };
    case "ReverseReplicationGivenUp":
      return { what: `reverse replication from ${event.podId} was given up`, why: [event.reason] };
    case "PreflightStarted":
      return { what: event.start ? "started: all checks run first" : "a dry run of the checks" };
    case "PreflightPassed":
      return { what: "all checks passed", findings: event.findings };
    case "PreflightRefused":
      return { what: "a check failed", findings: event.findings };
    case "SeedingCompleted":
      return { what: "every target has its base copy and follows" };
    case "ReplicasCaughtUp":
      return { what: "all targets were within their bounds for the settling time" };
    case "ReplicasFellBehind":
      return { what: "a target fell behind", why: event.reasons };
    case "CutoverApproved":
      return { what: "one attempt of the cutover was approved" };
    case "FenceRaised":
      return { what: `the organizations became read-only, epoch ${event.epoch}` };
    case "SourceDrained":
      return { what: "the source had drained its writers and took its final positions" };
    case "ConsensusReached":
      return { what: "every store of every target equalled the source", evidence: event.evidence };
    case "AuthorityTransferred":
      return { what: `authority was transferred, route version ${event.routeVersion}` };
    case "FenceLowered":
      return { what: "the fence was lowered; the source serves", why: [event.reason] };
    case "Opened":
      return { what: `${event.podId} opened and serves its organizations` };
    case "TransferRevoked":
      return { what: `the share of ${event.podId} went back to the source`, why: [event.reason] };
    case "MigrationAborted":
      return { what: "aborted; the source serves as before", why: [event.reason] };
    case "MigrationPaused":
      return { what: "paused", why: [event.reason] };
    case "MigrationResumed":
      return { what: "resumed" };
    case "RemovalCheckStarted":
      return {
        what: event.end
          ? "finalized: what would be removed is checked first"
          : "a look at what would be removed",
      };
    case "RemovalChecked":
      return { what: "what would be removed was looked at; the retention goes on", findings: event.findings };
    case "RetentionEnded":
      return { what: "the retention ended: no way back, removal begins", findings: event.findings };
    case "FilesRemoved":
      return { what: "no dormant repositories and objects are left" };
    case "RowsRemoved":
      return { what: "nothing dormant is left" };
  }
}

/**
 * The lifecycle as a Mermaid state diagram, drawn from the machine itself; what this migration went through is marked.
 * @param entries as `historyOf` gives them
 */
export function chartOf(entries: readonly HistoryEntry[]): string {
  const taken = new Set(entries.map(({ from, to, type }) => `${from} ${type} ${to}`));
  const visited = new Set(entries.flatMap(({ to }) => to ?? []));
  const lines = ["stateDiagram-v2", "    [*] --> planned"];
  for (const [state, node] of Object.entries(migrationMachine.root.states))
    for (const [event, candidates] of node.transitions)
      for (const { target } of candidates) {
        const to = target?.[0]?.key;
        if (to === undefined || to === state) continue;
        lines.push(`    ${state} --> ${to}: ${event}${taken.has(`${state} ${event} ${to}`) ? " ✔" : ""}`);
      }
  lines.push("    classDef taken fill:#2da44e,color:#fff");
  if (visited.size > 0) lines.push(`    class ${[...visited].join(",")} taken`);
  return lines.join("\n");
}
