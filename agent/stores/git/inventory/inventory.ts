/**
 * All repositories of this Pod and what they hold, kept up to date per change, so that the digest at the fence costs
 * the same for any number of them. Every change gets a generation, by which others ask for what is new to them.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { toCleaveError } from "../../../../protocol/errors.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import { Limiter } from "../../common/limiter.ts";
import { repositoryChecksum } from "../backend/folder/checksum.ts";
import { fingerprint, headFingerprint } from "../backend/folder/fingerprint.ts";
import { digestFiles, readRepositoryFiles } from "../backend/folder/repository-files.ts";
import { checkRepositoryPath, folderExists } from "../backend/folder/repository-path.ts";
import type { GitOptions } from "../backend/folder/run-git.ts";
import { InventoryView } from "../verification/inventory-view.ts";
import { deletedEntry, type RepositoryEntry, readableEntry, unreadableEntry } from "./repository-entry.ts";

export interface InventoryOptions {
  readonly root: string;
  readonly git: GitOptions;
  readonly clock: Clock;
  /** Repositories read at once. */
  readonly concurrency: number;
  readonly onChange: () => void;
}

interface Known {
  entry: RepositoryEntry;
  generation: number;
  /** Of the time before the last reading; null after a failure. */
  fingerprint: string | null;
  head: string | null;
  locks: readonly string[];
}

export class Inventory {
  /** Generations are of one incarnation: another one has other numbers, so everything is new to a reader. */
  readonly incarnation = randomUUID();
  readonly #options: InventoryOptions;
  readonly #limiter: Limiter;
  readonly #known = new Map<string, Known>();
  /** Paths by generation, oldest first; an outdated line is one whose generation is not the path's any more. */
  #log: { readonly generation: number; readonly path: string }[] = [];
  readonly #views = new Set<InventoryView>();
  readonly #running = new Map<string, { current: Promise<void>; next: Promise<void> | null }>();
  #generation = 0;

  constructor(options: InventoryOptions) {
    this.#options = options;
    this.#limiter = new Limiter(options.concurrency);
  }

  get generation(): number {
    return this.#generation;
  }

  get(path: string): RepositoryEntry | undefined {
    return this.#known.get(path)?.entry;
  }

  /** Of repositories that are there. */
  *paths(): Generator<string> {
    for (const [path, { entry }] of this.#known) if (!entry.deleted) yield path;
  }

  *entries(): Generator<RepositoryEntry> {
    for (const { entry } of this.#known.values()) if (!entry.deleted) yield entry;
  }

  gitDirectory(path: string): string {
    return join(this.#options.root, checkRepositoryPath(path));
  }

  /** Ref locks seen at the last look: of a writer in flight, or left behind by one that was killed. */
  locksOf(path: string): readonly string[] {
    return this.#known.get(path)?.locks ?? [];
  }

  /** A digest over the repositories of these owners, kept from now on. */
  view(owners: ReadonlySet<string>): InventoryView {
    const view = new InventoryView(owners);
    for (const entry of this.entries()) view.update(entry);
    this.#views.add(view);
    return view;
  }

  dropView(view: InventoryView): void {
    this.#views.delete(view);
  }

  setOwner(path: string, owner: string | null): void {
    const known = this.#known.get(path);
    if (known && known.entry.owner !== owner)
      this.#store(path, { ...known, entry: { ...known.entry, owner } });
  }

  /**
   * Reads the repository again; what changed before the call is in the inventory when it resolves. `owner` is for a
   * repository that is new to the inventory. Never fails: an unreadable repository is an entry.
   */
  refresh(
    path: string,
    options: { readonly owner?: string | null; readonly urgent?: boolean } = {},
  ): Promise<void> {
    const running = this.#running.get(path);
    // A reading that has begun may have missed it; one that waits to begin will not.
    if (running) {
      running.next ??= running.current.then(() => this.#begin(path, options));
      return running.next;
    }
    return this.#begin(path, options);
  }

  #begin(
    path: string,
    options: { readonly owner?: string | null; readonly urgent?: boolean },
  ): Promise<void> {
    const state: { current: Promise<void>; next: Promise<void> | null } = {
      current: Promise.resolve(),
      next: null,
    };
    state.current = this.#limiter
      .run(() => this.#read(path, options.owner), options.urgent ?? false)
      .finally(() => {
        if (this.#running.get(path) === state && state.next === null) this.#running.delete(path);
      });
    this.#running.set(path, state);
    return state.current;
  }

  async #read(path: string, newOwner: string | null | undefined): Promise<void> {
    const before = this.#known.get(path);
    const owner = newOwner ?? before?.entry.owner ?? null;
    const gitDirectory = this.gitDirectory(path);
    let next: Omit<Known, "generation">;
    try {
      if (!(await folderExists(gitDirectory))) {
        if (!before) return;
        next = { entry: deletedEntry(path, owner), fingerprint: null, head: null, locks: [] };
      } else {
        const head = headFingerprint(gitDirectory);
        const print = await fingerprint(gitDirectory, this.#options.clock.now());
        const files = digestFiles(await readRepositoryFiles(gitDirectory));
        const sum = await repositoryChecksum(gitDirectory, this.#options.git);
        const entry = readableEntry(path, owner, sum, files);
        next = { entry, fingerprint: print.racy ? null : print.digest, head, locks: print.locks };
      }
    } catch (error) {
      const entry = unreadableEntry(path, owner, toCleaveError(error).message);
      next = { entry, fingerprint: null, head: null, locks: [] };
    }
    // The owner may have become known while it was read.
    const ownerNow = newOwner ?? this.#known.get(path)?.entry.owner ?? owner;
    this.#store(path, { ...next, entry: { ...next.entry, owner: ownerNow } });
  }

  #store(path: string, next: Omit<Known, "generation">): void {
    const before = this.#known.get(path);
    const same = before && JSON.stringify(before.entry) === JSON.stringify(next.entry);
    if (same) {
      this.#known.set(path, { ...next, generation: before.generation });
      return;
    }
    this.#generation += 1;
    this.#known.set(path, { ...next, generation: this.#generation });
    this.#log.push({ generation: this.#generation, path });
    if (this.#log.length > 1_000 && this.#log.length > 2 * this.#known.size)
      this.#log = this.#log.filter((line) => this.#known.get(line.path)?.generation === line.generation);
    for (const view of this.#views) view.update(next.entry);
    this.#options.onChange();
  }

  /** Whether the files' times say that it changed since it was last read; true when nothing is known for sure. */
  async looksChanged(path: string): Promise<boolean> {
    const known = this.#known.get(path);
    if (!known || known.fingerprint === null) return true;
    try {
      const print = await fingerprint(this.gitDirectory(path), this.#options.clock.now());
      known.locks = print.locks;
      return print.digest !== known.fingerprint;
    } catch {
      return true;
    }
  }

  /** The same for HEAD alone, without waiting: what no hook sees of `symbolic-ref`. */
  headLooksChanged(path: string): boolean {
    const known = this.#known.get(path);
    return !known || known.head === null || headFingerprint(this.gitDirectory(path)) !== known.head;
  }

  /**
   * Entries that changed after a generation, oldest first, deletions included; at most `limit`. `generation` is
   * what to ask with next; the page is the last one when it equals the inventory's own.
   */
  changesSince(since: number, limit: number): { entries: RepositoryEntry[]; generation: number } {
    const entries: RepositoryEntry[] = [];
    let from = 0;
    let to = this.#log.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#log[middle]?.generation ?? 0) <= since) from = middle + 1;
      else to = middle;
    }
    for (let index = from; index < this.#log.length; index++) {
      const line = this.#log[index];
      if (line === undefined) break;
      const known = this.#known.get(line.path);
      if (known?.generation !== line.generation) continue;
      if (entries.length === limit) return { entries, generation: this.#log[index - 1]?.generation ?? since };
      entries.push(known.entry);
    }
    return { entries, generation: this.#generation };
  }
}
