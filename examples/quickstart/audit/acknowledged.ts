/** Holds what the stores have against what clients know. Pure: both sides arrive as maps. */
import type { Expected } from "../traffic/ledger.ts";

/** The states found under one key: one element where all is well, several for a row that exists twice. */
export type Found = ReadonlyMap<string, readonly string[]>;

export interface Comparison {
  /** An acknowledged write is missing, was overwritten by an older state, or its deletion is undone. */
  readonly lost: readonly string[];
  /** A key that may exist once exists more often. */
  readonly duplicated: readonly string[];
  /** Nobody's write: no client ever sent it. */
  readonly unknown: readonly string[];
}

/**
 * @param expected by `ledgerKey`
 * @param found by `ledgerKey`, of everything that the traffic can have written
 */
export function compare(expected: ReadonlyMap<string, Expected>, found: Found): Comparison {
  const lost: string[] = [];
  const duplicated: string[] = [];
  const unknown: string[] = [];
  for (const [id, { acknowledged, ambiguous }] of expected) {
    const states = found.get(id) ?? [];
    if (states.length > 1) duplicated.push(`${id} is there ${states.length} times`);
    const actual = states[0] ?? null;
    const possible = new Set<string | null>([acknowledged?.state ?? null]);
    // Never acknowledged, so it may have failed; and if it was carried out after all, nobody was told otherwise.
    if (ambiguous !== null) possible.add(ambiguous.state);
    if (!possible.has(actual)) {
      const wanted = [...possible].map((state) => state ?? "nothing").join(" or ");
      lost.push(`${id}: ${wanted} was acknowledged, ${actual ?? "nothing"} is there`);
    }
  }
  for (const id of found.keys()) if (!expected.has(id)) unknown.push(id);
  return { lost, duplicated, unknown };
}
