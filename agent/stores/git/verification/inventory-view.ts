/** The part of the inventory that one migration compares: the repositories of its organizations. */
import { InventoryDigest } from "../../common/verification/inventory-digest.ts";
import { comparable, type RepositoryEntry } from "../inventory/repository-entry.ts";

export class InventoryView {
  readonly owners: ReadonlySet<string>;
  readonly #digest = new InventoryDigest();
  readonly #unreadable = new Map<string, string>();
  readonly #paths = new Set<string>();

  /** `owners` as entries name them: `ownerText`. */
  constructor(owners: ReadonlySet<string>) {
    this.owners = owners;
  }

  covers(entry: RepositoryEntry): boolean {
    return entry.owner !== null && this.owners.has(entry.owner);
  }

  update(entry: RepositoryEntry): void {
    const { path } = entry;
    if (this.covers(entry) && !entry.deleted) this.#paths.add(path);
    else this.#paths.delete(path);
    const text = this.covers(entry) ? comparable(entry) : null;
    if (text === null) this.#digest.delete(path);
    else this.#digest.set(path, text);
    if (!entry.deleted && this.covers(entry) && text === null) this.#unreadable.set(path, entry.detail);
    else this.#unreadable.delete(path);
  }

  /** Path → why. While there is any, there is no evidence (rule 11). */
  get unreadable(): ReadonlyMap<string, string> {
    return this.#unreadable;
  }

  /** Readable or not. */
  get paths(): ReadonlySet<string> {
    return this.#paths;
  }

  get size(): number {
    return this.#digest.size;
  }

  /** `<count>/<root>`: equal on two Pods exactly when they hold the same. */
  get digest(): string {
    return `${this.#digest.size}/${this.#digest.root()}`;
  }
}
