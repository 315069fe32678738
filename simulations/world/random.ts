/** Chance as a function of the seed. Forks are taken by name, so one consumer's draws never shift another's. */

/** 32 bits of a text; the seed goes in first. Good enough to draw from, and cheap. */
export function hash32(text: string, seed = 0): number {
  let h = (seed ^ 0x9e3779b9) >>> 0;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193) >>> 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d) >>> 0;
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

export class Chance {
  readonly #root: number;
  #state: number;

  constructor(seed: number) {
    this.#root = seed >>> 0;
    this.#state = this.#root;
  }

  /** Depends on this fork's own seed and the name, never on what was drawn before. */
  fork(name: string): Chance {
    return new Chance(hash32(name, this.#root));
  }

  /** A draw that belongs to one thing, by its identity: leaving out other things does not change it. */
  of(identity: string): number {
    return hash32(identity, this.#root) / 0x1_0000_0000;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** Between `low` and `high`, small ones more often: as delays are. */
  skewed(low: number, high: number): number {
    const x = this.next();
    return low + (high - low) * x * x * x;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.next() * items.length)];
    if (item === undefined && items.length === 0) throw new Error("nothing to pick from");
    return item as T;
  }
}
