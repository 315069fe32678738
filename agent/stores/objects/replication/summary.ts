/** How many objects a source has, and of how many bytes, for targets that ask whether they have room for them. */
import type { ObjectsContext } from "../context.ts";
import { preflightSource } from "../preflight.ts";
import type { SummaryAnswer } from "./peer-protocol.ts";

/** Targets of one preflight ask about the same time: one listing answers them all. */
const KEPT_MS = 60_000;

export class Summary {
  readonly #context: ObjectsContext;
  #newest: { readonly at: number; readonly value: Promise<SummaryAnswer> } | null = null;

  constructor(context: ObjectsContext) {
    this.#context = context;
  }

  /** A listing just found it. */
  note(summary: SummaryAnswer): void {
    this.#newest = { at: this.#context.clock.monotonic(), value: Promise.resolve(summary) };
  }

  /** Of at most a minute ago. @throws what keeps the objects from being listed. */
  answer(): Promise<SummaryAnswer> {
    const now = this.#context.clock.monotonic();
    if (this.#newest === null || now - this.#newest.at > KEPT_MS) {
      const signal = AbortSignal.timeout(KEPT_MS);
      const value = preflightSource(this.#context, signal).then(({ summary }) => summary);
      this.#newest = { at: now, value };
      value.catch(() => {
        this.#newest = null;
      });
    }
    return this.#newest.value;
  }
}
