/** A fault as data: what, to whom, when, for how long. A list of these and a seed say everything about a run. */
import type { EventType } from "../../protocol/events.ts";

/** Kinds that every seed may have many of. */
export const COMMON_KINDS = [
  /** The process dies; its memory is gone. Starts again when the time is over. */
  "crash",
  /** Power off: agent, servers and writers of a Pod. */
  "machine-crash",
  /** PostgreSQL alone. */
  "postgres-crash",
  "pause",
  "slow",
  /** The calendar jumps by `amount` ms. */
  "clock-jump",
  /** `target` reaches nobody and nobody reaches it. */
  "isolate",
  /** `target` does not reach the log, nor the log `target`; clients and other Pods do. */
  "log-cut",
  /** What `target` sends to the log arrives, the answers do not. */
  "deaf",
  /** What `target` sends to the log does not arrive. */
  "mute",
  /** No replication between Pods. */
  "peers-cut",
  "log-stall",
  "log-stale",
  /** Answers to appends get lost with probability `amount`. */
  "log-lost-answers",
  "bus-loss",
  "bus-doubling",
  /** Reports overtake one another within `amount` ms. */
  "bus-shuffle",
  "blobs-unavailable",
  "disk-full",
  "stores-fail",
  "replay-stall",
  /** One item of a target's copy is not what was copied. */
  "corrupt-copy",
  /** The coordinator that appends the event can say nothing after it. */
  "cut-after-deciding",
] as const;

/** Drawn apart and one at a time, so that they shift no draw of the others. */
export const RARE_KINDS = [
  /** `target` is restarted as a version that does not know `event`, and upgraded when the time is over. */
  "older-version",
  /** Records are delivered again with probability `amount`. */
  "log-redelivery",
  /** The WAL that `target` needs next is gone from the source. */
  "slot-loss",
  /** One repository and one object of the source cannot be read. */
  "unreadable-source",
  /** A quarter of the repositories and objects that are copied to `target` are never what was read. */
  "rotten-disk",
  /** `target` is answered by the log, and delivered nothing new: its consumer is gone. */
  "delivery-stall",
  /** No report reaches `target`, everything else does: its subscription is gone. */
  "reports-stall",
  /** Writes of files on `target` take `amount` ms more, and cannot be ended. */
  "late-writes",
] as const;

/** Of moves, and drawn for them alone: what `target` as their source does. */
export const MOVE_KINDS = [
  /** The connections that hold exported snapshots are cut. */
  "snapshot-loss",
  /** A row that belonged to nobody comes to an organization that is being moved. */
  "membership-change",
  "truncate",
  "schema-change",
  /** The decoder of the change stream leaves out what organizations commit. */
  "lossy-stream",
] as const;

/** Of ways back, and drawn for them alone. */
export const REVERSE_REPLICATION_KINDS = [
  /** The WAL that the source needs next of `target`, which is open, is gone. */
  "back-slot-loss",
] as const;

export const FAULT_KINDS = [
  ...COMMON_KINDS,
  ...RARE_KINDS,
  ...MOVE_KINDS,
  ...REVERSE_REPLICATION_KINDS,
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  /** A host, or `*` where it concerns all. */
  readonly target: string;
  /** At a time, or so long after the n-th event of a type (the first is 1). */
  readonly when:
    | { readonly at: number }
    | { readonly on: EventType; readonly nth: number; readonly afterMs: number };
  readonly forMs: number;
  readonly amount: number;
  /** Of an older version: the event that it does not know. */
  readonly event?: EventType;
  /** It has no end, not even when the others are over; unless somebody is served by its target. */
  readonly forGood?: true;
}

export function describeFault(fault: Fault): string {
  const { kind, target, when, forMs, amount, event, forGood } = fault;
  const at =
    "at" in when
      ? `at ${(when.at / 1000).toFixed(1)} s`
      : `${when.afterMs.toFixed(1)} ms after ${when.on}${when.nth > 1 ? ` no. ${when.nth}` : ""}`;
  const what = event === undefined ? kind : `${kind} without ${event}`;
  return `${what} ${target} ${at} ${forGood ? "for good" : `for ${Math.round(forMs)} ms`}${amount ? ` (${amount.toFixed(2)})` : ""}`;
}
