/**
 * Moves between Pods that both serve. The failures that other systems published about logical copies are told here as
 * they concern what a model has: rows that are made, notes of them, positions. What concerns values (unchanged columns,
 * updates that meet no row) is SQL, and tested on real servers: `npm run simulate -- --mutants --stores`.
 */
import type { Report } from "../run.ts";
import {
  alterATable,
  bringAForeignRow,
  crash,
  crashPostgres,
  cutPeers,
  loseChanges,
  loseReports,
  loseSlot,
  loseSnapshots,
  operatorAborts,
  pause,
  powerOff,
  rotDisk,
  stallReplay,
  truncate,
} from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

/** Many rows in each transaction, so that a stream is often in the middle of one. */
const LARGE = { residents: 3, rows: 120 };

const transferredOnce = ({ decisions }: Report) =>
  decisions.filter(({ type }) => type === "AuthorityTransferred").length === 1 ? null : "not one transfer";

export const MOVE_STORIES: readonly NamedStory[] = [
  {
    name: "move-under-traffic",
    about:
      "writers go on while rows are copied: each row comes by the snapshot or by the stream, none by both",
    story: given({ move: true, clients: 14, copyMs: 1_500, longShare: 0.3 }).expect("retaining"),
  },
  {
    name: "move-stop-before-position",
    about: "the stream stands still when the fence goes up: no match before this very marker was applied",
    story: given({ move: true, clients: 10 })
      .when("ready", stallReplay("pod-100"))
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "SourceDrained", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "move-noted-rows-outlive-agents",
    about:
      "the stream loses changes and the target's agent dies before it compared them: found, never switched",
    story: given({ move: true, clients: 14, approval: "manual", settings: { settlingMs: 1_500 } })
      .when("following", loseChanges("pod-0"), { forMs: 900 })
      .when("following", crash("pod-100"), { afterMs: 850, forMs: 600 })
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "move-lost-at-the-fence",
    about: "changes are lost in the last moment before the fence: what was noted is compared under it",
    story: given({ move: true, clients: 20, longShare: 0.3, settings: { drainGraceMs: 600 } })
      .when("ready", loseChanges("pod-0"), { forMs: 3_000 })
      .and(({ ends }) =>
        Object.values(ends).at(-1) === "retaining" ? null : "the last plan did not end well",
      ),
  },
  {
    name: "move-silence-is-not-a-match",
    about: "nobody writes, Pods do not reach one another and reports are lost: nothing counts as caught up",
    story: given({ move: true, clients: 0 })
      .when("fencing", cutPeers)
      .when("fencing", loseReports)
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "move-large-transactions",
    about: "the target's server and agent die inside large transactions: all of one is there, or nothing",
    story: given({ move: LARGE, clients: 16, approval: "manual" })
      .when("following", crashPostgres("pod-100"), { afterMs: 150, forMs: 200 })
      .when("ready", crash("pod-100"), { afterMs: 30, forMs: 150 })
      .expect("retaining"),
  },
  {
    name: "move-copy-of-a-large-past",
    about:
      "the target's agent dies while it removes and copies many rows: what is done is remembered with them",
    story: given({ move: LARGE, clients: 16, copyMs: 2_000, settings: { settlingMs: 4_000 } })
      .when("following", operatorAborts, { afterMs: 3_000 })
      .when("aborted", crash("pod-100"), { afterMs: 3, forMs: 400 })
      .when("seeding", crash("pod-100"), { nth: 2, afterMs: 900, forMs: 300 })
      .expect("aborted"),
  },
  {
    name: "move-snapshot-lost",
    about:
      "the connection that holds the snapshot is cut in the middle of the copy: begun again, never mixed",
    story: given({ move: true, clients: 12, copyMs: 2_000 })
      .when("planned", stallReplay("pod-100"), { forMs: 100 })
      .when("seeding", loseSnapshots("pod-0"), { afterMs: 900 })
      .expect("retaining"),
  },
  {
    name: "move-holder-dies",
    about: "the target's agent, which holds the snapshot, dies in the middle of the copy: another snapshot",
    story: given({ move: true, clients: 12, copyMs: 2_000 })
      .when("seeding", crash("pod-100"), { afterMs: 900 })
      .thenHeal(500)
      .expect("retaining"),
  },
  {
    name: "move-source-restarts",
    about:
      "the source loses power while it is copied, and again while it is followed: its slot is still there",
    story: given({ move: true, clients: 12, copyMs: 1_500, approval: "manual" })
      .when("seeding", powerOff("pod-0"), { afterMs: 700, forMs: 800 })
      .when("ready", powerOff("pod-0"), { forMs: 800 })
      .expect("retaining"),
  },
  {
    name: "move-slot-lost",
    about: "WAL that the stream needs is gone: it says so, is never fenced, and is aborted and planned again",
    story: given({ move: true, settings: { settlingMs: 1_500 } })
      .when("following", loseSlot("pod-100"), { afterMs: 100 })
      .expect("aborted")
      .neverDecides("FenceRaised"),
  },
  {
    name: "move-membership-changed",
    about:
      "a project comes to the organization while it moves: not guessed at, aborted and planned again with it",
    story: given({ move: true, settings: { settlingMs: 1_500 } })
      .when("following", bringAForeignRow("pod-0"), { afterMs: 100 })
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "move-truncate",
    about: "an owned table is truncated: whose rows were in it is not in the stream, so the move stops",
    story: given({ move: true, settings: { settlingMs: 1_500 } })
      .when("following", truncate("pod-0"), { afterMs: 100 })
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "move-schema-changed",
    about:
      "a table is altered just when the fence goes up: no evidence, the source serves again, and it stops",
    story: given({ move: true, approval: "manual" })
      .when("ready", alterATable("pod-0"), { afterMs: 20 })
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "move-rotten-copy",
    about:
      "what the base copy wrote is short of a row: the first comparison finds it, before anything is ready",
    story: given({
      move: { residents: 3, rows: 6 },
      clients: 20,
      copyMs: 2_500,
      settings: { settlingMs: 4_000 },
    })
      .when("following", operatorAborts, { afterMs: 2_500 })
      .when("seeding", rotDisk("pod-100"), { nth: 2, forMs: 4_000 })
      .and(({ decisions }) => {
        const second = decisions
          .filter(({ migrationId }) => migrationId === "move-2")
          .map(({ type }) => type);
        return second.includes("ReplicasCaughtUp") ? "a copy without all rows was called ready" : null;
      }),
  },
  {
    name: "move-abort-leaves-residents",
    about: "aborted under the fence while the target's agent dies: the organization's rows go, nobody else's",
    story: given({ move: { residents: 4, rows: 6 }, organizations: 8, clients: 16 })
      .when("ready", stallReplay("pod-100"), { forMs: 2_000 })
      .when("fencing", operatorAborts, { afterMs: 200 })
      .when("aborted", crash("pod-100"), { afterMs: 2, forMs: 800 })
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
  {
    name: "move-everybody-restarts",
    about: "every process dies at the instant of the transfer: each derives from the log what it has to do",
    story: ["c1", "c2", "pod-0", "pod-100", "pod-101"]
      .reduce(
        (story, process) => story.when("activating", crash(process)),
        given({ move: true, clients: 10 }),
      )
      .thenHeal(1_500)
      .expect("retaining")
      .and(transferredOnce),
  },
  {
    name: "move-target-loses-power",
    about:
      "the target's machine dies between transfer and opening: given back; its residents wait for the power",
    story: given({ move: true, clients: 10, settings: { openWithinMs: 2_000 } })
      .when("activating", powerOff("pod-100"))
      .thenHeal(9_000)
      .expect("retaining")
      .decides("AuthorityTransferred", "TransferRevoked"),
  },
  {
    name: "move-source-dies-for-good",
    about: "the source's machine dies at the transfer: the target needs nothing of it to open",
    story: given({ move: true, clients: 10, settings: { openWithinMs: 12_000 } })
      .when("activating", powerOff("pod-0"), { forMs: 9_000 })
      .expect("retaining")
      .decides("AuthorityTransferred", "Opened")
      .neverDecides("TransferRevoked"),
  },
  {
    name: "move-late-copy",
    about:
      "the target's agent stands still in the middle of applying, and is cut off: it opens when it is back",
    story: given({ move: LARGE, clients: 16, settings: { openWithinMs: 12_000 } })
      .when("matching", pause("pod-100"), { forMs: 700 })
      .expect("retaining"),
  },
];
