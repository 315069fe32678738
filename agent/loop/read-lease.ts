/**
 * Rule 12: while fenced, the source serves reads only under a lease that it renews against the log. A lease begins
 * when the log was asked, not when it answered, and only once everything up to the answer is folded.
 */
import type { LogFollower } from "../../protocol/log-follower.ts";
import { mark } from "../../protocol/marks.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { EventLog } from "../../protocol/ports/event-log.ts";

export class ReadLease {
  readonly #log: EventLog;
  readonly #clock: Clock;
  readonly #follower: LogFollower;
  #askedAt = Number.NEGATIVE_INFINITY;
  #leaseMs = 0;
  #running: AbortController | null = null;

  constructor(log: EventLog, clock: Clock, follower: LogFollower) {
    this.#log = log;
    this.#clock = clock;
    this.#follower = follower;
  }

  valid(): boolean {
    return this.#clock.monotonic() - this.#askedAt < this.#leaseMs;
  }

  /** Keeps a lease of `leaseMs` while it is not null. Renewed four times in its length. */
  keep(leaseMs: number | null): void {
    if (leaseMs === null) {
      this.#running?.abort();
      this.#running = null;
      return;
    }
    this.#leaseMs = leaseMs;
    if (this.#running) return;
    this.#running = new AbortController();
    void this.#renew(this.#running.signal);
  }

  async #renew(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const askedAt = this.#clock.monotonic();
      try {
        const last = await this.#log.lastSequence();
        if (this.#follower.state.sequence >= last) this.#askedAt = askedAt;
      } catch {
        mark("lease-not-renewed");
        // Not renewed: when it runs out, fenced reads are refused. That is what it is for.
      }
      await this.#clock.sleep(this.#leaseMs / 4, signal).catch(() => undefined);
    }
  }
}
