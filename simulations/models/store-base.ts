/** What the model stores share: statuses, listeners, background loops, and calls to servers that may die meanwhile. */
import { type CleaveError, toCleaveError } from "../../protocol/errors.ts";
import type { CheckStage, Finding, StoreStatus } from "../../protocol/evidence.ts";
import type { MigrationId, StoreName } from "../../protocol/ids.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";
import type { Run } from "./host.ts";

export const NO_STATUS: Omit<StoreStatus, "goal"> = {
  reached: false,
  progress: null,
  lag: null,
  verified: false,
  evidence: null,
  problems: [],
  stragglers: [],
};

export abstract class ModelStore implements Store {
  abstract readonly name: StoreName;
  protected readonly run: Run;
  readonly #statuses = new Map<MigrationId, StoreStatus>();
  readonly #listeners = new Set<() => void>();
  readonly #background = new Map<MigrationId, AbortController>();
  /** Everything asked of the store fails until then. */
  failsUntil: () => number = () => 0;

  constructor(run: Run) {
    this.run = run;
  }

  async preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    await this.run.clock.sleep(5, signal);
    return this.check(duty, stage);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.set(duty, { goal: duty.goal, reached: false, problems: [] });
    try {
      if (this.failsUntil() > this.run.world.now) throw new Error("an injected failure of the store");
      await this.towards(duty, signal);
      signal.throwIfAborted();
    } catch (error) {
      signal.throwIfAborted();
      const known = toCleaveError(error);
      this.problem(duty, known);
      throw known;
    }
  }

  protected abstract check(duty: Duty, stage: CheckStage): Finding[];
  protected abstract towards(duty: Duty, signal: AbortSignal): Promise<void>;

  protected set(duty: Duty, change: Partial<StoreStatus>): void {
    const before = this.#statuses.get(duty.migrationId);
    const after: StoreStatus = { goal: duty.goal, ...NO_STATUS, ...before, ...change };
    this.#statuses.set(duty.migrationId, after);
    if (before && sameGist(before, after)) return;
    for (const listener of this.#listeners) listener();
  }

  protected problem(duty: Duty, error: CleaveError): void {
    this.set(duty, { problems: [{ code: error.code, message: error.message.slice(0, 2_000) }] });
  }

  /** One loop for each migration; another one replaces it. `look` runs at once and then every `everyMs`. */
  protected watch(duty: Duty, everyMs: number, look: (signal: AbortSignal) => Promise<void> | void): void {
    this.unwatch(duty);
    const { signal } = this.#keep(duty);
    void (async () => {
      while (!signal.aborted) {
        try {
          await look(signal);
        } catch (error) {
          if (signal.aborted) return;
          this.set(duty, { verified: false });
          this.problem(duty, toCleaveError(error));
        }
        await this.run.clock.sleep(everyMs, signal).catch(() => undefined);
      }
    })();
  }

  #keep(duty: Duty): AbortController {
    const controller = new AbortController();
    this.#background.set(duty.migrationId, controller);
    return controller;
  }

  protected unwatch(duty: Duty): void {
    this.#background.get(duty.migrationId)?.abort(new Error("another goal"));
    this.#background.delete(duty.migrationId);
  }

  /** A call to a server: answered by `done`, or never when the server died; then `timeoutMs` is the answer. */
  protected call<T>(
    what: string,
    timeoutMs: number,
    signal: AbortSignal,
    start: (done: (value: T) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        giveUp();
        signal.removeEventListener("abort", onAbort);
      };
      const giveUp = this.run.after(timeoutMs, `${what} gives up`, () => {
        settle();
        reject(new Error(`${what}: no answer`));
      });
      const onAbort = () => {
        settle();
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      start((value) => {
        // The answer reaches the agent as its own event, if it still lives.
        this.run.after(0.1, `${what} done`, () => {
          settle();
          resolve(value);
        });
      });
    });
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#statuses.get(migrationId) ?? null;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    for (const controller of this.#background.values()) controller.abort(new Error("closing"));
    this.#background.clear();
  }
}

function sameGist(a: StoreStatus, b: StoreStatus): boolean {
  return (
    a.goal === b.goal &&
    a.reached === b.reached &&
    a.verified === b.verified &&
    a.lag?.amount === b.lag?.amount &&
    a.evidence?.epoch === b.evidence?.epoch &&
    a.evidence?.digest === b.evidence?.digest &&
    a.problems.length === b.problems.length &&
    a.problems[0]?.message === b.problems[0]?.message &&
    a.stragglers.length === b.stragglers.length &&
    a.progress?.done === b.progress?.done
  );
}
