/**
 * A record of the log as every process has to read it, also when it cannot: the answer depends on the bytes alone,
 * because all processes must fold the same (I8).
 */
import { decode } from "@msgpack/msgpack";
import { decodeRecord } from "../codec.ts";
import { type CleaveError, toCleaveError } from "../errors.ts";
import type { ReadRecord } from "../events.ts";

export interface ReadOutcome {
  readonly record: ReadRecord;
  /** What to say about it to an operator; null for a record in order. */
  readonly error: CleaveError | null;
}

/**
 * Bytes that no Cleave ever wrote become a record without events: they decide nothing and halt nothing. Bytes that
 * look like a record, of a newer version or of a broken one, become an unknown event: whoever cannot read what was
 * decided must not act on (rule 13). `storedAt` stands in for a time that cannot be read, in ms since 1970.
 */
export function readRecord(bytes: Uint8Array, storedAt: number): ReadOutcome {
  try {
    return { record: decodeRecord(bytes), error: null };
  } catch (thrown) {
    const error = toCleaveError(thrown, "MESSAGE_MALFORMED");
    const version = claimedVersion(bytes);
    if (version === null) return { record: { at: storedAt, by: "unreadable", events: [] }, error };
    const event = { type: "Unknown", event: { type: "UnreadableRecord", v: version } } as const;
    return { record: { at: storedAt, by: "unreadable", events: [event] }, error };
  }
}

/** The version that a record of Cleave's names, or null when the bytes are none. */
function claimedVersion(bytes: Uint8Array): number | null {
  try {
    const value = decode(bytes) as { v?: unknown; events?: unknown } | null;
    return Number.isInteger(value?.v) && value?.events !== undefined ? (value.v as number) : null;
  } catch {
    return null;
  }
}
