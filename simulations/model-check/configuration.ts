/** What an exploration is of: how large the cluster is, and how often each thing may happen. */
import type { ClusterOptions } from "./cluster.ts";
import type { Allowance } from "./state.ts";

/** Deliberately wrong steps, to see that the exploration finds them. None of them is in production code. */
export const WRONG_STEPS = {
  "append-without-compare": "an append lands although somebody else appended first",
  "open-before-log": "a target opens as soon as it is promoted, before Opened is in the log",
  "position-before-drain": "the source takes its position, and then waits for the writers in flight",
  "reopen-at-deadline": "the source serves again at the deadline, without a word in the log",
  "abort-after-transfer": "a coordinator lets a migration be aborted after the transfer",
  "report-before-durable": "an agent says that it applied what it may forget in a crash",
  "evidence-of-any-epoch": "evidence of an earlier fence is taken for evidence of this one",
  "opened-unseen": "a target appends Opened without looking whether its share was revoked",
  "forget-before-durable": "an agent puts an aborted migration behind it before the abort is on its disk",
  "dormant-before-durable": "the source says that it is dormant before it could not forget it",
} as const;
export type WrongStep = keyof typeof WRONG_STEPS;

export interface Configuration extends ClusterOptions {
  readonly name: string;
  readonly about: string;
  /**
   * `any`: as many as it takes for every combination of reports under way to be in somebody's mind, which includes
   * every number of coordinators, in every state of knowledge, before and after any number of crashes.
   */
  readonly coordinators: number | "any";
  readonly allowed: Allowance;
  /** Reads under leases, and the order in which reads move (I4), are part of it. */
  readonly reads: boolean;
}
