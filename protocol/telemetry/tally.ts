/**
 * What was copied or applied, counted where it happens, as `marks.ts` does for branches: stores know nothing of metrics.
 * Without a collector a tally does nothing.
 */
import type { StoreName } from "../ids.ts";

export type TallyUnit = "bytes" | "rows" | "changes" | "repositories" | "objects";

export type OnTally = (store: StoreName, unit: TallyUnit, amount: number) => void;

let collector: OnTally | null = null;

/** `amount` more of it has arrived on this Pod from another one. */
export function tally(store: StoreName, unit: TallyUnit, amount: number): void {
  if (collector !== null && amount > 0) collector(store, unit, amount);
}

/** Tells every tally of this process, until the returned function is called. */
export function collectTallies(tell: OnTally): () => void {
  collector = tell;
  return () => {
    collector = null;
  };
}
