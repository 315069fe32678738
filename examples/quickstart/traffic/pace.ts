/** An open-loop pacer: work begins at a rate, whether or not earlier work has ended, within a bound. */
import { setTimeout as sleep } from "node:timers/promises";

export interface PaceOptions {
  readonly perSecond: number;
  /** Work that has begun and not ended; above it a turn is left out instead of piling up. */
  readonly maxInFlight: number;
  readonly signal: AbortSignal;
}

const TICK_MS = 10;

/** Begins `work` at the rate until the signal aborts; resolves when all of it has ended. */
export async function pace(options: PaceOptions, work: () => Promise<void>): Promise<void> {
  const running = new Set<Promise<void>>();
  let due = 0;
  let last = performance.now();
  while (!options.signal.aborted) {
    const now = performance.now();
    // After a long stall the missed turns are not made up for: a burst would be another load than asked for.
    due = Math.min(due + ((now - last) * options.perSecond) / 1000, Math.max(1, options.perSecond));
    last = now;
    for (; due >= 1; due -= 1) {
      if (running.size >= options.maxInFlight) continue;
      const promise = work().finally(() => running.delete(promise));
      running.add(promise);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(running);
}
