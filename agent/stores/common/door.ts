/**
 * What the doors of all stores do alike: one part for each migration, which answers for it, and listeners who hear when an
 * answer may be another one by now. What a store does with a duty is its own.
 */
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";

/** What a store has in hand for one migration. */
export interface Part {
  /** What is known now, from memory. */
  status(): StoreStatus;
  /** Ends background work; leaves what the store holds, and its fences, as they are. */
  close(): Promise<void>;
}

export class Listeners {
  readonly #listeners = new Set<() => void>();

  /** Returns what ends it. */
  readonly add = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Those that were there when it began, whatever they add or end meanwhile. */
  readonly tell = (): void => {
    for (const listener of [...this.#listeners]) listener();
  };

  clear(): void {
    this.#listeners.clear();
  }
}

export class Door<P extends Part> {
  readonly listeners = new Listeners();
  readonly #parts = new Map<MigrationId, P>();

  /** Null for a migration that nothing was asked for yet, or that was forgotten. */
  status(migrationId: MigrationId): StoreStatus | null {
    return this.#parts.get(migrationId)?.status() ?? null;
  }

  part(migrationId: MigrationId): P | undefined {
    return this.#parts.get(migrationId);
  }

  parts(): IterableIterator<[MigrationId, P]> {
    return this.#parts.entries();
  }

  /** From now on `part` answers for the migration. Whoever did before is closed by whoever calls. */
  admit<Q extends P>(migrationId: MigrationId, part: Q): Q {
    this.#parts.set(migrationId, part);
    return part;
  }

  /** Nothing answers for the migration any more. */
  forget(migrationId: MigrationId): void {
    this.#parts.delete(migrationId);
  }

  /** Resolves when every part is closed. They go on answering, with what they knew last. */
  async close(): Promise<void> {
    await Promise.all([...this.#parts.values()].map((part) => part.close()));
  }

  forgetAll(): void {
    this.#parts.clear();
  }
}
