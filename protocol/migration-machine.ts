/**
 * The lifecycle of one migration as an XState machine, used through its pure functions only: no actors, no
 * timers, no guards. Guards live in `decide` (coordinator/domain), so that folding is total: an event that
 * has no transition in a state leaves the state as it is.
 */
import { assign, initialTransition, setup } from "xstate";
import type { EvidenceTable, MigrationEvent } from "./events.ts";
import type { Finding } from "./evidence.ts";
import { idleScope } from "./idle-scope.ts";
import type { Epoch, PodId, RouteVersion } from "./ids.ts";

/** What the machine sees of a log record: the event, when and by whom it was decided, and at which sequence. */
export type MachineEvent = MigrationEvent & {
  readonly at: number;
  readonly by: string;
  readonly sequence: number;
};

export interface Fence {
  readonly epoch: Epoch;
  readonly raisedAt: number;
  /** Log sequence of `FenceRaised`: evidence must come from an agent that applied it (rule 3). */
  readonly raisedSequence: number;
  readonly deadlineAt: number;
}

export interface Transfer {
  readonly epoch: Epoch;
  readonly routeVersion: RouteVersion;
  readonly at: number;
  readonly sequence: number;
  /** Without evidence, because the source is lost: whatever it has, it has to be kept from serving. */
  readonly forced: boolean;
}

/** `closed` until the target appended `Opened`; then nothing can revoke it. */
export type ShareState = "closed" | "opened" | "revoked";

export interface MigrationContext {
  readonly targetPodIds: readonly PodId[];
  /** Is a fence wanted: by an operator's approval, used up by the attempt it allows. */
  readonly approvedBy: string | null;
  readonly attempts: number;
  readonly startRequested: boolean;
  /** Its checks have passed and Pods act on it: before that there is nothing that an abort could have to remove. */
  readonly begun: boolean;
  /** Log sequence of the newest `PreflightStarted`: findings must come from an agent that applied it. */
  readonly preflightSequence: number;
  readonly findings: readonly Finding[];
  /** Present while a fence is up, and afterwards as the last one. */
  readonly fence: Fence | null;
  readonly fenceUp: boolean;
  readonly evidence: EvidenceTable | null;
  readonly transfer: Transfer | null;
  readonly shares: Readonly<Record<PodId, ShareState>>;
  /** Why the migration is where it is: of the last lowering, revocation or abort. */
  readonly reason: string | null;
  readonly paused: Pause | null;
  /** Targets whose changes flow back no more, each with the reason. */
  readonly reverseReplicationGivenUp: Readonly<Record<PodId, string>>;
  /** The newest check of what would be removed; `open` while its findings are awaited. */
  readonly removalCheck: RemovalCheck | null;
  /** While cleaning: stores of files have removed what is dormant; rows are next. */
  readonly filesRemoved: boolean;
}

export interface Pause {
  readonly at: number;
  readonly by: string;
  readonly reason: string;
}

export interface RemovalCheck {
  /** Log sequence of `RemovalCheckStarted`: findings must come from an agent that applied it. */
  readonly sequence: number;
  /** Ends the retention when nothing speaks against it. */
  readonly end: boolean;
  /** Also where the way back is not level. */
  readonly despiteReverseReplication: boolean;
  readonly by: string;
  readonly open: boolean;
}

const machineSetup = setup({
  types: {} as { context: MigrationContext; events: MachineEvent; input: { targetPodIds: readonly PodId[] } },
  actions: {
    requestPreflight: assign(({ event }) =>
      event.type === "PreflightStarted"
        ? { startRequested: event.start, findings: [], preflightSequence: event.sequence }
        : {},
    ),
    keepFindings: assign(({ event }) =>
      event.type === "PreflightPassed" ||
      event.type === "PreflightRefused" ||
      event.type === "RemovalChecked" ||
      event.type === "RetentionEnded"
        ? { findings: event.findings }
        : {},
    ),
    pause: assign(({ event }) =>
      event.type === "MigrationPaused"
        ? { paused: { at: event.at, by: event.by, reason: event.reason } }
        : {},
    ),
    resume: assign({ paused: null }),
    begin: assign({ begun: true }),
    checkRemoval: assign(({ event }) =>
      event.type === "RemovalCheckStarted"
        ? {
            removalCheck: {
              sequence: event.sequence,
              end: event.end,
              despiteReverseReplication: event.despiteReverseReplication ?? false,
              by: event.by,
              open: true,
            },
            findings: [],
          }
        : {},
    ),
    closeRemovalCheck: assign(({ context }) =>
      context.removalCheck === null ? {} : { removalCheck: { ...context.removalCheck, open: false } },
    ),
    giveUpReverseReplication: assign(({ context, event }) =>
      event.type === "ReverseReplicationGivenUp" && context.shares[event.podId] !== undefined
        ? { reverseReplicationGivenUp: { ...context.reverseReplicationGivenUp, [event.podId]: event.reason } }
        : {},
    ),
    noteFilesRemoved: assign({ filesRemoved: true }),
    approve: assign(({ event }) => (event.type === "CutoverApproved" ? { approvedBy: event.by } : {})),
    noteReason: assign(({ event }) => {
      if (
        event.type === "FenceLowered" ||
        event.type === "MigrationAborted" ||
        event.type === "TransferForced" ||
        event.type === "TransferRevoked"
      )
        return { reason: event.reason };
      return {};
    }),
    raiseFence: assign(({ context, event }) =>
      event.type === "FenceRaised"
        ? {
            fence: {
              epoch: event.epoch,
              raisedAt: event.at,
              raisedSequence: event.sequence,
              deadlineAt: event.deadlineAt,
            },
            fenceUp: true,
            attempts: context.attempts + 1,
            approvedBy: null,
            reason: null,
          }
        : {},
    ),
    lowerFence: assign({ fenceUp: false }),
    keepEvidence: assign(({ event }) =>
      event.type === "ConsensusReached" ? { evidence: event.evidence } : {},
    ),
    transferAuthority: assign(({ event }) =>
      event.type === "AuthorityTransferred" ? { fenceUp: false, transfer: transferBy(event, false) } : {},
    ),
    forceTransfer: assign(({ event }) =>
      event.type === "TransferForced"
        ? {
            fenceUp: false,
            // Nobody is asked for evidence under it; stores and leases go by its epoch.
            fence: {
              epoch: event.epoch,
              raisedAt: event.at,
              raisedSequence: event.sequence,
              deadlineAt: event.at,
            },
            transfer: transferBy(event, true),
          }
        : {},
    ),
    openShare: assign(({ context, event }) =>
      event.type === "Opened" ? { shares: settle(context, event.podId, "opened") } : {},
    ),
    revokeShare: assign(({ context, event }) =>
      event.type === "TransferRevoked" ? { shares: settle(context, event.podId, "revoked") } : {},
    ),
  },
  guards: {
    // The only guards in the machine: they complete a count and refuse nothing.
    isLastShare: ({ context, event }) =>
      (event.type === "Opened" || event.type === "TransferRevoked") &&
      Object.values<ShareState>(settle(context, event.podId, "opened")).every((share) => share !== "closed"),
  },
});

function transferBy(
  event: MachineEvent & { readonly epoch: Epoch; readonly routeVersion: RouteVersion },
  forced: boolean,
): Transfer {
  const { epoch, routeVersion, at, sequence } = event;
  return { epoch, routeVersion, at, sequence, forced };
}

/** The first word on a share wins: a share that is opened cannot be revoked, nor the other way round (rule 1). */
function settle(
  context: MigrationContext,
  podId: PodId,
  to: ShareState,
): Readonly<Record<PodId, ShareState>> {
  return context.shares[podId] === "closed" ? { ...context.shares, [podId]: to } : context.shares;
}

const abort = { target: "aborted", actions: ["noteReason", "lowerFence", "resume"] } as const;
/** Wherever no fence is up and something would go on by itself. */
const pausable = { MigrationPaused: { actions: "pause" }, MigrationResumed: { actions: "resume" } } as const;
const lower = { target: "following", actions: ["lowerFence", "noteReason"] } as const;

export const migrationMachine = machineSetup.createMachine({
  id: "migration",
  // `initialTransition` starts an actor without any input, only to throw it away: that must not cost an exception.
  context: ({ input }: { readonly input: { readonly targetPodIds: readonly PodId[] } | undefined }) => ({
    targetPodIds: input?.targetPodIds ?? [],
    approvedBy: null,
    attempts: 0,
    startRequested: false,
    begun: false,
    preflightSequence: 0,
    findings: [],
    fence: null,
    fenceUp: false,
    evidence: null,
    transfer: null,
    shares: Object.fromEntries(
      (input?.targetPodIds ?? []).map((podId) => [podId, "closed" as const]),
    ) as Record<PodId, ShareState>,
    reason: null,
    paused: null,
    reverseReplicationGivenUp: {},
    removalCheck: null,
    filesRemoved: false,
  }),
  initial: "planned",
  states: {
    planned: {
      description: "The plan is accepted and its organizations are claimed. Nothing was touched.",
      on: {
        PreflightStarted: { target: "preflight", actions: "requestPreflight" },
        TransferForced: { target: "activating", actions: ["forceTransfer", "noteReason"] },
        MigrationAborted: abort,
      },
    },
    preflight: {
      description: "Every participant checks what it needs. Nothing is changed anywhere.",
      on: {
        PreflightPassed: [
          {
            guard: ({ context }) => context.startRequested,
            target: "seeding",
            actions: ["keepFindings", "begin"],
          },
          { target: "planned", actions: "keepFindings" },
        ],
        PreflightRefused: [
          { guard: ({ context }) => context.startRequested, target: "refused", actions: "keepFindings" },
          { target: "planned", actions: "keepFindings" },
        ],
        MigrationAborted: abort,
      },
    },
    refused: { description: "A check failed; nothing was changed.", type: "final" },
    seeding: {
      description: "Base copies are made: base backups, repositories, objects.",
      on: { SeedingCompleted: { target: "following" }, MigrationAborted: abort, ...pausable },
    },
    following: {
      description: "Everything that changes is replicated live and verified in the background.",
      on: {
        ReplicasCaughtUp: { target: "ready" },
        CutoverApproved: { actions: "approve" },
        MigrationAborted: abort,
        ...pausable,
      },
    },
    ready: {
      description: "First consensus: all targets are within their bounds. Waits for approval.",
      on: {
        ReplicasFellBehind: { target: "following" },
        CutoverApproved: { actions: "approve" },
        FenceRaised: { target: "fencing", actions: "raiseFence" },
        MigrationAborted: abort,
        ...pausable,
      },
    },
    fencing: {
      description: "Organizations are read-only; the source drains its writers.",
      on: { SourceDrained: { target: "matching" }, FenceLowered: lower, MigrationAborted: abort },
    },
    matching: {
      description: "The source took its final positions; the targets reach and compare them.",
      on: {
        ConsensusReached: { target: "transferring", actions: "keepEvidence" },
        FenceLowered: lower,
        MigrationAborted: abort,
      },
    },
    transferring: {
      description: "Exact consensus. Left within the same record by the transfer.",
      // The other ways out keep the fold total; no record ever ends in this state.
      meta: { leftWithinTheRecordBy: "AuthorityTransferred" },
      on: {
        AuthorityTransferred: { target: "activating", actions: "transferAuthority" },
        FenceLowered: lower,
        MigrationAborted: abort,
      },
    },
    activating: {
      description: "Each target establishes its identity, appends Opened and becomes writable.",
      on: {
        Opened: [
          { guard: "isLastShare", target: "retaining", actions: "openShare" },
          { actions: "openShare" },
        ],
        TransferRevoked: [
          { guard: "isLastShare", target: "retaining", actions: ["revokeShare", "noteReason"] },
          { actions: ["revokeShare", "noteReason"] },
        ],
        ReverseReplicationGivenUp: { actions: "giveUpReverseReplication" },
      },
    },
    retaining: {
      description: "The new Pods are authoritative; what is left behind is dormant and kept.",
      on: {
        RemovalCheckStarted: { actions: "checkRemoval" },
        ReverseReplicationGivenUp: { actions: "giveUpReverseReplication" },
        RemovalChecked: { actions: ["keepFindings", "closeRemovalCheck"] },
        RetentionEnded: { target: "cleaning", actions: ["keepFindings", "closeRemovalCheck", "resume"] },
        ...pausable,
      },
    },
    cleaning: {
      description: "What is dormant is removed: repositories and objects first, then rows.",
      on: {
        FilesRemoved: { actions: "noteFilesRemoved" },
        RowsRemoved: { target: "completed" },
        ...pausable,
      },
    },
    completed: { description: "Nothing of the migration is left but its routes.", type: "final" },
    aborted: {
      description: "The source serves as before; what the migration made is removed.",
      type: "final",
    },
  },
});

/** The machine's states, in order; a test holds this list against the machine. */
export const LIFECYCLES = [
  "planned",
  "preflight",
  "refused",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
  "transferring",
  "activating",
  "retaining",
  "cleaning",
  "completed",
  "aborted",
] as const;
export type Lifecycle = (typeof LIFECYCLES)[number];

const scope = idleScope(migrationMachine, { targetPodIds: [] });

/** Plain data: what a checkpoint holds of the machine. */
export interface MigrationSnapshot {
  readonly lifecycle: Lifecycle;
  readonly context: MigrationContext;
}

export function initialSnapshot(targetPodIds: readonly PodId[]): MigrationSnapshot {
  const [snapshot] = initialTransition(migrationMachine, { targetPodIds });
  return { lifecycle: snapshot.value as Lifecycle, context: snapshot.context };
}

/** Total and pure: an event without a transition in this state returns the snapshot unchanged. */
export function advance(snapshot: MigrationSnapshot, event: MachineEvent): MigrationSnapshot {
  const from = migrationMachine.resolveState({ value: snapshot.lifecycle, context: snapshot.context });
  const to = migrationMachine.transition(from, event, scope);
  return { lifecycle: to.value as Lifecycle, context: to.context };
}

/** The migration is over; it claims no organization any more. */
export function isOver(lifecycle: Lifecycle): boolean {
  return lifecycle === "refused" || lifecycle === "aborted" || lifecycle === "completed";
}
