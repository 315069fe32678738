/**
 * Copies that a source did not name when it told all that it has. No deletion was told, only nothing: of a few that counts
 * as one, of many it does not (protocol, rule 15) until an operator says so, or the source names them again.
 */
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { KnownRoot } from "./known-root.ts";
import { type LossBound, Losses } from "./losses.ts";

export class Unnamed {
  readonly #bound: LossBound;
  readonly #clock: Clock;
  readonly #root: KnownRoot;
  readonly #held = new Set<string>();
  /** Milliseconds since 1970: a word of before was not about these. */
  #heldSince = 0;

  /** `root`: this Pod's own, of which the operator speaks. */
  constructor(options: { readonly lossBound: LossBound; readonly clock: Clock; readonly root: KnownRoot }) {
    this.#bound = options.lossBound;
    this.#clock = options.clock;
    this.#root = options.root;
  }

  /** Held back. */
  get names(): ReadonlySet<string> {
    return this.#held;
  }

  /** The source has told everything, and of so many `known` copies not these. Returns those that are to be deleted. */
  judge(unnamed: readonly string[], known: number): readonly string[] {
    this.#held.clear();
    if (new Losses(this.#bound, this.#clock).isPlausible(unnamed.length, known)) return unnamed;
    for (const name of unnamed) this.#held.add(name);
    this.#heldSince = this.#clock.now();
    return [];
  }

  named(name: string): void {
    this.#held.delete(name);
  }

  /** Those that an operator let go since. */
  released(): readonly string[] {
    if (this.#held.size === 0 || this.#root.lossesAcceptedAt <= this.#heldSince) return [];
    const names = [...this.#held];
    this.#held.clear();
    return names;
  }
}
