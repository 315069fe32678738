/** How much may be gone that nobody announced before it stops being plausible. */
import { z } from "zod";
import type { Clock } from "../../../../protocol/ports/clock.ts";

export const LossBound = z.strictObject({
  /** Gone without an announcement is stopped at only when it is more than so many… */
  items: z.number().int().nonnegative().default(10),
  /** …and more than this share of all that was known, from 0 to 1. */
  share: z.number().min(0).max(1).default(0.05),
});
export type LossBound = z.infer<typeof LossBound>;

/** What goes little by little counts together: a deletion of everything takes its time. */
const TOGETHER_MS = 600_000;

export class Losses {
  readonly #bound: LossBound;
  readonly #clock: Clock;
  #believed: { readonly at: number; readonly count: number }[] = [];

  constructor(bound: LossBound, clock: Clock) {
    this.#bound = bound;
    this.#clock = clock;
  }

  /** Whether so many of so many `known` may be gone, besides those that were believed to be lately. */
  isPlausible(gone: number, known: number): boolean {
    const since = this.#clock.monotonic() - TOGETHER_MS;
    this.#believed = this.#believed.filter(({ at }) => at > since);
    const before = this.#believed.reduce((sum, { count }) => sum + count, 0);
    const together = gone + before;
    return together <= this.#bound.items || together <= this.#bound.share * (known + before);
  }

  /** They count as deleted from now on. */
  believe(count: number): void {
    if (count > 0) this.#believed.push({ at: this.#clock.monotonic(), count });
  }

  /** An operator has said that what is gone is meant to be. */
  forget(): void {
    this.#believed = [];
  }
}
