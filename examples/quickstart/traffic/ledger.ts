/**
 * What clients know: every write that ended, as it ended for the client. The audit holds the Pods against it.
 *
 * One key (an issue, a ref, an object) has one writer, which never writes it twice at once; after an answer that
 * did not come, the key is left alone. So the last acknowledged state of a key is known exactly, and where an
 * answer is missing there are exactly two possible states.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

export type WriteKind = "issue" | "ref" | "object";

export interface LedgerEntry {
  readonly kind: WriteKind;
  readonly organization: string;
  /** The write id; `PROJECT ref` for a ref; the object's name. */
  readonly key: string;
  /** Grows with every write of the key. */
  readonly revision: number;
  /** The title, the commit, the SHA-256 of the content; null when it was deleted. */
  readonly state: string | null;
  readonly outcome: "acknowledged" | "ambiguous";
  /** Milliseconds since 1970, with fractions. `endedAt`: of the answer, or of giving up. */
  readonly sentAt: number;
  readonly endedAt: number;
  /** The Pod that answered, where the client learns it. */
  readonly podId: string | null;
  /** The client kept its transaction open on purpose, so its duration says nothing about the Pod. */
  readonly long?: true;
}

/** Milliseconds since 1970 that never go back within a process. */
export function clock(): number {
  return performance.timeOrigin + performance.now();
}

/** Appends entries to a file: what was written survives the traffic's own end, however it comes. */
export class Ledger {
  readonly #file: number;
  #buffer: string[] = [];
  acknowledged = 0;
  ambiguous = 0;

  constructor(path: string) {
    this.#file = openSync(path, "a");
  }

  add(entry: LedgerEntry): void {
    if (entry.outcome === "acknowledged") this.acknowledged += 1;
    else this.ambiguous += 1;
    this.#buffer.push(JSON.stringify(entry));
    if (this.#buffer.length >= 64) this.flush();
  }

  flush(): void {
    if (this.#buffer.length === 0) return;
    writeSync(this.#file, `${this.#buffer.join("\n")}\n`);
    this.#buffer = [];
  }

  close(): void {
    this.flush();
    closeSync(this.#file);
  }
}

export function readLedger(path: string): LedgerEntry[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as LedgerEntry);
}

/** What must be found of one key, and what may be found instead because an answer is missing. */
export interface Expected {
  readonly kind: WriteKind;
  readonly organization: string;
  readonly key: string;
  /** The last acknowledged write, or null when none was. */
  readonly acknowledged: LedgerEntry | null;
  /** A later write without an answer, or null. */
  readonly ambiguous: LedgerEntry | null;
}

/** Folds a ledger into one expectation per key; the map's keys are made by `ledgerKey`. */
export function expectations(entries: Iterable<LedgerEntry>): Map<string, Expected> {
  const result = new Map<string, Expected>();
  for (const entry of entries) {
    const id = ledgerKey(entry);
    const { kind, organization, key } = entry;
    const before = result.get(id) ?? { kind, organization, key, acknowledged: null, ambiguous: null };
    if (entry.outcome === "ambiguous") result.set(id, { ...before, ambiguous: entry });
    else if (before.acknowledged === null || entry.revision > before.acknowledged.revision)
      result.set(id, { ...before, acknowledged: entry });
  }
  return result;
}

export function ledgerKey(entry: { kind: WriteKind; organization: string; key: string }): string {
  return JSON.stringify([entry.kind, entry.organization, entry.key]);
}
