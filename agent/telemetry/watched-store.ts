/** A store that is watched from outside: when it reaches which goal. What it does is the inner store's alone. */
import type { CheckStage, Finding, StoreStatus } from "../../protocol/evidence.ts";
import type { MigrationId, StoreName } from "../../protocol/ids.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";

/** Told when a store begins with a duty; what it returns is told how that ended. */
export type OnReach = (duty: Duty, store: StoreName) => (outcome: ReachOutcome) => void;

export type ReachOutcome =
  | { readonly kind: "reached" }
  /** Called away by another duty, or the agent stops. */
  | { readonly kind: "abandoned" }
  | { readonly kind: "failed"; readonly error: unknown };

export class WatchedStore implements Store {
  readonly name: StoreName;
  readonly #inner: Store;
  readonly #onReach: OnReach;

  constructor(inner: Store, onReach: OnReach) {
    this.name = inner.name;
    this.#inner = inner;
    this.#onReach = onReach;
  }

  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    return this.#inner.preflight(duty, stage, signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const ended = this.#onReach(duty, this.name);
    try {
      await this.#inner.reach(duty, signal);
      ended({ kind: signal.aborted ? "abandoned" : "reached" });
    } catch (error) {
      ended(signal.aborted ? { kind: "abandoned" } : { kind: "failed", error });
      throw error;
    }
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
