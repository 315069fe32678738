/** Defects of the way back and of rollbacks; the seeds that hunt them keep a way back. */
import type { Mutant } from "./mutant.ts";

const DECIDE = "coordinator/domain/decide.ts";
const SESSION = "simulations/models/postgres/back-session.ts";

export const REVERSE_REPLICATION_MUTANTS: readonly Mutant[] = [
  {
    name: "back-stream-armed-too-late",
    says: "What flows back begins where the target has opened, and not before anybody can write there.",
    reverseReplication: true,
    edits: [
      {
        file: "simulations/models/postgres/back-slot.ts",
        find: `if (duty.goal === "open" || (found`,
        replace: `if (duty.goal !== "open" || (found`,
      },
    ],
  },
  {
    name: "removal-without-the-second-look",
    says: "Rows are removed because a duty says so, without asking the log and the Pod's own routes before each batch.",
    reverseReplication: true,
    edits: [
      {
        file: "simulations/models/postgres/removal.ts",
        find: "if (rows.length === 0 || !duty.removal?.mayRemove(organization as never)) break;\n      if (!isDormantHere(own, duty, organization)) break;",
        replace: "if (rows.length === 0) break;",
      },
    ],
  },
  {
    name: "abort-forgets-the-slot-of-the-reverse-replication",
    says: "The abort of a move leaves the slot that was made for its reverse replication.",
    reverseReplication: true,
    edits: [
      {
        file: "simulations/models/postgres/move-target.ts",
        find: `own.requirePrimary("release");\n    await keepBackSlot(this.#options.parts, duty, signal);`,
        replace: `own.requirePrimary("release");`,
      },
    ],
  },
  {
    name: "abort-forgets-the-routes-of-a-rollback",
    says: "The abort of a rollback leaves its routes over those of the migration before.",
    reverseReplication: true,
    edits: [
      {
        file: "simulations/models/postgres/rollback-target.ts",
        find: "if (own.state.routes.has(duty.migrationId))\n",
        replace: `if (duty.migrationId === "")\n`,
      },
    ],
  },
  {
    name: "pause-drops-the-slot",
    says: "While a migration is paused nothing flows back, so that its slots are dropped.",
    reverseReplication: true,
    edits: [
      {
        file: "protocol/cluster.ts",
        find: `const over = lifecycle === "cleaning" || isOver(lifecycle);`,
        replace: `const over = lifecycle === "cleaning" || isOver(lifecycle) || context.paused !== null;`,
      },
    ],
  },
  {
    name: "rollback-accepts-old-evidence",
    says: "Of a rollback, evidence counts whatever fence it was taken at, and before the fence was applied.",
    reverseReplication: true,
    edits: [
      {
        file: "coordinator/domain/consensus.ts",
        find: "received.report.appliedSequence < fence.raisedSequence",
        replace: "(received.report.appliedSequence < fence.raisedSequence && migration.of === null)",
      },
      {
        file: "coordinator/domain/consensus.ts",
        find: "status.goal !== goal || !status.reached || status.evidence?.epoch !== fence.epoch",
        replace:
          "status.evidence === null || (migration.of === null && (status.goal !== goal || !status.reached || status.evidence.epoch !== fence.epoch))",
      },
    ],
  },
  {
    name: "rolled-back-organizations-flow-back",
    says: "What a rolled-back organization's old Pod does to its copy goes on flowing to the Pod that serves it again.",
    reverseReplication: true,
    edits: [
      {
        file: SESSION,
        find: `(rollback) => rollback.phase === "opened" && `,
        replace: `(rollback) => rollback.phase === "fenced" && `,
      },
    ],
  },
  {
    name: "the-carrier-is-not-held",
    says: "Changes go on flowing back while a rollback from their Pod is being opened.",
    reverseReplication: true,
    edits: [
      { file: SESSION, find: "return this.#heldBy.size > 0;", replace: "return this.#heldBy.size > 1_000;" },
    ],
  },
  {
    name: "guard-follows-what-went-back",
    says: "When a rollback is over, guards follow the migration before, which still names its organizations.",
    reverseReplication: true,
    edits: [
      {
        file: "agent/domain/guard.ts",
        find: `lifecycle === "completed" &&`,
        replace: `lifecycle === "planned" &&`,
      },
    ],
  },
  {
    name: "opens-what-it-could-forget",
    says: "A Pod opens although the transfer is not on its disk yet.",
    reverseReplication: true,
    edits: [
      {
        file: "agent/domain/own-decisions.ts",
        find: 'if (!isDurable) mark("opening-waits-for-the-disk");\n  return isDurable;',
        replace: "return true;",
      },
    ],
  },
  {
    name: "rollback-waits-for-what-was-given-up",
    says: "A rollback goes on although the reverse replication that it needs was given up.",
    reverseReplication: true,
    edits: [
      {
        file: DECIDE,
        find: "if (reverseReplicationOf(before).includes(sourcePodId)) return null;",
        replace: `if (reverseReplicationOf(before).includes(sourcePodId) || of !== "") return null;`,
      },
    ],
  },
  {
    name: "a-forced-takeover-is-given-back",
    says: "What was taken over from a lost Pod is given back to it when the source does not open in time.",
    reverseReplication: true,
    edits: [
      { file: DECIDE, find: "if (!transfer || transfer.forced || now", replace: "if (!transfer || now" },
    ],
  },
];
