/** Ports that remember what passed through them, so that metrics need nothing of the loops that stand on them. */
import type { ClusterState } from "../cluster.ts";
import type { Report } from "../messages.ts";
import type { Bus } from "../ports/bus.ts";
import type { Checkpoints } from "../ports/checkpoints.ts";
import type { Clock } from "../ports/clock.ts";

export class WatchedCheckpoints implements Checkpoints {
  readonly #inner: Checkpoints;
  readonly #clock: Clock;
  #sequence = 0;
  #since: number;

  constructor(inner: Checkpoints, clock: Clock) {
    this.#inner = inner;
    this.#clock = clock;
    this.#since = clock.monotonic();
  }

  async load(): Promise<ClusterState | null> {
    const state = await this.#inner.load();
    this.#sequence = state?.sequence ?? 0;
    return state;
  }

  async save(state: ClusterState): Promise<void> {
    await this.#inner.save(state);
    this.#sequence = state.sequence;
    this.#since = this.#clock.monotonic();
  }

  /** Up to which sequence the checkpoint on disk goes; 0 while there is none. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Since it was written or, before that, since this process began. */
  get ageSeconds(): number {
    return (this.#clock.monotonic() - this.#since) / 1_000;
  }
}

export class WatchedBus implements Bus {
  readonly #inner: Bus;
  /** What this process said last: at least once a second. */
  latest: Report | null = null;

  constructor(inner: Bus) {
    this.#inner = inner;
  }

  publishReport(report: Report): void {
    this.latest = report;
    this.#inner.publishReport(report);
  }

  onReport(onReport: (report: Report) => void, onBad: (error: Error) => void): () => void {
    return this.#inner.onReport(onReport, onBad);
  }

  connected(): boolean {
    return this.#inner.connected();
  }
}
