/**
 * Hooks and owners in new repositories, also when no migration is left: as long as this Pod has routes, some organization
 * lives elsewhere, and a repository that somebody makes for it here must not take a single write.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { removeHook } from "../backend/folder/hook-install.ts";
import { fileExists, ignoring, scanRoot } from "../backend/folder/repository-path.ts";
import type { GitContext } from "../context.ts";
import type { Tracker } from "../inventory/tracker.ts";

/** Behind what a starting agent has to do at once; also between attempts while the database is not there yet. */
const PAUSE_MS = 5_000;

export class Guard {
  readonly #context: GitContext;
  readonly #track: () => Tracker;
  #starting: AbortController | null = null;
  #closed = false;

  constructor(context: GitContext, track: () => Tracker) {
    this.#context = context;
    this.#track = track;
  }

  /** After a restart: goes on with what an earlier process did. */
  async resume(): Promise<void> {
    if (await fileExists(this.#record)) this.#start();
  }

  /** From now on, over restarts. */
  async keep(): Promise<void> {
    await mkdir(this.#context.stateDirectory, { recursive: true });
    await writeFile(this.#record, "", { flush: true });
    this.#start();
  }

  /** No organization lives elsewhere: hooks out, earlier ones back. Owners stay, since they say nothing wrong. */
  async end(): Promise<void> {
    this.#stop();
    const { config, inventory, log } = this.#context;
    const { repositories } = await scanRoot(config.root, ignoring(config.ignore));
    for (const path of repositories)
      await removeHook(inventory.gitDirectory(path)).catch((error: unknown) => {
        log.warn({ err: error, path }, "the hook could not be removed");
      });
    await rm(this.#record, { force: true });
  }

  close(): void {
    this.#closed = true;
    this.#stop();
  }

  #stop(): void {
    this.#starting?.abort(new Error("new repositories are not watched any more"));
    this.#starting = null;
  }

  get #record(): string {
    return join(this.#context.stateDirectory, "guarding");
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
