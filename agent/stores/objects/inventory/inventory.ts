/**
 * What a Pod holds: key → size, content digest, and the generation of its last change. In memory, with a file beside
 * it that saves hashing everything again after a restart; the file is a cache, checked against the objects at start.
 */
import { randomUUID } from "node:crypto";
import { basename, dirname } from "node:path";
import { StateFile } from "../../common/state-file.ts";
import { InventoryDigest } from "../../common/verification/inventory-digest.ts";
import type { HashedObject } from "../backend/hashing.ts";

export interface InventoryEntry extends HashedObject {
  readonly generation: number;
}

export interface InventoryChange {
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly deleted: boolean;
  readonly generation: number;
}

/** Beyond this many remembered deletions readers start anew rather than the memory growing for ever. */
const MAX_TOMBSTONES = 1_000_000;

interface Scope {
  readonly contains: (key: string) => boolean;
  readonly digest: InventoryDigest;
}

export class Inventory {
  readonly #file: StateFile;
  readonly #entries = new Map<string, InventoryEntry>();
  readonly #deleted = new Map<string, number>();
  readonly #scopes = new Set<Scope>();
  readonly #listeners = new Set<() => void>();
  /** Keys by generation, ascending; superseded ones stay until the next compaction. */
  #order: { generation: number; key: string }[] = [];
  #incarnation = randomUUID();
  #generation = 0;
  #bytes = 0;
  #unsaved: string[] = [];
  #saving: Promise<void> | null = null;

  private constructor(file: StateFile) {
    this.#file = file;
  }

  /** Reads what an earlier process saved; damaged lines are left out, and their objects hashed again. */
  static async open(path: string): Promise<Inventory> {
    const file = new StateFile(dirname(path), basename(path));
    const inventory = new Inventory(file);
    await file.makeFolder();
    const text = (await file.readIfPresent()) ?? "";
    const found = new Map<string, HashedObject>();
    for (const line of text.split("\n")) readLine(line, found);
    for (const [key, object] of found) inventory.#put(key, object);
    await inventory.#rewrite();
    return inventory;
  }

  /** Generations of one incarnation can be compared; another incarnation means: read everything. */
  get incarnation(): string {
    return this.#incarnation;
  }
  get generation(): number {
    return this.#generation;
  }
  get size(): number {
    return this.#entries.size;
  }
  get bytes(): number {
    return this.#bytes;
  }
  keys(): IterableIterator<string> {
    return this.#entries.keys();
  }
  get(key: string): InventoryEntry | undefined {
    return this.#entries.get(key);
  }

  /** The generation grows only when the content is another. */
  set(key: string, object: HashedObject): void {
    const before = this.#entries.get(key);
    if (before?.version === object.version && before.sha256 === object.sha256) return;
    this.#save(JSON.stringify([key, object.bytes, object.sha256, object.version]));
    this.#put(key, object);
  }

  delete(key: string): void {
    const before = this.#entries.get(key);
    if (before === undefined) return;
    this.#save(JSON.stringify([key]));
    this.#entries.delete(key);
    this.#bytes -= before.bytes;
    for (const scope of this.#scopes) scope.digest.delete(key);
    this.#generation += 1;
    this.#deleted.set(key, this.#generation);
    this.#order.push({ generation: this.#generation, key });
    if (this.#deleted.size > MAX_TOMBSTONES) {
      this.#deleted.clear();
      this.#incarnation = randomUUID();
    }
    this.#changed();
  }

  /** A digest over the keys of a scope that follows every change. Costs a pass now and nothing later. */
  addScope(contains: (key: string) => boolean): {
    readonly digest: InventoryDigest;
    readonly remove: () => void;
  } {
    const scope: Scope = { contains, digest: new InventoryDigest() };
    for (const [key, entry] of this.#entries) if (contains(key)) scope.digest.set(key, contentOf(entry));
    this.#scopes.add(scope);
    return { digest: scope.digest, remove: () => this.#scopes.delete(scope) };
  }

  /** Changes with `since < generation <= upTo`, oldest first, at most `limit`; each key once, as it is now. */
  changes(since: number, upTo: number, limit: number): { changes: InventoryChange[]; remaining: number } {
    const changes: InventoryChange[] = [];
    let index = this.#indexAfter(since);
    const end = this.#indexAfter(upTo);
    for (; index < end && changes.length < limit; index++) {
      const { key, generation } = this.#order[index] as { key: string; generation: number };
      const entry = this.#entries.get(key);
      if (entry?.generation === generation)
        changes.push({ key, bytes: entry.bytes, sha256: entry.sha256, deleted: false, generation });
      else if (entry === undefined && this.#deleted.get(key) === generation)
        changes.push({ key, bytes: 0, sha256: "", deleted: true, generation });
    }
    return { changes, remaining: end - index };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when everything so far is in the file (not necessarily synced: it is a cache). */
  async saved(): Promise<void> {
    while (this.#saving !== null) await this.#saving;
  }

  /** Forgets everything, the file included: nothing of it is needed any more. */
  async discard(): Promise<void> {
    for (const key of [...this.#entries.keys()]) this.delete(key);
    await this.saved();
    await this.#file.remove();
  }

  #put(key: string, object: HashedObject): void {
    const before = this.#entries.get(key);
    const same = before !== undefined && before.sha256 === object.sha256 && before.bytes === object.bytes;
    if (!same) this.#generation += 1;
    const entry = { ...object, generation: same ? before.generation : this.#generation };
    this.#entries.set(key, entry);
    if (same) return;
    this.#deleted.delete(key);
    this.#bytes += object.bytes - (before?.bytes ?? 0);
    this.#order.push({ generation: this.#generation, key });
    if (this.#order.length > 2 * (this.#entries.size + this.#deleted.size) + 1_000) this.#compact();
    for (const scope of this.#scopes) if (scope.contains(key)) scope.digest.set(key, contentOf(entry));
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #compact(): void {
    this.#order = this.#order.filter(
      ({ key, generation }) =>
        this.#entries.get(key)?.generation === generation || this.#deleted.get(key) === generation,
    );
  }

  #indexAfter(generation: number): number {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#order[middle]?.generation ?? 0) <= generation) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #save(line: string): void {
    this.#unsaved.push(line);
    this.#saving ??= this.#flush().finally(() => {
      this.#saving = null;
    });
  }

  async #flush(): Promise<void> {
    while (this.#unsaved.length > 0) {
      const lines = this.#unsaved;
      this.#unsaved = [];
      try {
        // The leading line end closes a line that a full disk or a kill cut off.
        await this.#file.append(`\n${lines.join("\n")}\n`);
      } catch {
        // A lost line costs hashing one object again; a lost deletion is found when the object is looked for.
        return;
      }
    }
  }

  async #rewrite(): Promise<void> {
    const lines = [...this.#entries].map(([key, e]) => JSON.stringify([key, e.bytes, e.sha256, e.version]));
    // On a full disk the old file stays, which says the same in more lines.
    await this.#file.replace(`${lines.join("\n")}\n`, { durable: false }).catch(() => undefined);
  }
}

function contentOf(entry: HashedObject): string {
  return `${entry.bytes} ${entry.sha256}`;
}

function readLine(line: string, into: Map<string, HashedObject>): void {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return;
  }
  if (!Array.isArray(value) || typeof value[0] !== "string") return;
  const [key, bytes, sha256, version] = value as [string, unknown, unknown, unknown];
  if (value.length === 1) into.delete(key);
  else if (typeof bytes === "number" && typeof sha256 === "string" && typeof version === "string")
    into.set(key, { bytes, sha256, version });
}
