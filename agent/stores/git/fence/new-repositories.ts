/**
 * Hooks and owners in new repositories, also when no migration is left: as long as this Pod has routes, some organization
 * lives elsewhere, and a repository that somebody makes for it here must not take a single write.
 */
import { StateFile } from "../../common/state-file.ts";
import type { GitContext } from "../context.ts";
import type { Tracker } from "../inventory/tracker.ts";

/** Behind what a starting agent has to do at once; also between attempts while the database is not there yet. */
const PAUSE_MS = 5_000;

export class Guard {
  readonly #context: GitContext;
  readonly #track: () => Tracker;
  readonly #record: StateFile;
  #starting: AbortController | null = null;
  #closed = false;

  constructor(context: GitContext, track: () => Tracker) {
    this.#context = context;
    this.#track = track;
    this.#record = new StateFile(context.stateDirectory, "guarding");
  }

  /** After a restart: goes on with what an earlier process did. */
  async resume(): Promise<void> {
    if ((await this.#record.readIfPresent()) !== null) this.#start();
  }

  /** From now on, over restarts. */
  async keep(): Promise<void> {
    await this.#record.makeFolder();
    await this.#record.replace("", { durable: true });
    this.#start();
  }

  /** No organization lives elsewhere: hooks out, earlier ones back. Owners stay, since they say nothing wrong. */
  async end(): Promise<void> {
    this.#stop();
    const { backend, log } = this.#context;
    const { repositories } = await backend.list();
    for (const path of repositories)
      await backend.removeHook(path).catch((error: unknown) => {
        log.warn({ err: error, path }, "the hook could not be removed");
      });
    await this.#record.remove();
  }

  close(): void {
    this.#closed = true;
    this.#stop();
  }

  #stop(): void {
    this.#starting?.abort(new Error("new repositories are not watched any more"));
    this.#starting = null;
  }

  #start(): void {
    if (this.#starting !== null || this.#closed) return;
    this.#starting = new AbortController();
    void this.#run(this.#starting.signal).catch(() => undefined);
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#context;
    for (;;) {
      await clock.sleep(PAUSE_MS, signal);
      try {
        return await this.#track().start();
      } catch (error) {
        signal.throwIfAborted();
        log.warn({ err: error }, "new repositories are not watched yet");
      }
    }
  }
}
