/**
 * All repositories of this Pod and what they hold, kept up to date per change, so that the digest at the fence costs
 * the same for any number of them. Every change gets a generation, by which others ask for what is new to them.
 */
import { randomUUID } from "node:crypto";
import { toCleaveError } from "../../../../protocol/errors.ts";
import { Limiter } from "../../common/limiter.ts";
import type { RepositoryContent } from "../backend/backend.ts";
import { InventoryView } from "../verification/inventory-view.ts";
import type { Absence } from "./absence.ts";
import type { KnownRepositories } from "./known-repositories.ts";
import { deletedEntry, type RepositoryEntry, readableEntry, unreadableEntry } from "./repository-entry.ts";

export interface InventoryOptions {
  readonly backend: RepositoryContent;
  /** Whether what is not there any more was deleted. */
  readonly absence: Pick<Absence, "reasonToKeep" | "seen">;
  readonly known: Pick<KnownRepositories, "note" | "forget">;
  /** Repositories read at once. */
  readonly concurrency: number;
  readonly onChange: () => void;
}

interface Known {
  entry: RepositoryEntry;
  generation: number;
  /** Of the time before the last reading; null after a failure. */
  version: string | null;
  headVersion: string | null;
  locks: readonly string[];
  left: readonly string[];
  glance: string | null;
}

export class Inventory {
  /** Generations are of one incarnation: another one has other numbers, so everything is new to a reader. */
  readonly incarnation = randomUUID();
  readonly #options: InventoryOptions;
  readonly #limiter: Limiter;
  readonly #known = new Map<string, Known>();
  readonly #damaged = new Map<string, string>();
  /** Paths by generation, oldest first; an outdated line is one whose generation is not the path's any more. */
  #log: { readonly generation: number; readonly path: string }[] = [];
  readonly #views = new Set<InventoryView>();
  /** Taken away by this agent itself. */
  readonly #removed = new Set<string>();
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

  /**
   * A part of it that a reading does not see is damaged: it counts as unreadable, whatever is read of it, until it was made
   * anew (`mended`).
   */
  damage(path: string, why: string): void {
    const known = this.#known.get(path);
    if (known === undefined) return;
    this.#damaged.set(path, why);
    this.#store(path, { ...known, version: null, entry: unreadableEntry(path, known.entry.owner, why) });
  }

  mended(path: string): void {
    this.#damaged.delete(path);
  }

  /** Ref locks seen at the last look: of a writer in flight, or left behind by one that was killed. */
  locksOf(path: string): readonly string[] {
    return this.#known.get(path)?.locks ?? [];
  }

  /** Of repositories that are there: what is left behind on purpose, in words. */
  *left(): Generator<{ readonly path: string; readonly left: readonly string[] }> {
    for (const [path, { entry, left }] of this.#known) if (!entry.deleted) yield { path, left };
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

  /** It was here when an earlier process looked: whether it still is, a refresh finds. */
  expect(path: string, owner: string | null): void {
    if (!this.#known.has(path))
      this.#store(path, {
        entry: unreadableEntry(path, owner, "it has not been looked at yet"),
        version: null,
        headVersion: null,
        locks: [],
        left: [],
        glance: null,
      });
  }

  /**
   * Reads the repository again; what changed before the call is in the inventory when it resolves. `owner` is for a
   * repository that is new to the inventory; `removed`: this agent has taken it away, so that nobody has to ask whether its
   * absence is a deletion. Never fails: an unreadable repository is an entry.
   */
  refresh(
    path: string,
    options: { readonly owner?: string | null; readonly urgent?: boolean; readonly removed?: boolean } = {},
  ): Promise<void> {
    if (options.removed) this.#removed.add(path);
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
    let next: Omit<Known, "generation">;
    try {
      const reading = await this.#options.backend.read(path);
      if (reading === null) {
        const removed = this.#removed.delete(path);
        if (!before) return;
        const why = removed || before.entry.deleted ? null : await this.#options.absence.reasonToKeep(path);
        // It came back meanwhile.
        if (why === undefined) return this.#read(path, newOwner);
        if (why === null) this.#damaged.delete(path);
        const entry = why === null ? deletedEntry(path, owner) : unreadableEntry(path, owner, why);
        next = { entry, version: null, headVersion: null, locks: [], left: [], glance: null };
      } else {
        this.#removed.delete(path);
        this.#options.absence.seen(path);
        const { state, version, headVersion, locks, left, glance } = reading;
        const damage = this.#damaged.get(path);
        const entry =
          damage === undefined ? readableEntry(path, owner, state) : unreadableEntry(path, owner, damage);
        next = { entry, version, headVersion, locks, left, glance };
      }
    } catch (error) {
      const entry = unreadableEntry(path, owner, toCleaveError(error).message);
      next = { entry, version: null, headVersion: null, locks: [], left: [], glance: null };
    }
    // The owner may have become known while it was read.
    const ownerNow = newOwner ?? this.#known.get(path)?.entry.owner ?? owner;
    this.#store(path, { ...next, entry: { ...next.entry, owner: ownerNow } });
  }

  #store(path: string, next: Omit<Known, "generation">): void {
    const before = this.#known.get(path);
    const same = before && JSON.stringify(before.entry) === JSON.stringify(next.entry);
    if (same) {
      // The very same entry, by which others remember what they have read back.
      this.#known.set(path, { ...next, entry: before.entry, generation: before.generation });
      return;
    }
    if (next.entry.deleted) this.#options.known.forget(path);
    else this.#options.known.note(path, next.entry.owner);
    this.#generation += 1;
    this.#known.set(path, { ...next, generation: this.#generation });
    this.#log.push({ generation: this.#generation, path });
    if (this.#log.length > 1_000 && this.#log.length > 2 * this.#known.size)
      this.#log = this.#log.filter((line) => this.#known.get(line.path)?.generation === line.generation);
    for (const view of this.#views) view.update(next.entry);
    this.#options.onChange();
  }

  /** Whether it changed since it was last read, without reading it; true when nothing is known for sure. */
  async looksChanged(path: string): Promise<boolean> {
    const known = this.#known.get(path);
    if (!known || known.version === null) return true;
    try {
      const { version, locks } = await this.#options.backend.look(path);
      known.locks = locks;
      return version !== known.version;
    } catch {
      return true;
    }
  }

  /** The last look when a fence goes up: without waiting, and true when nothing is known for sure. */
  glanceChanged(path: string): boolean {
    const known = this.#known.get(path);
    return (
      known === undefined || known.glance === null || this.#options.backend.glance(path) !== known.glance
    );
  }

  /** The same for HEAD alone, whose version is now this: what no hook sees of `symbolic-ref`. */
  headLooksChanged(path: string, headVersion: string | null): boolean {
    const known = this.#known.get(path);
    return !known || known.headVersion === null || headVersion !== known.headVersion;
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
