/** Keeps a source's inventory true: a scan at first, then every change that writers announce, and a sweep behind them. */
import { invariant } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { OwnerLookup } from "../../common/inventory/owner-lookup.ts";
import { forEachParallel, KeyedTurns } from "../../common/parallel.ts";
import type { KnownRoot } from "../../common/root/known-root.ts";
import type { LossBound } from "../../common/root/losses.ts";
import type { DirtyEntry } from "../../file-fence/dirty.ts";
import type { FileFence } from "../../file-fence/file-fence.ts";
import { organizationHash } from "../../file-fence/layout.ts";
import type { ListedObject, ObjectBackend } from "../backend/backend.ts";
import { hashObject } from "../backend/hashing.ts";
import { Absence } from "./absence.ts";
import type { Inventory } from "./inventory.ts";
import { keyFault, quoteKey } from "./keys.ts";
import { HASH_CONCURRENCY, scanInto } from "./scan.ts";

const MAX_NAMED = 10;

export interface SourceTrackerOptions {
  readonly backend: ObjectBackend;
  readonly root: KnownRoot;
  readonly lossBound: LossBound;
  readonly inventory: () => Promise<Inventory>;
  readonly fence: FileFence;
  readonly ownerLookup: OwnerLookup;
  readonly clock: Clock;
  readonly log: Logger;
  readonly sweepMs: number;
  readonly onChange: () => void;
}

export class SourceTracker {
  readonly #options: SourceTrackerOptions;
  readonly #ended = new AbortController();
  readonly #turns = new KeyedTurns();
  /** Why something that is there cannot be vouched for: no evidence while there is any (rule 11). */
  #unreadable = new Map<string, string>();
  #unlistable = new Map<string, string>();
  /** Of those, what is in the inventory and was not there when it was looked for. */
  readonly #absent = new Set<string>();
  readonly #unowned = new Set<string>();
  readonly #absence: Absence;
  /** Key → how it was written past what a fence would stop, as of the last complete sweep and since. */
  #outside = new Map<string, string>();
  #inventory: Inventory | null = null;
  #scan: Promise<void> | null = null;
  #scanned = false;
  #progress: { done: number; total: number } | null = null;

  constructor(options: SourceTrackerOptions) {
    this.#options = options;
    this.#absence = new Absence(options);
  }

  /** Announced changes are taken over from here on. */
  get started(): boolean {
    return this.#scan !== null;
  }
  get scanned(): boolean {
    return this.#scanned;
  }
  get progress(): { done: number; total: number } | null {
    return this.#progress;
  }

  /** Resolves when the inventory is complete; from then on it is kept so. Can be called again after it failed. */
  start(): Promise<void> {
    if (this.#scan === null) {
      this.#scan = this.#begin().catch((error: unknown) => {
        this.#scan = null;
        throw error;
      });
      // Whoever waited for it may have been called away meanwhile (an abort), and then nobody hears that it was closed.
      this.#scan.catch(() => undefined);
    }
    return this.#scan;
  }

  close(): void {
    this.#ended.abort(new Error("the object store is no longer tracked"));
  }

  /**
   * Takes over every change of the keys in `scope` that was announced until now. After the drain that is every
   * change there is.
   */
  async settle(scope: (key: string) => boolean): Promise<void> {
    const { fence } = this.#options;
    const entries = (await fence.takeDirty("objects")).filter(
      ({ key }) => key === null || keyFault(key) !== null || scope(key),
    );
    await this.#takeOver(entries);
    await forEachParallel([...this.#unreadable.keys()], HASH_CONCURRENCY, (key) => this.#refresh(key));
    // What could not be read and is gone: nobody waits for the next sweep to say whether it was deleted.
    if (this.#absent.size > 0) await this.#judge([...this.#absent], { partial: true });
  }

  /** For changes that this agent makes itself, which nobody announces: no look at the key comes in between. */
  inTurn(key: string, change: () => Promise<void>): Promise<void> {
    return this.#turns.run(key, change);
  }

  /** What of these keys is there and cannot be read, or what may hide some of them; null when there is nothing. */
  unreadable(scope: (key: string) => boolean): OwnProblem | null {
    const absent = this.problem();
    if (absent !== null) return absent;
    const [found] = [...[...this.#unreadable].filter(([key]) => scope(key)), ...this.#unlistable];
    if (found === undefined) return null;
    return { code: "OBJECT_UNREADABLE", message: `${quoteKey(found[0])}: ${found[1]}`.slice(0, 2_000) };
  }

  /** Why nobody may take what is not listed for deleted; null when all that is missing was deleted. */
  problem(): OwnProblem | null {
    return this.#options.root.problem ?? this.#absence.problem;
  }

  /** What makes evidence impossible, worst first, bounded; empty when the inventory can be vouched for. */
  faults(): OwnProblem[] {
    const found: OwnProblem[] = [this.problem() ?? []].flat();
    for (const [name, reason] of [...this.#unreadable, ...this.#unlistable].slice(0, MAX_NAMED))
      found.push({ code: "OBJECT_UNREADABLE", message: `${quoteKey(name)}: ${reason}`.slice(0, 2_000) });
    const [example] = this.#unowned;
    if (example !== undefined)
      found.push({
        code: "OWNER_UNKNOWN",
        message: `${this.#unowned.size} objects have no owner by the rules, for example ${quoteKey(example)}`,
      });
    return found;
  }

  /** Writers that the fence would not stop. */
  outsideWrites(): OwnProblem[] {
    return [...this.#outside].slice(0, MAX_NAMED).map(([key, what]) => ({
      code: "MISMATCH",
      message: `${quoteKey(key)} was ${what}, so a fence would not stop that writer`,
    }));
  }

  async #begin(): Promise<void> {
    this.#inventory = await this.#options.inventory();
    const { fence, clock, sweepMs, log, root } = this.#options;
    const signal = this.#ended.signal;
    // The migration may be over by now, and whoever ended it releases the root.
    signal.throwIfAborted();
    await root.establish();
    // Watched before listed: what changes behind the listing is announced.
    const stopWatching = fence.watchDirty("objects", async () =>
      this.#takeOver(await fence.takeDirty("objects")),
    );
    signal.addEventListener("abort", stopWatching, { once: true });
    try {
      await this.#scanAll();
    } catch (error) {
      stopWatching();
      throw error;
    }
    this.#scanned = true;
    this.#options.onChange();
    const sweepForEver = async () => {
      while (!signal.aborted) {
        await clock.sleep(sweepMs, signal);
        await this.sweep().catch((error: unknown) => log.warn({ err: error }, "the sweep of objects failed"));
      }
    };
    void sweepForEver().catch(() => undefined);
  }

  async #scanAll(): Promise<void> {
    const { backend, onChange, root } = this.#options;
    await root.require();
    this.#unlistable = await scanInto(this.#opened(), backend, {
      signal: this.#ended.signal,
      onGone: async (keys) => void (await this.#judge(keys)),
      refresh: (key) => this.#refresh(key),
      onKept: (key) => this.#note(key, true),
      onProgress: (done, total) => {
        this.#progress = { done, total };
        if (done % 500 === 0) onChange();
      },
    });
  }

  async #list(): Promise<{ listed: ListedObject[]; unlistable: Map<string, string> }> {
    const unlistable = new Map<string, string>();
    const listed: ListedObject[] = [];
    const onUnlistable = (name: string, reason: string) => void unlistable.set(name, reason);
    for await (const object of this.#options.backend.list({ onUnlistable })) {
      this.#ended.signal.throwIfAborted();
      listed.push(object);
    }
    return { listed, unlistable };
  }

  /** Compares sizes and times of everything with the inventory; what differs unannounced was written past the fence. */
  async sweep(): Promise<void> {
    const { onChange, root } = this.#options;
    const inventory = this.#opened();
    await root.require();
    const { listed, unlistable } = await this.#list();
    const outside = new Map<string, string>();
    const suspects = listed
      .filter(({ key, version }) => inventory.get(key)?.version !== version)
      .map(({ key }) => key);
    const keys = new Set(listed.map(({ key }) => key));
    for (const key of suspects) {
      const what = await this.#unannounced(key);
      if (what !== null) outside.set(key, `${what} without a write intent`);
      await this.#refresh(key);
    }
    const gone = [...inventory.keys()].filter((key) => !keys.has(key));
    for (const key of await this.#judge(gone)) outside.set(key, "deleted without a write intent");
    for (const [key, what] of outside) this.#options.log.warn({ key }, `an object was ${what}`);
    const noted = this.#outside.size + this.#unlistable.size + outside.size + unlistable.size > 0;
    this.#outside = outside;
    this.#unlistable = unlistable;
    await forEachParallel([...this.#unreadable.keys()], HASH_CONCURRENCY, (key) => this.#refresh(key));
    if (noted) onChange();
  }

  /** How a key differs from the inventory although nobody announced it; null when it does not or somebody did. */
  async #unannounced(key: string): Promise<string | null> {
    const { fence, backend } = this.#options;
    const inventory = this.#opened();
    const announced = async () =>
      (await fence.inflightKeys("objects")).has(key) ||
      (await fence.takeDirty("objects")).some((entry) => entry.key === key);
    if (await announced()) return null;
    // The announcement may have been taken over since the listing, so look again, in turn with whoever took it.
    return this.#turns.run(key, async () => {
      const stat = await backend.stat(key).catch(() => undefined);
      const known = inventory.get(key);
      if (stat === undefined || stat?.version === known?.version) return null;
      if (await announced()) return null;
      if (known === undefined) return "created";
      // Another owner, mode or link is no other content.
      const found = await hashObject(backend, key).catch(() => null);
      return found?.sha256 === known.sha256 ? null : "changed";
    });
  }

  async #takeOver(entries: readonly DirtyEntry[]): Promise<void> {
    const { fence, root } = this.#options;
    if (entries.length > 0) await root.require();
    const byKey = new Map<string, string[]>();
    const nameless = entries.filter(({ key }) => key === null);
    const deleted = new Set<string>();
    for (const { id, key, organization, change } of entries) {
      if (key === null) continue;
      if (change === "delete") deleted.add(key);
      byKey.set(key, [...(byKey.get(key) ?? []), id]);
      this.#noteAsked(key, organization);
    }
    await forEachParallel(byKey, HASH_CONCURRENCY, async ([key, ids]) => {
      this.#ended.signal.throwIfAborted();
      // A writer whose key is none wrote no object by it.
      if (keyFault(key) === null) await this.#refreshAnnounced(key, deleted.has(key));
      for (const id of ids) await fence.acknowledgeDirty("objects", id);
    });
    if (nameless.length === 0) return;
    // Nobody can read which object it was.
    await this.sweep();
    for (const { id } of nameless) await fence.acknowledgeDirty("objects", id);
  }

  /** What was announced as a write and is not there is as gone as what nobody announced anything of. */
  async #refreshAnnounced(key: string, asDeletion: boolean): Promise<void> {
    await this.#refresh(key, asDeletion ? "announced" : "unheard");
    if (asDeletion) this.#absence.heard(key);
    if (this.#absent.has(key)) await this.#judge([key], { partial: true });
  }

  /** A writer that asks the fence for another organization than the key's owner passes the owner's fence. */
  #noteAsked(key: string, organization: string | null): void {
    if (organization === null || keyFault(key) !== null) return;
    const owner = this.#options.ownerLookup.object(key);
    if (owner?.kind !== "organization" || organizationHash(owner.organizationId) === organization) return;
    this.#outside.set(key, "announced for another organization than its owner by the rules");
    this.#options.onChange();
  }

  /**
   * Of keys that are not listed: those that count as deleted go, if the root was whole all the time; the others stay, and
   * say why. Returns those that went although nobody announced it.
   */
  async #judge(gone: readonly string[], options?: { readonly partial: boolean }): Promise<string[]> {
    await this.#options.root.require();
    const { announced, believed } = await this.#absence.judge(gone, this.#opened().size, options);
    for (const key of [...announced, ...believed]) await this.#refresh(key, "announced");
    return believed;
  }

  /**
   * Reads the object as it is now into the inventory. One that is not there goes only when that was announced, or was
   * judged; until then nobody can vouch for it.
   */
  #refresh(key: string, deletion: "announced" | "unheard" = "unheard"): Promise<void> {
    return this.#turns.run(key, async () => {
      const inventory = this.#opened();
      try {
        const object = await hashObject(this.#options.backend, key);
        if (object === null && inventory.get(key) !== undefined) {
          await this.#options.root.require();
          if (deletion === "unheard") {
            this.#absent.add(key);
            throw new Error("it is not there, and nobody announced its deletion");
          }
        }
        this.#absent.delete(key);
        this.#unreadable.delete(key);
        this.#note(key, object !== null);
        if (object === null) inventory.delete(key);
        else inventory.set(key, object);
      } catch (error) {
        if (!this.#unreadable.has(key))
          this.#options.log.warn({ key, err: error }, "an object cannot be read");
        this.#unreadable.set(key, error instanceof Error ? error.message : String(error));
        this.#options.onChange();
      }
    });
  }

  #opened(): Inventory {
    invariant(this.#inventory !== null, "the inventory is used before it is open");
    return this.#inventory;
  }

  #note(key: string, exists: boolean): void {
    if (exists && this.#options.ownerLookup.object(key) === null) this.#unowned.add(key);
    else this.#unowned.delete(key);
  }
}
