/** A store that is watched from outside: how long it takes to reach each goal. What it does is the inner store's alone. */
import type { CheckStage, Finding, StoreStatus } from "../../protocol/evidence.ts";
import type { MigrationId, StoreName } from "../../protocol/ids.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";

/** Times in milliseconds since 1970, and how long by a clock that does not jump. */
export type OnReached = (duty: Duty, store: StoreName, startedAt: number, tookMs: number) => void;

export class TimedStore implements Store {
  readonly name: StoreName;
  readonly #inner: Store;
  readonly #clock: Clock;
  readonly #onReached: OnReached;

  constructor(inner: Store, clock: Clock, onReached: OnReached) {
    this.name = inner.name;
    this.#inner = inner;
    this.#clock = clock;
    this.#onReached = onReached;
  }

  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    return this.#inner.preflight(duty, stage, signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const startedAt = this.#clock.now();
    const from = this.#clock.monotonic();
    await this.#inner.reach(duty, signal);
    if (!signal.aborted) this.#onReached(duty, this.name, startedAt, this.#clock.monotonic() - from);
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#inner.status(migrationId);
  }

  onChange(listener: () => void): () => void {
    return this.#inner.onChange(listener);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
