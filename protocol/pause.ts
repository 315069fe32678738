/** A pause of a loop that ends when its time is over or when somebody wakes it, whichever is first. */
import type { Clock } from "./ports/clock.ts";

/** For one loop: whoever has news for it calls `wake`, at any time. */
export class Pause {
  readonly #clock: Clock;
  #woken = false;
  #end: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  wake(): void {
    this.#woken = true;
    this.#end();
  }

  /** The loop begins to look at everything: what it was woken for until now it sees. */
  look(): void {
    this.#woken = false;
  }

  /**
   * Resolves after `ms` (null: never by itself), or once it was woken since the last `look` or pause. The promise is
   * the very one that ends it: an async function would put a turn more between being woken and going to work.
   */
  wait(ms: number | null): Promise<void> {
    if (this.#woken) {
      this.#woken = false;
      return Promise.resolve();
    }
    return new Promise<void>((resolve) => {
      const cancel = ms === null ? () => undefined : this.#clock.after(ms, () => this.#end());
      this.#end = () => {
        this.#end = () => undefined;
        this.#woken = false;
        cancel();
        resolve();
      };
    });
  }
}
