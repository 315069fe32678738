/** Who reaches whom, and how long it takes. Cuts have a direction: an answer can be lost though the request arrived. */
import type { Chance } from "../world/random.ts";
import type { World } from "../world/world.ts";

/** The node of the log's server. */
export const LOG = "log";

export interface Cut {
  /** A node, or `*`. */
  readonly from: string;
  readonly to: string;
}

export class Network {
  readonly #world: World;
  readonly #chance: Chance;
  readonly #cuts = new Set<Cut>();
  readonly #sent = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
    this.#chance = world.chance.fork("network");
  }

  /** For coverage: told the kind of every message that is on its way. */
  onMessage: ((kind: string) => void) | null = null;
  note(kind: string): void {
    this.onMessage?.(kind);
  }

  cut(cut: Cut): () => void {
    this.#cuts.add(cut);
    return () => this.#cuts.delete(cut);
  }

  heal(): void {
    this.#cuts.clear();
  }

  reaches(from: string, to: string): boolean {
    for (const cut of this.#cuts)
      if ((cut.from === "*" || cut.from === from) && (cut.to === "*" || cut.to === to)) return false;
    return true;
  }

  /** Both ways. */
  connected(a: string, b: string): boolean {
    return this.#cuts.size === 0 || (this.reaches(a, b) && this.reaches(b, a));
  }

  /** Milliseconds for the next message on this way; mostly short. */
  delayMs(from: string, to: string): number {
    const way = `${from}>${to}`;
    const count = (this.#sent.get(way) ?? 0) + 1;
    this.#sent.set(way, count);
    const x = this.#chance.of(`${way} ${count}`);
    return 0.2 + (x > 0.98 ? 30 * (x - 0.98) * 50 : 2 * x);
  }

  /** One message: arrives after a delay, unless the way is cut when it is sent or when it would arrive. */
  send(from: string, to: string, label: string, arrive: () => void): void {
    this.onMessage?.(label);
    if (!this.reaches(from, to)) return;
    this.#world.after(this.delayMs(from, to), `${from}>${to} ${label}`, () => {
      if (this.reaches(from, to)) arrive();
    });
  }
}
