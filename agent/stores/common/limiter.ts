/**
 * At most so many at once, of jobs that many callers bring when they have them; urgent ones go before those that wait. A
 * caller with a list of its own, which is to end at its first failure, has `parallel.ts`.
 */
export class Limiter {
  readonly #limit: number;
  #running = 0;
  readonly #urgent: (() => void)[] = [];
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  async run<T>(work: () => Promise<T>, urgent = false): Promise<T> {
    if (this.#running >= this.#limit)
      await new Promise<void>((resolve) => (urgent ? this.#urgent : this.#waiting).push(resolve));
    else this.#running += 1;
    try {
      return await work();
    } finally {
      // The place goes on to the next one, so the count stays.
      const next = this.#urgent.shift() ?? this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }
}
