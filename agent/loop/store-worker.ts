/** Drives one store towards one migration's newest duty: one `reach` at a time, preempted when the duty changes. */
import { type CleaveError, toCleaveError } from "../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../protocol/evidence.ts";
import { mark } from "../../protocol/marks.ts";
import { Pause } from "../../protocol/pause.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";
import { STORE_STATES } from "../../protocol/wording.ts";
import { dutyKey } from "../domain/react.ts";

/** Goals on the path of the read-only window: a retry must not lengthen it by more than it has to. */
const URGENT: ReadonlySet<Goal> = new Set(["fence", "match", "activate", "open"]);
const URGENT_RETRY_MS = 20;
const RETRY_MS = { first: 250, last: 5_000 } as const;

export class StoreWorker {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onChange: () => void;
  #duty: Duty;
  #running: AbortController = new AbortController();
  #stopped = false;
  #reachedKey: string | null = null;
  #problem: CleaveError | null = null;
  /** While there is nothing to do. */
  readonly #pause: Pause;
  readonly #loop: Promise<void>;

  constructor(store: Store, duty: Duty, clock: Clock, logger: Logger, onChange: () => void) {
    this.#store = store;
    this.#duty = duty;
    this.#clock = clock;
    this.#logger = logger.child({ store: store.name, migration: duty.migrationId });
    this.#onChange = onChange;
    this.#pause = new Pause(clock);
    this.#loop = this.#run();
  }

  assign(duty: Duty): void {
    if (dutyKey(duty) === dutyKey(this.#duty)) return;
    this.#duty = duty;
    if (this.#reachedKey === null) mark("duty-preempted");
    this.#running.abort(new Error("the duty changed"));
    this.#pause.wake();
  }

  /** The store has reached this very duty, not an earlier one. */
  hasReached(duty: Duty): boolean {
    return this.#reachedKey === dutyKey(duty);
  }

  /** The store's own word, with what keeps it from its goal. */
  status(): StoreStatus {
    const known = this.#store.status(this.#duty.migrationId);
    const problem = this.#problem
      ? [{ code: this.#problem.code, message: this.#problem.message.slice(0, 2_000) }]
      : [];
    const base: StoreStatus = known ?? {
      goal: this.#duty.goal,
      reached: false,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      problems: [],
      stragglers: [],
    };
    // A store that was told of a newer goal but has not begun with it has not reached it.
    const reached = base.reached && base.goal === this.#duty.goal && this.#reachedKey === dutyKey(this.#duty);
    const others = base.problems.filter((other) => other.message !== this.#problem?.message);
    return { ...base, goal: this.#duty.goal, reached, problems: [...problem, ...others].slice(0, 50) };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#running.abort(new Error("the agent is stopping"));
    this.#pause.wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    let attempts = 0;
    while (!this.#stopped) {
      this.#pause.look();
      const duty = this.#duty;
      const key = dutyKey(duty);
      const state = STORE_STATES[duty.goal];
      if (this.#reachedKey === key) {
        await this.#pause.wait(null);
        continue;
      }
      this.#running = new AbortController();
      const { signal } = this.#running;
      try {
        await this.#store.reach(duty, signal);
        if (signal.aborted) continue;
        this.#reachedKey = key;
        this.#problem = null;
        attempts = 0;
        this.#logger.info({ state, epoch: duty.epoch }, "state reached");
        this.#onChange();
      } catch (error) {
        this.#reachedKey = null;
        if (signal.aborted) {
          attempts = 0;
          continue;
        }
        this.#problem = toCleaveError(error);
        this.#logger.warn({ state, code: this.#problem.code, err: error }, this.#problem.message);
        this.#onChange();
        const retryMs = URGENT.has(duty.goal)
          ? URGENT_RETRY_MS
          : Math.min(RETRY_MS.first * 2 ** attempts, RETRY_MS.last);
        mark(URGENT.has(duty.goal) ? "store-tried-again-at-once" : "store-tried-again");
        attempts += 1;
        await this.#clock.sleep(retryMs, signal).catch(() => undefined);
      }
    }
  }
}
