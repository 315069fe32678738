/** Looks for what differs in repositories that stay different, one at a time and beside the copying. */
import type { PodId } from "../../../../protocol/ids.ts";
import type { GitContext } from "../context.ts";
import type { SourceFeed } from "../replication/source-feed.ts";
import { describeDifferences } from "./differences.ts";

/** Asking takes as long as the repository has refs. */
const AGAIN_MS = 2_000;
const LIMIT_MS = 30_000;

export class Describing {
  readonly #context: GitContext;
  readonly #feed: SourceFeed;
  readonly #source: PodId;
  readonly #signal: AbortSignal;
  #running = false;
  /** Monotonic time of the last look, by path. */
  readonly #lookedAt = new Map<string, number>();

  constructor(context: GitContext, feed: SourceFeed, source: PodId, signal: AbortSignal) {
    this.#context = context;
    this.#feed = feed;
    this.#source = source;
    this.#signal = signal;
  }

  /** `onText` is told what differs, once it is known and if anything does; not while another look goes on. */
  look(path: string, onText: (text: string) => void): void {
    const { clock, podId, backend } = this.#context;
    const now = clock.monotonic();
    if (this.#running || now - (this.#lookedAt.get(path) ?? -AGAIN_MS) < AGAIN_MS) return;
    this.#running = true;
    if (this.#lookedAt.size > 1_000) this.#lookedAt.clear();
    this.#lookedAt.set(path, now);
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(LIMIT_MS)]);
    void describeDifferences(
      { podId: this.#source, items: this.#feed.items(path, signal) },
      { podId, items: backend.items(path) },
    )
      .then((text) => {
        if (text !== "") onText(text);
      })
      // A side that cannot be read is a problem of its own, which the next attempt finds.
      .catch(() => undefined)
      .finally(() => {
        this.#running = false;
      });
  }
}
