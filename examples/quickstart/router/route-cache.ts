/** What the router has learnt about which Pod serves which organization. Knowledge expires; it is only a hint. */

export class RouteCache {
  readonly #routes = new Map<string, { podId: string; expiresAt: number }>();
  readonly #now: () => number;

  /** @param now milliseconds that never go back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get(organization: string): string | null {
    const found = this.#routes.get(organization);
    if (found === undefined) return null;
    if (found.expiresAt > this.#now()) return found.podId;
    this.#routes.delete(organization);
    return null;
  }

  learn(organization: string, podId: string, lifetimeMs: number): void {
    this.#routes.set(organization, { podId, expiresAt: this.#now() + lifetimeMs });
  }

  forget(organization: string): void {
    this.#routes.delete(organization);
  }
}

/** Milliseconds from a `Cache-Control: max-age=…` header; `otherwise` when it says nothing. */
export function lifetimeOf(cacheControl: string | null, otherwise: number): number {
  if (cacheControl === null) return otherwise;
  if (/\bno-(store|cache)\b/.test(cacheControl)) return 0;
  const seconds = /\bmax-age=(\d+)/.exec(cacheControl)?.[1];
  return seconds === undefined ? otherwise : Number(seconds) * 1000;
}
