/**
 * Puts an operator's hooks and checks beside one store, so that the loops need know nothing of them: its checks include
 * theirs, its fence is reached when theirs are done, and its status shows those that fail.
 */
import type { CheckStage, Finding, StoreStatus } from "../../protocol/evidence.ts";
import type { MigrationId, StoreName } from "../../protocol/ids.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";
import type { LifecycleHooks } from "./lifecycle-hooks.ts";

export class HookedStore implements Store {
  readonly name: StoreName;
  readonly #inner: Store;
  readonly #hooks: LifecycleHooks;
  /** Of a fence whose hooks failed while the store was still at it. */
  readonly #failures = new Map<MigrationId, { readonly epoch: Duty["epoch"]; readonly message: string }>();
  readonly #listeners = new Set<() => void>();

  constructor(inner: Store, hooks: LifecycleHooks) {
    this.name = inner.name;
    this.#inner = inner;
    this.#hooks = hooks;
  }

  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    return this.#hooks.preflight(duty, stage, this.#inner.preflight(duty, stage, signal), signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#failures.delete(duty.migrationId);
    if (duty.goal !== "fence" && duty.goal !== "match") return await this.#inner.reach(duty, signal);
    const called = this.#hooks.fenced(duty, signal).catch((error: unknown) => {
      if (!signal.aborted) {
        // Said at once: the fence is of no use any more, however long the drain takes.
        this.#failures.set(duty.migrationId, { epoch: duty.epoch, message: (error as Error).message });
        for (const listener of this.#listeners) listener();
      }
      throw error;
    });
    // The store ends before its worker may call it again.
    const [reached, hooked] = await Promise.allSettled([this.#inner.reach(duty, signal), called]);
    if (reached.status === "rejected") throw reached.reason;
    if (hooked.status === "rejected") throw hooked.reason;
  }

  status(migrationId: MigrationId): StoreStatus | null {
    const status = this.#inner.status(migrationId);
    if (status === null) return null;
    const failure = this.#failures.get(migrationId);
    const problems = [
      ...(failure === undefined ? [] : [{ code: "HOOK_FAILED", message: failure.message.slice(0, 2_000) }]),
      ...this.#hooks.problems(migrationId),
      ...status.problems,
    ];
    return { ...status, problems: problems.slice(0, 50) };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    const ends = [this.#inner.onChange(listener), this.#hooks.onChange(listener)];
    return () => {
      this.#listeners.delete(listener);
      for (const end of ends) end();
    };
  }

  async close(): Promise<void> {
    await this.#hooks.stop();
    await this.#inner.close();
  }
}
