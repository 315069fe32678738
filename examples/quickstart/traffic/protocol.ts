/** What the demo tells its traffic process, and what that says back. */
import type { TrafficRepository } from "./git.ts";
import type { StaleRead } from "./readers.ts";

export interface TrafficConfig {
  readonly routerUrl: string;
  readonly organizations: readonly string[];
  readonly repositories: readonly TrafficRepository[];
  /** Writes per second of all clients together (git pushes come on top, one for every hundred and at most 1.5 per second). */
  readonly rate: number;
  readonly seed: number;
  readonly longTransactions: boolean;
  /** Of the writes; the others are SQL. */
  readonly objectShare: number;
  readonly readsPerWrite: number;
  readonly ledgerFile: string;
  /** A folder of its own. */
  readonly folder: string;
}

/** One line of JSON on standard output, every half second and once at the end (`done`). */
export interface TrafficStats {
  readonly done: boolean;
  readonly acknowledged: number;
  readonly ambiguous: number;
  readonly requests: number;
  readonly failed: number;
  readonly unanswered: number;
  readonly unexpected: Readonly<Record<string, number>>;
  readonly pushes: number;
  readonly refusedPushes: number;
  readonly reads: number;
  readonly stale: number;
  readonly staleReads: readonly StaleRead[];
}
