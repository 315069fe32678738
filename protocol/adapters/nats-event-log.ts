/** The log on NATS JetStream: one stream, one subject, one total order, appended by compare-and-set (rule 1). */
import {
  DiscardPolicy,
  type JetStreamManager,
  NatsError,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "nats";
import { encodeRecord, MAX_MESSAGE_BYTES } from "../codec.ts";
import { CleaveError, invariant } from "../errors.ts";
import type { LogRecord, ReadRecord } from "../events.ts";
import type { Clock } from "../ports/clock.ts";
import type { AppendResult, EventLog, LogSubscription } from "../ports/event-log.ts";
import type { Logger } from "../ports/logger.ts";
import type { Random } from "../ports/random.ts";
import type { NatsLink } from "./nats-connection.ts";
import { LogDelivery } from "./nats-log-delivery.ts";

export const LOG_STREAM = "CLEAVE";
export const LOG_SUBJECT = "cleave.log";

/** JetStream's "wrong last sequence". */
const WRONG_LAST_SEQUENCE = 10071;
/** JetStream's "stream name already in use with a different configuration". */
const NAME_IN_USE = 10058;
const API_TIMEOUT_MS = 2_000;
/** An acknowledgement takes well under 1 ms; a replicated stream that lost its leader needs seconds. */
const ACKNOWLEDGE_MS = 1_000;
const ATTEMPTS = 3;
/** A leader that heard from no majority for this long may have been replaced without knowing it. */
const QUORUM_SILENCE_MS = 2_000;
/** Room for the headers of an append beside the record itself. */
const HEADER_BYTES = 1_024;

export interface NatsEventLogOptions {
  readonly link: NatsLink;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Of the stream, when it is created. */
  readonly replicas: number;
  /** For how long the server remembers an append's id, when the stream is created. */
  readonly duplicateWindowMs?: number;
  /**
   * Called when a subscriber threw: it cannot go on, since a record may not be skipped nor given twice.
   * The process should stop. By default an error line is logged.
   */
  readonly onBroken?: (error: unknown) => void;
}

export class NatsEventLog implements EventLog {
  readonly #options: NatsEventLogOptions;
  #manager: JetStreamManager | null = null;

  constructor(options: NatsEventLogOptions) {
    this.#options = options;
  }

  async append(record: LogRecord, expectedSequence: number): Promise<AppendResult> {
    const bytes = encodeRecord(record);
    const id = this.#options.random.hex(16);
    const expected = expectedSequence + 1;
    let lost = "NATS is not connected";
    let sent = 0;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        const manager = await this.#reachable();
        sent++;
        const sequence = await this.#publish(manager, bytes, id, expectedSequence);
        // Also when the answer says "duplicate": that is our own earlier attempt, whose answer was lost.
        invariant(sequence === expected, `an append after ${expectedSequence} was stored at ${sequence}`);
        return { outcome: "appended", sequence };
      } catch (error) {
        if (error instanceof CleaveError && error.code !== "NATS_UNREACHABLE") throw error;
        if (error instanceof NatsError && error.api_error?.err_code === WRONG_LAST_SEQUENCE) {
          // A first attempt that is refused was never stored. A later one may be refused because of the first.
          if (sent === 1 || !(await this.#isOurs(expected, id))) return { outcome: "conflict" };
          return { outcome: "appended", sequence: expected };
        }
        lost = messageOf(error);
      }
    }
    throw new CleaveError("LOG_APPEND_UNKNOWN", `no answer to an append after ${expectedSequence}: ${lost}`);
  }

  async subscribe(
    afterSequence: number,
    onRecord: (record: ReadRecord, sequence: number) => Promise<void> | void,
  ): Promise<LogSubscription> {
    const { link, clock, logger, onBroken } = this.#options;
    return new LogDelivery({
      link,
      clock,
      logger,
      stream: LOG_STREAM,
      manager: () => this.#ensured(),
      afterSequence,
      onRecord,
      onBroken:
        onBroken ?? ((error) => logger.error({ detail: messageOf(error) }, "reading the log stopped")),
    });
  }

  async lastSequence(): Promise<number> {
    try {
      const { link } = this.#options;
      // Waits for the first connection only: later, a request that waits for a server to come back confirms nothing.
      await link.ready();
      if (!link.connected()) throw new Error("NATS is not connected");
      const manager = await this.#ensured();
      const { state, cluster } = await manager.streams.info(LOG_STREAM);
      const followers = cluster?.replicas ?? [];
      const heard = followers.filter((f) => !f.offline && (f.active ?? 0) < nanos(QUORUM_SILENCE_MS)).length;
      // The leader itself counts; half of the others, rounded up, make the majority.
      if (heard < Math.ceil(followers.length / 2))
        throw new Error("the log's leader does not hear from a majority of the NATS servers");
      return state.last_seq;
    } catch (error) {
      if (error instanceof CleaveError) throw error;
      throw new CleaveError("NATS_UNREACHABLE", `the log's last sequence: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Waits a moment for a connection that is being made again; an append must not wait for longer. */
  async #reachable(): Promise<JetStreamManager> {
    const { link, clock } = this.#options;
    const until = clock.monotonic() + ACKNOWLEDGE_MS;
    while (!link.connected()) {
      if (clock.monotonic() >= until) throw new CleaveError("NATS_UNREACHABLE", "NATS is not connected");
      await clock.sleep(20);
    }
    return await this.#ensured();
  }

  async #publish(
    manager: JetStreamManager,
    bytes: Uint8Array,
    id: string,
    expectedSequence: number,
  ): Promise<number> {
    const ack = await manager.jetstream().publish(LOG_SUBJECT, bytes, {
      msgID: id,
      expect: { lastSequence: expectedSequence, streamName: LOG_STREAM },
      timeout: ACKNOWLEDGE_MS,
    });
    return ack.seq;
  }

  /** Whether the record at `sequence` is the one we sent with that id: certain, in either direction. */
  async #isOurs(sequence: number, id: string): Promise<boolean> {
    try {
      const stored = await (await this.#ensured()).streams.getMessage(LOG_STREAM, { seq: sequence });
      return stored.header.get("Nats-Msg-Id") === id;
    } catch (error) {
      throw new CleaveError("LOG_APPEND_UNKNOWN", `reading back record ${sequence}: ${messageOf(error)}`);
    }
  }

  /** The stream's manager, once the stream exists. Waits for the first connection. */
  async #ensured(): Promise<JetStreamManager> {
    if (this.#manager) return this.#manager;
    const connection = await this.#options.link.ready();
    const manager = await connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS });
    await ensureStream(manager, this.#options);
    this.#manager = manager;
    return manager;
  }
}

/** Whether a stream is one that never forgets a record, with the log's subject and no other. */
export function keepsEverything(config: StreamConfig): boolean {
  const { deny_delete, deny_purge, max_msgs, max_bytes, max_age, subjects } = config;
  const keepsAll = deny_delete && deny_purge && max_msgs < 0 && max_bytes < 0 && max_age === 0;
  return keepsAll && subjects.length === 1 && subjects[0] === LOG_SUBJECT;
}

/** @throws CleaveError CONFIG_INVALID when a stream of that name exists that may forget records. */
async function ensureStream(manager: JetStreamManager, options: NatsEventLogOptions): Promise<void> {
  const existing = await manager.streams.info(LOG_STREAM).catch((error: unknown) => {
    if (error instanceof NatsError && error.api_error?.code === 404) return null;
    throw error;
  });
  if (existing) {
    if (keepsEverything(existing.config)) return;
    throw new CleaveError(
      "CONFIG_INVALID",
      `the JetStream stream ${LOG_STREAM} exists with limits or subjects that are not Cleave's`,
    );
  }
  try {
    await manager.streams.add({
      name: LOG_STREAM,
      subjects: [LOG_SUBJECT],
      description: "Cleave: the cluster's log of decisions",
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      num_replicas: options.replicas,
      discard: DiscardPolicy.New,
      max_age: 0,
      max_msgs: -1,
      max_bytes: -1,
      max_msg_size: MAX_MESSAGE_BYTES + HEADER_BYTES,
      duplicate_window: nanos(options.duplicateWindowMs ?? 120_000),
      deny_delete: true,
      deny_purge: true,
    });
  } catch (error) {
    // Another process was first, with another number of replicas in its configuration.
    if (!(error instanceof NatsError && error.api_error?.err_code === NAME_IN_USE)) throw error;
    await ensureStream(manager, options);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
