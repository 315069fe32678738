/** What checkers are told, at the very instant that it happens. All of it is the world's own knowledge. */
import type { ClusterState } from "../protocol/cluster.ts";
import type { ReadRecord } from "../protocol/events.ts";
import type { StoreName } from "../protocol/ids.ts";

/** How many writes of an organization a reader found, per store. */
export type Seen = Readonly<Record<StoreName, number>>;

export interface FinishedRead {
  readonly organization: string;
  readonly podId: string;
  /** What had been acknowledged or read by anybody when this read began. */
  readonly floor: Seen;
  readonly seen: Seen;
}

export interface Observer {
  appended?(record: ReadRecord, sequence: number): void;
  /** A store made a write durable and visible. */
  committed?(podId: string, store: StoreName, organization: string, write: string): void;
  /** The client heard of it. */
  acknowledged?(podId: string, store: StoreName, organization: string, write: string): void;
  read?(read: FinishedRead): void;
  /** The guard or a store refused an access for a reason of the protocol's (not because something was down). */
  refused?(podId: string, organization: string, outcome: string): void;
  /** A process put a fold on its disk. */
  saved?(host: string, state: ClusterState): void;
  /** Everything, or what these organizations had. */
  removed?(podId: string, store: StoreName, organizations?: readonly string[]): void;
  afterEvent?(): void;
}

export interface Checker extends Observer {
  /** `I1` … `I10`. */
  readonly invariant: string;
  /** When faults are over: what this checker still waits for, in words; empty when content. */
  waitsFor?(): string[];
  /** When everything has come to rest. */
  atRest?(): void;
}
