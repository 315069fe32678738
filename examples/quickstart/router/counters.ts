/** What the router counts, for the whole run and per organization. */

export interface OrganizationCounters {
  /** Refusals (503) by a guard or a Pod; the client saw a wait, not these. */
  refused: number;
  /** Answers "another Pod serves this organization" (421). */
  redirected: number;
  /** Requests that waited at a guard for a fence's outcome, and for how long altogether. */
  held: number;
  heldMs: number;
  /** 5xx answers given to a client. */
  failed: number;
}

export interface RouterStats {
  readonly requests: number;
  readonly failed: number;
  /** Requests that were sent to a Pod more than once. */
  readonly retried: number;
  readonly held: { readonly count: number; readonly totalMs: number; readonly maxMs: number };
  readonly organizations: Readonly<Record<string, OrganizationCounters>>;
}

/** A guard's answer that took longer than this was a wait for an outcome, not an ordinary answer. */
const HELD_FROM_MS = 20;

export class Counters {
  #requests = 0;
  #failed = 0;
  #retried = 0;
  #held = 0;
  #heldMs = 0;
  #heldMaxMs = 0;
  readonly #organizations = new Map<string, OrganizationCounters>();

  request(): void {
    this.#requests += 1;
  }

  retried(): void {
    this.#retried += 1;
  }

  refused(organization: string): void {
    this.#of(organization).refused += 1;
  }

  redirected(organization: string): void {
    this.#of(organization).redirected += 1;
  }

  answered(organization: string | null, status: number): void {
    if (status < 500) return;
    this.#failed += 1;
    if (organization !== null) this.#of(organization).failed += 1;
  }

  /** How long a guard kept a fenced request waiting, summed over its answers. */
  waited(organization: string, ms: number): void {
    if (ms < HELD_FROM_MS) return;
    const counters = this.#of(organization);
    counters.held += 1;
    counters.heldMs += ms;
    this.#held += 1;
    this.#heldMs += ms;
    this.#heldMaxMs = Math.max(this.#heldMaxMs, ms);
  }

  stats(): RouterStats {
    return {
      requests: this.#requests,
      failed: this.#failed,
      retried: this.#retried,
      held: { count: this.#held, totalMs: this.#heldMs, maxMs: this.#heldMaxMs },
      organizations: Object.fromEntries(this.#organizations),
    };
  }

  #of(organization: string): OrganizationCounters {
    let found = this.#organizations.get(organization);
    if (found === undefined) {
      found = { refused: 0, redirected: 0, held: 0, heldMs: 0, failed: 0 };
      this.#organizations.set(organization, found);
    }
    return found;
  }
}
