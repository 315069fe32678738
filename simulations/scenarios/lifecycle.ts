/** One story for each state of a migration: what an operator sees when something goes wrong just then. */
import {
  crash,
  crashPostgres,
  cutOffTheDecider,
  fillDisk,
  loseSlot,
  operatorAborts,
  pause,
  powerOff,
  stallReplay,
} from "./happenings.ts";
import { given, type NamedStory } from "./story.ts";

export const LIFECYCLE_STORIES: readonly NamedStory[] = [
  {
    name: "planned",
    about: "both coordinators die when the plan is in: whoever is back first goes on with it",
    story: given().when("planned", crash("c1")).when("planned", crash("c2")).thenHeal().expect("retaining"),
  },
  {
    name: "preflight",
    about: "a target's agent dies before it has checked anything: nobody decides without its word",
    story: given()
      .when("preflight", crash("pod-100"))
      .thenHeal(2_000)
      .expect("retaining")
      .decides("PreflightStarted", "PreflightPassed"),
  },
  {
    name: "refused",
    about: "the source's PostgreSQL is down while plans are checked: refused, nothing touched, planned again",
    story: given({ settings: { settlingMs: 300 } })
      .when("planned", crashPostgres("pod-0"))
      .thenHeal(2_000)
      .expect("refused")
      .neverDecides("SeedingCompleted"),
  },
  {
    name: "checked-and-refused",
    about: "an operator checks a plan while a server is down: the plan stays, is checked again and succeeds",
    story: given({ checksFirst: true })
      .when("planned", crashPostgres("pod-0"))
      .thenHeal(1_500)
      .expect("retaining")
      .decides("PreflightStarted", "PreflightRefused", "PreflightStarted", "PreflightPassed"),
  },
  {
    name: "seeding",
    about: "the source loses power during base copies: they begin again, and the split goes on",
    story: given({ copyMs: 1_500 })
      .when("seeding", powerOff("pod-0"), { afterMs: 400 })
      .thenHeal()
      .expect("retaining"),
  },
  {
    name: "following",
    about: "WAL that a target needs is gone: it says so, is never fenced, and is aborted and planned again",
    story: given({ settings: { settlingMs: 1_500 } })
      .when("following", loseSlot("pod-100"), { afterMs: 100 })
      .expect("aborted")
      .neverDecides("FenceRaised"),
  },
  {
    name: "ready",
    about: "a target is away for long while it is ready: back to following, ready again, then over",
    story: given({ approval: "manual" })
      .when("ready", crash("pod-100"), { forMs: 12_000 })
      .expect("retaining")
      .decides("ReplicasCaughtUp", "ReplicasFellBehind", "ReplicasCaughtUp", "FenceRaised"),
  },
  {
    name: "fencing",
    about: "the source's agent dies while it drains writers: the fence ends at its deadline, then again",
    story: given({ longShare: 0.3 })
      .when("fencing", crash("pod-0"), { afterMs: 4 })
      .thenHeal(4_000)
      .expect("retaining")
      .decides("FenceRaised", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "matching",
    about:
      "a target does not replay the last WAL in time: the source serves again, the next attempt succeeds",
    story: given()
      .when("ready", stallReplay("pod-100"))
      .thenHeal(4_000)
      .expect("retaining")
      .decides("SourceDrained", "FenceLowered", "FenceRaised", "AuthorityTransferred"),
  },
  {
    name: "transferring",
    about:
      "the coordinator that decides the transfer is cut off at that instant: the log has it, others go on",
    story: given().when("activating", cutOffTheDecider).thenHeal(5_000).expect("retaining"),
  },
  {
    name: "activating",
    about:
      "a target's machine dies before it opens: its share goes back to the source, the other target opens",
    story: given({ settings: { openWithinMs: 2_000 } })
      .when("activating", powerOff("pod-100"))
      .thenHeal(9_000)
      .expect("retaining")
      .decides("AuthorityTransferred", "Opened", "TransferRevoked"),
  },
  {
    name: "retaining",
    about: "the source loses power after everything moved: it comes back dormant and serves its neighbours",
    story: given()
      .when("retaining", powerOff("pod-0"))
      .when("retaining", pause("pod-101"))
      .thenHeal()
      .expect("retaining"),
  },
  {
    name: "aborted",
    about:
      "aborted under a fence, with the disk of a target full: cleaned up all the same, then planned again",
    story: given()
      .when("ready", stallReplay("pod-100"))
      .when("fencing", operatorAborts, { afterMs: 300 })
      .when("aborted", fillDisk("pod-100"))
      .thenHeal()
      .expect("aborted")
      .neverDecides("AuthorityTransferred"),
  },
];
