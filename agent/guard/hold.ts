/**
 * Requests that wait for a fence's outcome, so that a client behind a proxy sees a wait and no error. Bounded in
 * time and in number; released by the change itself, never by polling.
 */
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Access } from "../domain/guard.ts";

/** These pass by themselves within the length of a window; everything else is an answer. */
export function isPassing(access: Access): boolean {
  return access.outcome === "fenced" || access.outcome === "opening" || access.outcome === "unconfirmed";
}

export class Holds {
  readonly #clock: Clock;
  readonly #maxHeld: number;
  readonly #waiting = new Set<() => void>();
  readonly #forget: () => void;
  #closed = false;

  constructor(onChange: (listener: () => void) => () => void, maxHeld: number, clock: Clock) {
    this.#clock = clock;
    this.#maxHeld = maxHeld;
    this.#forget = onChange(() => {
      for (const look of this.#waiting) look();
    });
  }

  get held(): number {
    return this.#waiting.size;
  }

  /**
   * The first answer of `ask` that is more than "not now", or its last answer when `holdMs` are over, `signal`
   * aborts, too many wait already, or the guard closes.
   */
  async outcome(ask: () => Access, holdMs: number, signal: AbortSignal): Promise<Access> {
    const first = ask();
    if (!isPassing(first) || holdMs <= 0 || this.#closed || this.#waiting.size >= this.#maxHeld) return first;
    const settled = new AbortController();
    const look = () => {
      if (this.#closed || !isPassing(ask())) settled.abort();
    };
    this.#waiting.add(look);
    try {
      await this.#clock.sleep(holdMs, AbortSignal.any([settled.signal, signal])).catch(() => undefined);
    } finally {
      this.#waiting.delete(look);
    }
    return ask();
  }

  /** Lets everybody go with the answer of now. */
  close(): void {
    this.#closed = true;
    this.#forget();
    for (const look of this.#waiting) look();
  }
}
