/**
 * Who keeps this Pod's inventory true for all of its migrations, and guards new repositories: made when the first needs it,
 * and after the last as long as some organization lives elsewhere.
 */
import { discardUntracked } from "../../file-fence/discard.ts";
import type { GitContext } from "../context.ts";
import { Guard } from "../fence/new-repositories.ts";
import { Tracker } from "./tracker.ts";

export class TrackerKeeper {
  readonly #context: GitContext;
  readonly #guard: Guard;
  readonly #stopDiscarding: () => void;
  #tracker: Tracker | null = null;

  constructor(context: GitContext) {
    this.#context = context;
    this.#guard = new Guard(context, () => this.tracker());
    void this.#guard.resume().catch((error: unknown) => {
      context.log.warn({ err: error }, "nobody knows whether new repositories have to be watched");
    });
    this.#stopDiscarding = discardUntracked(context.fence, "git", () => this.#tracker !== null);
  }

  /** Not started: whoever needs the inventory complete starts it. */
  tracker(): Tracker {
    this.#tracker ??= new Tracker(this.#context);
    return this.#tracker;
  }

  /** Null while nobody needs one. */
  get current(): Tracker | null {
    return this.#tracker;
  }

  /** After the last migration: hooks stay while an organization lives elsewhere, else nothing that was made for one. */
  async guardOrEnd(): Promise<void> {
    if (await this.#context.fence.hasRoutes()) return this.#guard.keep();
    await this.#tracker?.close();
    this.#tracker = null;
    await this.#guard.end();
    await this.#context.known.discard();
    await this.#context.root.release();
  }

  /** Nothing new begins. */
  stop(): void {
    this.#stopDiscarding();
    this.#guard.close();
  }

  async close(): Promise<void> {
    await this.#tracker?.close();
    this.#context.root.close();
    await this.#context.known.close();
  }
}
