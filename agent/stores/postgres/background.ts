/** One repeated task of a store: serialised, ended by `stop`, and without unhandled rejections. */
import type { Clock } from "../../../protocol/ports/clock.ts";

export class Background {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #turn: (signal: AbortSignal) => Promise<void>;
  #running: { readonly abort: AbortController; readonly ended: Promise<void> } | null = null;

  /** `turn` handles its own errors: what it throws is only a reason to wait for the next turn. */
  constructor(clock: Clock, everyMs: number, turn: (signal: AbortSignal) => Promise<void>) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#turn = turn;
  }

  start(): void {
    if (this.#running) return;
    const abort = new AbortController();
    this.#running = { abort, ended: this.#loop(abort.signal) };
  }

  /** Resolves when no turn runs any more. Nobody on the path of the read-only window needs to wait for it. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    running?.abort.abort(new Error("stopped"));
    await running?.ended;
  }

  async #loop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#turn(signal).catch(() => undefined);
      await this.#clock.sleep(this.#everyMs, signal).catch(() => undefined);
    }
  }
}
