/**
 * A limit on bytes per second, shared by whoever copies rows at the same time. Not `common/rate-limit.ts`, which never lets
 * a pause be caught up: between portions a copy waits for its target's transactions.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Somebody who paused for longer does not catch up at once on what he did not use. */
const BURST_SECONDS = 0.25;

export class RateLimit {
  readonly #bytesPerSecond: number | null;
  /** When everything that was taken so far is paid for. */
  #paidAt = 0;

  /** @param bytesPerSecond null for none */
  constructor(bytesPerSecond: number | null) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when so many bytes more are within the limit. @throws the signal's reason */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === null) return;
    const now = performance.now();
    this.#paidAt =
      Math.max(this.#paidAt, now - BURST_SECONDS * 1_000) + (1_000 * bytes) / this.#bytesPerSecond;
    const waitMs = this.#paidAt - now;
    if (waitMs > 1) await sleep(waitMs, undefined, { signal });
  }
}
