/**
 * Failures that other systems for this job published, as stories about Cleave. Rows that concern what does not exist
 * here yet (a way back) are named in ../README.md; those of moves are in moves.ts.
 */
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import {
  answerFromThePast,
  corruptCopy,
  crash,
  crashPostgres,
  cutPeers,
  deafen,
  delayFileWrites,
  deliverAgain,
  downgrade,
  failStores,
  fillDisk,
  hideAssignments,
  isolate,
  jumpClock,
  loseAnswers,
  loseReports,
  makeUnreadable,
  operatorAborts,
  operatorRevokes,
  powerOff,
  rotDisk,
  shuffleReports,
  silence,
  stallReplay,
  stopDelivery,
  stopReports,
} from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

/** An operator may abort in each of these. */
const ABORTABLE: readonly [Lifecycle, number][] = [
  ["planned", 20],
  ["preflight", 0],
  ["seeding", 100],
  ["following", 50],
  ["ready", 50],
  ["fencing", 0],
];

export const PEER_STORIES: readonly NamedStory[] = [
  {
    name: "writers-in-flight",
    about: "transactions and pushes are open when the fence goes up: each ends or is ended, none is lost",
    story: given({ longShare: 0.5, clients: 10 })
      .when("fencing", delayFileWrites("pod-0", 120), { forMs: 2_000 })
      .expect("retaining")
      .decides("FenceRaised", "SourceDrained"),
  },
  {
    name: "position-after-the-last-writer",
    about:
      "writers commit between the fence and its end: what counts as the end is read after the last of them",
    story: given({ longShare: 0.3, clients: 12, settings: { drainGraceMs: 600, deadlineMs: 4_000 } })
      .when("ready", shuffleReports, { forMs: 500 })
      .expect("retaining"),
  },
  {
    name: "no-switch-without-replication",
    about: "Pods cannot reach one another when the fence goes up: no transfer, the source serves again",
    story: given()
      .when("fencing", cutPeers)
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "everybody-restarts-in-the-switch",
    about: "every process dies at the instant of the transfer: each derives from the log what it has to do",
    story: ["c1", "c2", "pod-0", "pod-100", "pod-101"]
      .reduce((story, process) => story.when("activating", crash(process)), given())
      .thenHeal(1_500)
      .expect("retaining"),
  },
  ...ABORTABLE.map(
    ([state, afterMs]): NamedStory => ({
      name: `abort-in-${state}`,
      about: `an operator aborts in ${state}: nothing of it stays, and the same organizations are planned again`,
      story: given({ copyMs: 500, settings: { settlingMs: 600 } })
        .when("ready", stallReplay("pod-100"), { forMs: 2_500 })
        .when(state, operatorAborts, { afterMs })
        .and(({ ends }) => (ends["split-1"] === "aborted" ? null : `it ended as ${ends["split-1"]}`)),
    }),
  ),
  {
    name: "abort-leaves-the-source-alone",
    about: "an abort after hours of copying removes the copies alone; clients of the source notice nothing",
    story: given({ approval: "manual", clients: 10 })
      .when("ready", operatorAborts, { afterMs: 10 })
      .when("aborted", crash("pod-100"), { afterMs: 2, forMs: 1_000 })
      .expect("aborted"),
  },
  {
    name: "coordinators-die-while-copying",
    about:
      "coordinators die in the middle of copying, it is aborted, and nothing that exists already is in the way",
    story: given({ copyMs: 1_500 })
      .when("seeding", crash("c1"), { afterMs: 100, forMs: 1_000 })
      .when("seeding", crash("c2"), { afterMs: 300, forMs: 2_000 })
      .when("seeding", operatorAborts, { afterMs: 3_500 })
      .and(({ ends }) =>
        Object.values(ends).at(-1) === "retaining" ? null : `ended as ${Object.values(ends)}`,
      ),
  },
  {
    name: "checks-before-anything-moves",
    about: "one participant cannot do its part: refused before the first byte is copied anywhere",
    story: given()
      .when("planned", crashPostgres("pod-0"), { forMs: 1_500 })
      .expect("refused")
      .neverDecides("SeedingCompleted"),
  },
  {
    name: "slots-are-dropped",
    about:
      "an abort while a target is cut off, and its machine dies: its slot goes, the next plan makes its own",
    story: given()
      .when("following", isolate("pod-100"), { forMs: 2_000 })
      .when("following", operatorAborts, { afterMs: 200 })
      .when("aborted", powerOff("pod-100"), { forMs: 1_500 })
      .expect("aborted"),
  },
  {
    name: "unsent-is-not-caught-up",
    about: "nothing arrives at a target although nothing is in transit: that is a lag, and no readiness",
    story: given({ settings: { settlingMs: 500 } })
      .when("following", isolate("pod-100"), { forMs: 2_500 })
      .expect("retaining")
      .and(({ decisions }) =>
        decisions.filter(({ type }) => type === "FenceLowered").length === 0
          ? null
          : "it was fenced before its targets had caught up",
      ),
  },
  {
    name: "sent-is-not-replayed",
    about: "a target receives all WAL and replays none: that is a lag, and no fence goes up in vain",
    story: given({ clients: 14, lagBytes: 300, settings: { settlingMs: 800 } })
      .when("following", stallReplay("pod-100"), { forMs: 4_000 })
      .expect("retaining")
      .neverDecides("FenceLowered"),
  },
  {
    name: "silence-is-not-caught-up",
    about: "nobody writes and reports stop: a quiet cluster is not a matched one, and no fence goes up",
    story: given({ clients: 0, approval: "manual" })
      .when("seeding", loseReports, { forMs: 6_000 })
      .expect("retaining"),
  },
  {
    name: "no-reverse-replication-by-abort",
    about: "an operator aborts after the transfer: refused, the transfer goes forward",
    story: given().when("activating", operatorAborts).expect("retaining").neverDecides("MigrationAborted"),
  },
  {
    name: "half-open-is-given-back",
    about: "an operator takes back a share whose target cannot open: one of the two words counts, never both",
    story: given({ promotionMs: 400 })
      .when("activating", operatorRevokes(0), { afterMs: 100 })
      .expect("retaining")
      .decides("AuthorityTransferred", "TransferRevoked"),
  },
  {
    name: "the-right-history",
    about: "a target dies after it matched and before it is promoted: it opens the history that was compared",
    story: given({ promotionMs: 300, settings: { openWithinMs: 8_000 } })
      .when("activating", powerOff("pod-100"), { afterMs: 20 })
      .thenHeal(2_000)
      .expect("retaining")
      .decides("AuthorityTransferred", "Opened", "Opened"),
  },
  {
    name: "nobody-answers-for-another",
    about: "one of two targets says nothing at the fence: the other one's word does not count twice",
    story: given()
      .when("fencing", silence("pod-101"))
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "a-corrupt-copy-differs",
    about: "a target's repository is not what was copied: found, copied anew, and only then switched",
    story: given({ clients: 10 })
      .when("following", corruptCopy("pod-100"), { afterMs: 100 })
      .expect("retaining"),
  },
  {
    name: "a-rotten-disk-never-matches",
    about: "what is copied to a target is never what was read: it does not match, and does not hide it",
    story: given({ clients: 10 })
      .when("following", rotDisk("pod-100"), { afterMs: 100 })
      .thenHeal(5_000)
      .expect("retaining"),
  },
  {
    name: "a-successor-waits",
    about:
      "the source cannot clean up after an abort: the next plan with the same organizations waits for it",
    story: given()
      .when("following", operatorAborts)
      .when("aborted", failStores("pod-0"), { forMs: 7_000 })
      .expect("aborted"),
  },
  {
    name: "forgotten-on-disk-too",
    about:
      "a target cleans up after an abort while its disk is full: it is done once a restart cannot undo it",
    story: given()
      .when("following", operatorAborts)
      .when("aborted", failStores("pod-100"), { forMs: 1_200 })
      .when("aborted", fillDisk("pod-100"), { afterMs: 600, forMs: 5_000 })
      .expect("aborted"),
  },
  {
    name: "unreadable-is-not-equal",
    about: "a repository of the source cannot be read: no evidence and no transfer until it can",
    story: given({ clients: 10 })
      .when("fencing", makeUnreadable("pod-0"))
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "evidence-through-the-coordinator",
    about: "reports are late, doubled and overtake one another at the fence: old ones count for nothing",
    story: given()
      .when("ready", shuffleReports)
      .when("fencing", crash("pod-101"), { afterMs: 5, forMs: 300 })
      .thenHeal(4_000)
      .expect("retaining"),
  },
  {
    name: "old-evidence-at-a-new-fence",
    about:
      "a coordinator that heard everything of the first fence hears nothing of the second: that decides nothing",
    story: given({ clients: 10, settings: { deadlineMs: 800 } })
      .when("fencing", silence("c1"), { forMs: 1_500 })
      .when("fencing", silence("c2"), { forMs: 1_500 })
      .when("fencing", stopReports("c2"), { afterMs: 300, forMs: 8_000 })
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "SourceDrained", "AuthorityTransferred")
      .decidedBy("SourceDrained", /c1/),
  },
  {
    name: "an-answer-is-lost",
    about:
      "the log takes appends and its answers are lost: whoever asked reads what happened, and repeats nothing",
    story: given()
      .when("ready", loseAnswers)
      .when("ready", deliverAgain)
      .thenHeal(4_000)
      .expect("retaining")
      .and(({ decisions }) =>
        decisions.filter(({ type }) => type === "AuthorityTransferred").length === 1
          ? null
          : "more than one transfer",
      ),
  },
  {
    name: "an-old-server-answers",
    about: "a log server that lost its peers answers from the past, and the source is deaf: no stale read",
    story: given({ clients: 10 })
      .when("fencing", answerFromThePast)
      .when("activating", deafen("pod-0"))
      .thenHeal(3_000)
      .expect("retaining"),
  },
  {
    name: "nothing-is-delivered",
    about:
      "the log answers the source and delivers it nothing: it leases no reads of what it may have given away",
    story: given({ clients: 12, settings: { openWithinMs: 12_000 } })
      .when("activating", stopDelivery("pod-0"), { forMs: 9_000 })
      .expect("retaining")
      .decides("AuthorityTransferred", "Opened", "Opened"),
  },
  {
    name: "clocks-jump",
    about:
      "calendars of the source and of a coordinator jump under a fence: no fence outlives them, none reopens",
    story: given()
      .when("ready", stallReplay("pod-100"), { forMs: 3_000 })
      .when("fencing", jumpClock("pod-0", 2_400))
      .when("fencing", jumpClock("c1", -2_400))
      .expect("retaining"),
  },
  {
    name: "clocks-too-far-apart",
    about: "a target's calendar is eight seconds ahead: no fence goes up on it before that is corrected",
    story: given({ approval: "manual" })
      .when("following", jumpClock("pod-100", 8_000))
      .expect("retaining")
      .and(({ decisions, virtualMs }) =>
        decisions.some(({ type }) => type === "FenceRaised") && virtualMs > 25_000
          ? null
          : "it was fenced although the clocks differed",
      ),
  },
  {
    name: "a-peer-comes-back",
    about: "the source's agent is being restarted while a plan is checked: asked again, not refused",
    story: given()
      .when("planned", crash("pod-0"), { forMs: 2_500 })
      .expect("retaining")
      .neverDecides("PreflightRefused"),
  },
  {
    name: "assignments-cannot-be-read",
    about: "what the plan names cannot be loaded: nobody guesses whose anything is",
    story: given().when("planned", hideAssignments).thenHeal().expect("retaining"),
  },
];

/** Rule 13: one of the events is newer than a process. */
export const VERSION_STORIES: readonly NamedStory[] = [
  {
    name: "older-source-in-the-transfer",
    about:
      "the source restarts under a fence as a version without the transfer: it refuses reads, and says why",
    story: given({ clients: 10, settings: { deadlineMs: 3_000 } })
      .when("ready", stallReplay("pod-100"), { forMs: 1_500 })
      .when("fencing", downgrade("pod-0", "AuthorityTransferred"), { afterMs: 300 })
      .thenHeal(9_000)
      .expect("retaining")
      .decides("AuthorityTransferred", "Opened", "Opened")
      .saysThatItStandsStill("pod-0"),
  },
  {
    name: "older-target-cannot-open",
    about: "a target restarts as a version without drained sources: it never opens until it is upgraded",
    story: given({ settings: { openWithinMs: 20_000 } })
      .when("ready", downgrade("pod-100", "SourceDrained"))
      .thenHeal(6_000)
      .expect("retaining")
      .saysThatItStandsStill("pod-100"),
  },
  {
    name: "older-target-gives-back",
    about:
      "a target is a version that cannot say that it opens: its share goes back in time, nobody is stranded",
    story: given({ targets: 1, settings: { openWithinMs: 2_000 } })
      .when("ready", downgrade("pod-100", "Opened"))
      .thenHeal(8_000)
      .expect("retaining")
      .decides("AuthorityTransferred", "TransferRevoked"),
  },
  {
    name: "older-coordinator-keeps-out",
    about: "one coordinator is a version without approvals: it leaves the migration to the other one",
    story: given({ approval: "manual" })
      .when("following", downgrade("c1", "CutoverApproved"))
      .thenHeal(8_000)
      .expect("retaining")
      .decidedBy("FenceRaised", /c2/),
  },
  {
    name: "older-everywhere-waits",
    about:
      "no coordinator knows that copies are complete: the migration waits, everybody is served, then it goes on",
    story: given()
      .when("seeding", downgrade("c1", "SeedingCompleted"))
      .when("seeding", downgrade("c2", "SeedingCompleted"))
      .thenHeal(5_000)
      .expect("retaining"),
  },
];
