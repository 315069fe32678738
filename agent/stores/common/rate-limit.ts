/**
 * A budget of bytes per second that several transfers share, by the clock port. What was not used is lost. The copy of
 * rows has a limit of its own (`postgres/replication/rate.ts`) that lets short pauses be caught up: it waits for its
 * target's transactions between portions, and would stay below its rate.
 */
import type { Clock } from "../../../protocol/ports/clock.ts";

export class RateLimit {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number | null;
  /** When, on the monotonic clock, everything taken so far is paid for. */
  #paidAt = 0;

  /** `null`: no limit. */
  constructor(clock: Clock, bytesPerSecond: number | null) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when `bytes` may be taken. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === null) return;
    const now = this.#clock.monotonic();
    this.#paidAt = Math.max(this.#paidAt, now) + (bytes / this.#bytesPerSecond) * 1_000;
    const waitMs = this.#paidAt - now;
    // Short debts are left standing: sleeping for less than some milliseconds is not exact.
    if (waitMs > 5) await this.#clock.sleep(waitMs, signal);
  }
}
