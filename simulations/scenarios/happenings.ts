/** The words for what happens in stories. Processes are named as the cluster names them: `c1`, `pod-0`, `pod-100`. */
import type { EventType } from "../../protocol/events.ts";
import type { FaultKind } from "../faults/fault.ts";
import type { Happening } from "./story.ts";

const to =
  (kind: FaultKind) =>
  (target: string): Happening => ({ kind, target, amount: 0 });
const toAll = (kind: FaultKind, amount = 0): Happening => ({ kind, target: "*", amount });

/** The process ends with its memory, and is started again when it heals. */
export const crash = to("crash");
/** The whole machine: agent, servers, writers. */
export const powerOff = to("machine-crash");
export const crashPostgres = to("postgres-crash");
/** It is never over, also when all other faults are. */
export const forGood = (happening: Happening): Happening =>
  "command" in happening ? happening : { ...happening, forGood: true };
/** It stands still and does not know it. */
export const pause = to("pause");
export const isolate = to("isolate");
export const cutOffFromLog = to("log-cut");
/** It hears nothing from the log, what it sends arrives. */
export const deafen = to("deaf");
export const silence = to("mute");
export const fillDisk = to("disk-full");
export const failStores = to("stores-fail");
export const stallReplay = to("replay-stall");
export const corruptCopy = to("corrupt-copy");
export const loseSlot = to("slot-loss");
export const rotDisk = to("rotten-disk");
export const makeUnreadable = to("unreadable-source");
export const cutPeers = toAll("peers-cut");
export const stallLog = toAll("log-stall");
export const answerFromThePast = toAll("log-stale");
export const loseAnswers = toAll("log-lost-answers", 0.8);
/** The log answers it, but nothing new is delivered. */
export const stopDelivery = to("delivery-stall");
/** No report reaches it. */
export const stopReports = to("reports-stall");
export const deliverAgain = toAll("log-redelivery", 0.5);
export const loseReports = toAll("bus-loss", 1);
export const shuffleReports = toAll("bus-shuffle", 900);
export const hideAssignments = toAll("blobs-unavailable");
/** Whoever makes the decision can say nothing after it. */
export const cutOffTheDecider = toAll("cut-after-deciding");
export const jumpClock = (target: string, ms: number): Happening => ({
  kind: "clock-jump",
  target,
  amount: ms,
});
export const slowDown = (target: string, ms: number): Happening => ({ kind: "slow", target, amount: ms });
export const delayFileWrites = (target: string, ms: number): Happening => ({
  kind: "late-writes",
  target,
  amount: ms,
});
/** It is restarted as a version that does not know the event, and upgraded when it heals. */
export const downgrade = (target: string, without: EventType): Happening => ({
  kind: "older-version",
  target,
  amount: 0,
  event: without,
});
export const operatorAborts: Happening = { command: "abort", target: 0 };
/** And resumes it after a while. */
export const operatorPauses: Happening = { command: "pause", target: 0 };
/** The target by its place. */
export const operatorRevokes = (target: number): Happening => ({ command: "revoke", target });
export const operatorFinalizes: Happening = { command: "finalize", target: 0 };
/** What flows back from the target, by its place. */
export const operatorGivesUpTheReverseReplication = (target: number): Happening => ({
  command: "giveUp",
  target,
});
/** All that a target took over, by its place. */
export const operatorRollsBack = (target: number): Happening => ({ command: "rollback", target });
/** Of the source of a move. */
export const loseSnapshots = to("snapshot-loss");
export const bringAForeignRow = to("membership-change");
export const truncate = to("truncate");
export const alterATable = to("schema-change");
export const loseChanges = to("lossy-stream");
