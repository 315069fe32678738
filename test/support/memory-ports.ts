/** Ports in memory, for tests of the loops: one log, one bus, one blob store for any number of processes. */
import { digestOf } from "../../protocol/assignments.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import { decodeRecord, decodeReport, encodeRecord, encodeReport } from "../../protocol/codec.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { LogRecord, ReadRecord } from "../../protocol/events.ts";
import type { Digest } from "../../protocol/ids.ts";
import type { Report } from "../../protocol/messages.ts";
import type { AgentFacts, AgentMemory } from "../../protocol/ports/agent-memory.ts";
import type { Blobs } from "../../protocol/ports/blobs.ts";
import type { Bus } from "../../protocol/ports/bus.ts";
import type { Checkpoints } from "../../protocol/ports/checkpoints.ts";
import type { AppendResult, EventLog, LogSubscription } from "../../protocol/ports/event-log.ts";

export class MemoryLog implements EventLog {
  readonly records: Uint8Array[] = [];
  readonly #subscribers = new Set<() => void>();
  /** While true the log answers nobody, as an unreachable NATS. */
  down = false;

  async append(record: LogRecord, expectedSequence: number): Promise<AppendResult> {
    await Promise.resolve();
    if (this.down) throw new CleaveError("LOG_APPEND_UNKNOWN", "the log is down");
    if (expectedSequence !== this.records.length) return { outcome: "conflict" };
    this.records.push(encodeRecord(record));
    for (const deliver of this.#subscribers) deliver();
    return { outcome: "appended", sequence: this.records.length };
  }

  async subscribe(
    afterSequence: number,
    onRecord: (record: ReadRecord, sequence: number) => Promise<void> | void,
  ): Promise<LogSubscription> {
    let next = afterSequence;
    let delivering = Promise.resolve();
    const deliver = () => {
      delivering = delivering.then(async () => {
        while (!this.down && this.#subscribers.has(deliver) && next < this.records.length) {
          next += 1;
          await onRecord(decodeRecord(this.records[next - 1] as Uint8Array), next);
        }
      });
    };
    this.#subscribers.add(deliver);
    deliver();
    return { close: async () => void this.#subscribers.delete(deliver) };
  }

  async lastSequence(): Promise<number> {
    if (this.down) throw new CleaveError("NATS_UNREACHABLE", "the log is down");
    return this.records.length;
  }

  /** The log answers again, and delivers what was missed. */
  restore(): void {
    this.down = false;
    for (const deliver of this.#subscribers) deliver();
  }

  types(): string[] {
    return this.records.flatMap((bytes) => decodeRecord(bytes).events.map((event) => event.type));
  }
}

export class MemoryBus implements Bus {
  readonly #listeners = new Set<(report: Report) => void>();
  publishReport(report: Report): void {
    const bytes = encodeReport(report);
    queueMicrotask(() => {
      for (const listener of this.#listeners) listener(decodeReport(bytes));
    });
  }
  onReport(onReport: (report: Report) => void): () => void {
    this.#listeners.add(onReport);
    return () => this.#listeners.delete(onReport);
  }
  connected(): boolean {
    return true;
  }
}

export class MemoryBlobs implements Blobs {
  readonly #blobs = new Map<Digest, Uint8Array>();
  async put(bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return digest;
  }
  async get(digest: Digest): Promise<Uint8Array> {
    const bytes = this.#blobs.get(digest);
    if (!bytes) throw new CleaveError("BLOB_CORRUPT", `${digest} is missing`);
    return bytes;
  }
}

/** What a process keeps over a restart in the same test. */
export class MemoryDisk implements Checkpoints {
  #state: ClusterState | null = null;
  #facts: AgentFacts | null = null;
  readonly memory: AgentMemory = {
    load: async () => this.#facts,
    save: async (facts) => {
      this.#facts = facts;
    },
  };
  async load(): Promise<ClusterState | null> {
    return this.#state;
  }
  async save(state: ClusterState): Promise<void> {
    this.#state = state;
  }
}
