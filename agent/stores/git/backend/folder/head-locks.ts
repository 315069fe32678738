/**
 * Held `HEAD.lock` files. Before Git 2.46 no hook sees `git symbolic-ref HEAD`, and the lock is what refuses it.
 * Git takes the same lock to update the branch that HEAD names, so it meets the lock before the hook: such a push
 * is refused with git's own words about the lock. Reading needs no lock.
 *
 * Cost: one link and one stat per fenced repository, about 30 µs; the one thing at the fence that grows with their
 * number, done in small steps so that the guard answers in between.
 */
import { existsSync, linkSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { CleaveError } from "../../../../../protocol/errors.ts";
import type { Clock } from "../../../../../protocol/ports/clock.ts";
import type { HeadLocks } from "../backend.ts";
import { headFingerprint } from "./fingerprint.ts";

/** By its content the agent knows its own locks, also after a restart; git never reads it. */
export const OWN_LOCK = "held by Cleave while this repository is read-only\n";
const STEP = 16;
const RETRY_MS = 2;

type OnHeld = (path: string, headVersion: string | null) => void;

export interface HeadLockFilesOptions {
  readonly directoryOf: (path: string) => string;
  /** A file of the agent on (at best) the repositories' file system; each lock is a link to it. */
  readonly template: string;
  readonly clock: Clock;
}

export class HeadLockFiles implements HeadLocks {
  readonly #options: HeadLockFilesOptions;
  readonly #held = new Set<string>();

  constructor(options: HeadLockFilesOptions) {
    this.#options = options;
  }

  async prepare(): Promise<void> {
    await writeFile(this.#options.template, OWN_LOCK);
  }

  /**
   * Holds the lock in all of `paths`, waiting for those that hold it now. `onHeld` is called for each in the moment
   * after which HEAD cannot change.
   * @throws CleaveError DRAIN_INCOMPLETE when another process holds one for longer than `graceMs`.
   */
  async hold(
    paths: Iterable<string>,
    options: {
      readonly graceMs: number;
      readonly signal: AbortSignal;
      readonly onHeld?: OnHeld;
    },
  ): Promise<void> {
    const { graceMs, signal, onHeld } = options;
    let busy: string[] = [];
    let count = 0;
    for (const path of paths) {
      if (!this.#take(path, onHeld)) busy.push(path);
      count += 1;
      if (count % STEP === 0) await turn(undefined, { signal });
    }
    const startedAt = this.#options.clock.monotonic();
    while (busy.length > 0) {
      signal.throwIfAborted();
      const still: string[] = [];
      for (const path of busy)
        if (!(await this.#isOwn(path, onHeld)) && !this.#take(path, onHeld)) still.push(path);
      busy = still;
      if (busy.length === 0) return;
      if (this.#options.clock.monotonic() - startedAt > graceMs)
        throw new CleaveError(
          "DRAIN_INCOMPLETE",
          `another process holds HEAD.lock in ${busy.length} fenced repositories, or left it there when it was killed, ` +
            `for example ${this.#lockOf(busy[0] as string)}`,
        );
      await this.#options.clock.sleep(RETRY_MS, signal);
    }
  }

  async *foreign(paths: Iterable<string>): AsyncGenerator<string> {
    for (const path of paths) {
      if (this.#held.has(path) || !existsSync(this.#lockOf(path))) continue;
      if (!(await this.#hasOwnContent(path))) yield this.#lockOf(path);
    }
  }

  /** Removes the locks of ours in `paths`, and no other's. */
  async release(paths: Iterable<string>): Promise<void> {
    let count = 0;
    for (const path of paths) {
      if (this.#held.has(path) || (await this.#hasOwnContent(path))) {
        try {
          unlinkSync(this.#lockOf(path));
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
        this.#held.delete(path);
      }
      count += 1;
      if (count % STEP === 0) await turn();
    }
  }

  #lockOf(path: string): string {
    return join(this.#options.directoryOf(path), "HEAD.lock");
  }

  #take(path: string, onHeld: OnHeld | undefined): boolean {
    if (this.#held.has(path)) return true;
    const lock = this.#lockOf(path);
    try {
      try {
        linkSync(this.#options.template, lock);
      } catch (error) {
        // Too many links, or another file system: a file of its own, which takes a little longer.
        if (!["EMLINK", "EXDEV", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
        writeFileSync(lock, OWN_LOCK, { flag: "wx" });
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      // A repository that was deleted has no HEAD to change.
      if (isMissing(error)) return true;
      throw error;
    }
    this.#held.add(path);
    this.#tell(path, onHeld);
    return true;
  }

  async #isOwn(path: string, onHeld: OnHeld | undefined): Promise<boolean> {
    const found = statSync(this.#lockOf(path), { throwIfNoEntry: false });
    if (found === undefined) return false;
    // However old another's is: whoever holds it may go on where it stopped, and nobody here can see that process.
    if (!(await this.#hasOwnContent(path))) return false;
    this.#held.add(path);
    this.#tell(path, onHeld);
    return true;
  }

  #tell(path: string, onHeld: OnHeld | undefined): void {
    onHeld?.(path, headFingerprint(this.#options.directoryOf(path)));
  }

  async #hasOwnContent(path: string): Promise<boolean> {
    const lock = this.#lockOf(path);
    const found = statSync(lock, { throwIfNoEntry: false });
    if (found?.size !== OWN_LOCK.length) return false;
    return (await readFile(lock, "utf8").catch(() => "")) === OWN_LOCK;
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}
