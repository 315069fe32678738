/**
 * Which trace a record of the log belongs to. Derived from the log alone, so that every process gives the same ids
 * without a word about it on the wire: nothing of a trace is part of a decision.
 */
import { createHash } from "node:crypto";
import type { ReadRecord } from "../events.ts";
import { fieldsOf } from "./log-fields.ts";

/** Ids as OpenTelemetry writes them: 32 and 16 hexadecimal characters. */
export interface TracePoint {
  readonly traceId: string;
  readonly spanId: string;
}

export interface TracedRecord {
  readonly migration: string;
  readonly sequence: number;
  readonly types: readonly string[];
  readonly by: string;
  readonly point: TracePoint;
  /** The operator's command from which it follows; null: it is one itself. */
  readonly parent: TracePoint | null;
}

/** Folds the log: an operator's command begins a trace, and whatever the migration does then belongs to it. */
export class TraceBook {
  readonly #commands = new Map<string, TracePoint>();
  readonly #newest = new Map<string, TracePoint>();
  #sequence = 0;

  /** The last record that was folded. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Null for a record that is known already or concerns no migration. Records come in order, without gaps. */
  fold(record: ReadRecord, sequence: number): TracedRecord | null {
    if (sequence <= this.#sequence) return null;
    this.#sequence = sequence;
    const migration = record.events.map((event) => fieldsOf(event).migration).find((id) => id !== undefined);
    if (migration === undefined) return null;
    const before = this.#commands.get(migration);
    const begins = before === undefined || record.by.startsWith("operator:");
    // With the time: another cluster, or the same one set up anew, has other traces.
    const id = (what: string) =>
      createHash("sha256")
        .update(JSON.stringify([what, migration, sequence, record.at, record.by]))
        .digest("hex");
    const spanId = id("span").slice(0, 16);
    const point = begins
      ? { traceId: id("trace").slice(0, 32), spanId }
      : { traceId: before.traceId, spanId };
    if (begins) this.#commands.set(migration, point);
    this.#newest.set(migration, point);
    const types = record.events.map((event) => (event.type === "Unknown" ? event.event.type : event.type));
    return { migration, sequence, types, by: record.by, point, parent: begins ? null : before };
  }

  /** Of the migration's newest record: what an agent does now follows from it. */
  newest(migration: string): TracePoint | null {
    return this.#newest.get(migration) ?? null;
  }
}
