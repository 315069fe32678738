/**
 * The tables whose rows may have become others without a change of a row: by an ALTER TABLE, a partition that came or went,
 * a TRUNCATE. Until they are compared whole, what the stream says of them is applied as far as it fits: it may be of a
 * shape, or of rows, that the target has in another way. The comparison then puts right what is left.
 */
import type { Schema } from "../inventory/schema.ts";
import type { Moving } from "./moved-tables.ts";
import { ancestorsOf } from "./traits.ts";

export class Suspects {
  /** By name of the table: when it was noted last. */
  readonly #noted = new Map<string, number>();
  /** Of partitions, whatever became of them: their table. */
  readonly #roots: Map<string, string>;
  #turn = 0;

  /** With what another one knows, and comes to know, of partitions. */
  constructor(like?: Suspects) {
    this.#roots = like === undefined ? new Map() : like.#roots;
  }

  get size(): number {
    return this.#noted.size;
  }

  has(table: string): boolean {
    return this.#noted.has(table);
  }

  names(): string[] {
    return [...this.#noted.keys()];
  }

  /** So that a partition that is dropped later is known. */
  learn(schema: Schema): void {
    for (const table of schema.values())
      for (const member of table.members) this.#roots.set(member, table.name);
  }

  /** Is it one of these tables, or a partition of one? */
  knows(relation: string, schema: Schema): boolean {
    return schema.has(relation) || this.#roots.has(relation);
  }

  /** @param relations as `cleave.schema_change` has them; null is for any */
  note(relations: readonly string[] | null, moving: Moving): void {
    this.#turn += 1;
    const named = relations === null ? null : new Set(relations.map((name) => this.#roots.get(name) ?? name));
    for (const { name } of moving.tables) {
      // Whose a row is, is found by its parents, so what became of these concerns it too.
      const concerned =
        named === null ||
        named.has(name) ||
        [...ancestorsOf(moving.ownership, name)].some((parent) => named.has(parent));
      if (concerned) this.#noted.set(name, this.#turn);
    }
  }

  /** A moment for `clear`. */
  get turn(): number {
    return this.#turn;
  }

  /** It was compared whole, by a comparison that began at `turn`. */
  clear(table: string, turn: number): void {
    if ((this.#noted.get(table) ?? Number.POSITIVE_INFINITY) <= turn) this.#noted.delete(table);
  }
}

/** What the applier of a stream is told of changes of the schema. */
export interface SchemaChanges {
  /** The plan that it goes by is of after that transaction of the source. */
  isKnown(xid: number): boolean;
  readonly suspects: Suspects;
}
