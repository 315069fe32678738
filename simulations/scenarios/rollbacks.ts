/** Stories of the way back: what flows back, rollbacks and what meets them, and the loss of a Pod for ever. */
import type { EventType } from "../../protocol/events.ts";
import type { Report } from "../run.ts";
import type { PlannedRollback, ReverseReplicationScenario } from "../scenario-reverse-replication.ts";
import {
  crash,
  crashPostgres,
  cutPeers,
  fillDisk,
  operatorFinalizes,
  operatorGivesUpTheReverseReplication,
  operatorPauses,
  operatorRollsBack,
  powerOff,
  silence,
  stallReplay,
  stopReports,
} from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

const ROLLBACK: PlannedRollback = {
  afterMs: 900,
  target: 0,
  organizations: 1,
  approval: "auto",
  abort: null,
  finalized: true,
};
const KEPT: ReverseReplicationScenario = {
  rollbacks: [],
  giveUp: null,
  walBudgetBytes: null,
  finalizesDespite: false,
  lost: null,
};
const rollingBack = (
  ...rollbacks: Partial<PlannedRollback>[]
): { readonly reverseReplication: ReverseReplicationScenario } => ({
  reverseReplication: { ...KEPT, rollbacks: rollbacks.map((one) => ({ ...ROLLBACK, ...one })) },
});
const FINALIZED = { retention: { forMs: null, dryRunFirst: false } } as const;

/** What was decided of the rollbacks, one attempt after another. */
const ofRollbacks = ({ decisions }: Report): string[] =>
  decisions.flatMap(({ migrationId, type }) => (/-(back-|lost)/.test(migrationId ?? "") ? [type] : []));
/** These in this order, with others between them. */
const decided =
  (...types: readonly EventType[]) =>
  (report: Report): string | null => {
    const made = ofRollbacks(report);
    let at = 0;
    for (const type of made) if (type === types[at]) at += 1;
    return at === types.length ? null : `of rollbacks ${types[at]} is missing in ${made.join(", ")}`;
  };
const neverDecided =
  (type: EventType) =>
  (report: Report): string | null =>
    ofRollbacks(report).includes(type) ? `${type} was decided of a rollback` : null;

const FENCED_AND_OPENED = ["FenceRaised", "AuthorityTransferred", "Opened"] as const;
const OPENED = ["RollbackPlanned", ...FENCED_AND_OPENED] as const;

/** In each state of a rollback before its transfer, the event that it is entered by. */
const ABORTABLE: readonly (readonly [state: string, on: EventType])[] = [
  ["preflight", "RollbackPlanned"],
  ["seeding", "PreflightPassed"],
  ["following", "SeedingCompleted"],
  ["ready", "ReplicasCaughtUp"],
  ["fencing", "FenceRaised"],
  ["matching", "SourceDrained"],
];

export const ROLLBACK_STORIES: readonly NamedStory[] = [
  {
    name: "rollback-of-one-organization",
    about: "a split, and one organization goes back under load: nothing is lost in either direction",
    story: given({ ...rollingBack({}), clients: 14 })
      .expect("retaining")
      .and(decided(...OPENED, "RowsRemoved")),
  },
  {
    name: "rollback-of-a-whole-pod",
    about: "one Pod's organizations go back, in two rollbacks; then the split is finalized without them",
    story: given({ ...rollingBack({}, { organizations: null }), ...FINALIZED, clients: 12 })
      .expect("completed")
      .and(decided(...OPENED, "RowsRemoved", ...OPENED, "RowsRemoved")),
  },
  {
    name: "rollback-of-a-move",
    about: "an organization that moved goes back, while its residents on both Pods are served",
    story: given({ ...rollingBack({}), ...FINALIZED, move: true, clients: 12 })
      .expect("completed")
      .and(decided(...OPENED, "RowsRemoved")),
  },
  ...ABORTABLE.map(
    ([state, on]): NamedStory => ({
      name: `rollback-aborted-while-${state}`,
      about: `an operator aborts a rollback while ${state}: the new Pod serves on, and the next attempt succeeds`,
      story: given({
        ...rollingBack({ abort: { on, afterMs: on === "RollbackPlanned" ? 20 : 0 }, approval: "manual" }),
        ...FINALIZED,
        clients: 10,
      })
        // What the source has to match is held up, so that the abort wins.
        .when("ready", stallReplay("pod-0"), { of: "rollback", forMs: 1_000 })
        .expect("completed")
        .and(decided("MigrationAborted", ...OPENED, "RowsRemoved")),
    }),
  ),
  {
    name: "rollback-source-agent-dies-in-fencing",
    about: "the new Pod's agent dies under the rollback's fence: its stores hold it, and so does the log",
    story: given({ ...rollingBack({ organizations: null }), clients: 12 })
      .when("fencing", crash("pod-100"), { of: "rollback" })
      .thenHeal(400)
      .expect("retaining")
      .and(decided(...OPENED)),
  },
  {
    name: "rollback-fenced-twice",
    about:
      "one coordinator knows of the first fence that both sides match, and of the next one nothing: it does not count",
    story: given({ ...rollingBack({ organizations: null }), clients: 16 })
      .when("matching", stopReports("c2"), { of: "rollback", forMs: 1_600 })
      .when("matching", silence("c1"), { of: "rollback", forMs: 1_500 })
      .when("matching", stopReports("c1"), { of: "rollback", afterMs: 300, forMs: 5_000 })
      .expect("retaining")
      .and(decided("FenceRaised", "SourceDrained", "FenceLowered", ...FENCED_AND_OPENED)),
  },
  {
    name: "rollback-target-forgets-nothing",
    about:
      "the disk is full at the transfer, and the agent dies as soon as it has opened: what is written then stays",
    story: given({ ...rollingBack({ organizations: null }), clients: 16 })
      .when("matching", fillDisk("pod-0"), { of: "rollback", forMs: 1_500 })
      .when("retaining", crash("pod-0"), { of: "rollback", afterMs: 20, forMs: 1_500 })
      .expect("retaining")
      .and(decided(...OPENED)),
  },
  {
    name: "rollback-target-dies-in-activating",
    about:
      "the source's machine dies before it takes anything back: given back, the new Pod serves, and again",
    story: given({ ...rollingBack({}), clients: 12, settings: { openWithinMs: 2_000 }, calmAtMs: 40_000 })
      .when("activating", powerOff("pod-0"), { of: "rollback" })
      .thenHeal(9_000)
      .expect("retaining")
      .and(decided("AuthorityTransferred", "TransferRevoked", "RowsRemoved", ...OPENED)),
  },
  {
    name: "rollback-everybody-restarts",
    about: "every process dies at the rollback's transfer: neither side stays without a writer",
    story: ["c1", "c2", "pod-0", "pod-100", "pod-101"]
      .reduce(
        (story, process) => story.when("activating", crash(process), { of: "rollback" }),
        given({ ...rollingBack({}), clients: 10 }),
      )
      .thenHeal(1_500)
      .expect("retaining")
      .and(decided(...OPENED)),
  },
  {
    name: "rollback-of-long-transactions",
    about: "transactions are open across both switches: what flows back begins where none of them can write",
    story: given({ ...rollingBack({ afterMs: 200 }), clients: 16, longShare: 0.4 })
      .when("activating", crashPostgres("pod-0"), { forMs: 300 })
      .expect("retaining")
      .and(decided(...OPENED)),
  },
  {
    name: "rollback-half-switched",
    about:
      "aborted under its fence, tried again, cut off in the middle of the transfer: every time there is an exit",
    story: given({ ...rollingBack({ abort: { on: "FenceRaised", afterMs: 0 } }), ...FINALIZED, clients: 10 })
      .when("fencing", cutPeers, { of: "rollback", forMs: 1_200 })
      .when("activating", crash("c1"), { of: "rollback", forMs: 2_000 })
      .expect("completed")
      .and(decided("MigrationAborted", ...OPENED, "RowsRemoved")),
  },
  {
    name: "rollback-after-finalize",
    about: "an operator wants to roll back what is being removed: refused, and the removal goes on",
    story: given({ reverseReplication: KEPT, ...FINALIZED, clients: 8 })
      .when("cleaning", operatorRollsBack(0))
      .expect("completed")
      .and(neverDecided("RollbackPlanned"))
      .neverDecides("RollbackPlanned"),
  },
  {
    name: "finalize-behind-is-refused",
    about: "what flows back is cut off while an operator finalizes: the retention goes on until it is level",
    story: given({ reverseReplication: KEPT, clients: 10 })
      .when("retaining", cutPeers, { afterMs: 100, forMs: 5_000 })
      .when("retaining", operatorFinalizes, { afterMs: 2_000 })
      .expect("retaining")
      .decides("RemovalCheckStarted", "RemovalChecked")
      .neverDecides("RetentionEnded"),
  },
  {
    name: "paused-with-a-reverse-replication",
    about:
      "a pause takes nothing down: what was written meanwhile flows back, and the rollback loses none of it",
    story: given({ ...rollingBack({ afterMs: 2_500 }), clients: 12 })
      .when("retaining", operatorPauses, { afterMs: 400 })
      .expect("retaining")
      .decides("MigrationPaused", "MigrationResumed")
      .and(decided(...OPENED)),
  },
  {
    name: "reverse-replication-over-budget",
    about:
      "a Pod's disk keeps more for reverse replication than the plan allows: it is given up, and nothing else",
    story: given({ reverseReplication: { ...KEPT, walBudgetBytes: 1_500 }, clients: 20 })
      .when("retaining", cutPeers, { afterMs: 100, forMs: 12_000 })
      .expect("retaining")
      .decides("ReverseReplicationGivenUp")
      .decidedBy("ReverseReplicationGivenUp", /^coordinator:/),
  },
  {
    name: "reverse-replication-given-up-while-another-opens",
    about:
      "one new Pod is open and its reverse replication given up before the other opens: that one keeps its own",
    story: given({
      reverseReplication: KEPT,
      clients: 8,
      settings: { openWithinMs: 12_000 },
      calmAtMs: 30_000,
    })
      .when("activating", powerOff("pod-101"), { forMs: 4_000 })
      .when("retaining", operatorGivesUpTheReverseReplication(0), { afterMs: 200 })
      .expect("retaining")
      .decides("Opened", "ReverseReplicationGivenUp", "Opened"),
  },
  {
    name: "reverse-replication-given-up-under-a-rollback",
    about: "reverse replication is given up while a rollback needs it: aborted, and the new Pod serves on",
    story: given({
      reverseReplication: {
        ...KEPT,
        rollbacks: [{ ...ROLLBACK, approval: "manual" }],
        giveUp: { afterMs: 2_000, target: 0 },
      },
      settings: { settlingMs: 300 },
      clients: 8,
    })
      .when("seeding", crash("pod-100"), { of: "rollback", forMs: 3_000 })
      .expect("retaining")
      .decides("ReverseReplicationGivenUp")
      .and(decided("RollbackPlanned", "MigrationAborted"))
      .and(neverDecided("Opened")),
  },
  {
    name: "lost-for-ever",
    about:
      "a Pod burns down while retained: an operator accepts the loss, the source takes over what had flowed back",
    story: given({
      reverseReplication: { ...KEPT, lost: { afterMs: 2_000, target: 0 } },
      // Shorter than a read lease can last: what is taken over is not given back to a Pod that is gone.
      settings: { openWithinMs: 1_000 },
      clients: 12,
    })
      .expect("retaining")
      .and(decided("RollbackPlanned", "TransferForced", "Opened"))
      .and(neverDecided("TransferRevoked")),
  },
];
