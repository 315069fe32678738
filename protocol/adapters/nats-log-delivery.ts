/**
 * Delivery of the log to one subscriber over an ephemeral push consumer: the server sends at once, nothing polls.
 * Consumers die with their server, connections break and messages get lost: every one of these ends in the same
 * step, a new consumer that begins after the last record received. So order and exactly-once rest on the sequence
 * alone, not on what the client or the server remember.
 */
import {
  AckPolicy,
  createInbox,
  DeliverPolicy,
  type JetStreamManager,
  type Msg,
  nanos,
  ReplayPolicy,
  type Subscription,
} from "nats";
import { toCleaveError } from "../errors.ts";
import type { ReadRecord } from "../events.ts";
import { Pause } from "../pause.ts";
import type { Clock } from "../ports/clock.ts";
import type { LogSubscription } from "../ports/event-log.ts";
import type { Logger } from "../ports/logger.ts";
import type { NatsLink } from "./nats-connection.ts";
import { readRecord } from "./read-record.ts";

export interface DeliveryOptions {
  readonly link: NatsLink;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stream: string;
  /** Resolves once the stream exists. */
  readonly manager: () => Promise<JetStreamManager>;
  readonly afterSequence: number;
  readonly onRecord: (record: ReadRecord, sequence: number) => Promise<void> | void;
  /** `onRecord` threw; delivery has ended. */
  readonly onBroken: (error: unknown) => void;
}

const HEARTBEAT_MS = 1_000;
/** Silence of a living connection after which the consumer counts as gone. */
const SILENCE_MS = 2_500;
const RETRY_MS = 200;
/** After a gap or on a cut log the same question would get the same answer for a while. */
const GAP_RETRY_MS = 1_000;

interface Stamp {
  readonly sequence: number;
  readonly storedAt: number;
}
type Item = { readonly message: Msg; readonly stamp: Stamp } | { readonly flowControl: Msg };

export class LogDelivery implements LogSubscription {
  readonly #options: DeliveryOptions;
  readonly #closing = new AbortController();
  readonly #queue: Item[] = [];
  readonly #forgetReconnect: () => void;
  /** Highest sequence queued; every lower one was queued before it. */
  #received: number;
  #subscription: Subscription | null = null;
  #heardAt = 0;
  #pumping: Promise<void> = Promise.resolve();
  #pumps = false;
  /** The consumer has to be made anew, after this pause; null while the present one is good. */
  #renewAfterMs: number | null = 0;
  readonly #pause: Pause;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#received = options.afterSequence;
    this.#pause = new Pause(options.clock);
    this.#forgetReconnect = options.link.onReconnect(() => this.#renew(0));
    void this.#keepConsuming();
  }

  async close(): Promise<void> {
    this.#end();
    await this.#pumping;
  }

  #end(): void {
    this.#closing.abort(new Error("closed"));
    this.#pause.wake();
    this.#forgetReconnect();
    this.#drop();
  }

  #drop(): void {
    const subscription = this.#subscription;
    this.#subscription = null;
    if (subscription && !subscription.isClosed()) subscription.unsubscribe();
  }

  #renew(afterMs: number): void {
    this.#renewAfterMs = Math.max(this.#renewAfterMs ?? 0, afterMs);
    this.#drop();
    this.#pause.wake();
  }

  async #keepConsuming(): Promise<void> {
    const { clock, link, logger } = this.#options;
    const signal = this.#closing.signal;
    while (!signal.aborted) {
      try {
        if (this.#renewAfterMs !== null) {
          if (this.#renewAfterMs > 0) await clock.sleep(this.#renewAfterMs, signal);
          this.#renewAfterMs = null;
          await this.#consume();
        }
        await this.#nextLook();
        if (!link.connected() || clock.monotonic() - this.#heardAt <= SILENCE_MS) continue;
        logger.warn(
          { afterSequence: this.#received },
          "the log's consumer is silent; reading on with a new one",
        );
        this.#renew(0);
      } catch (error) {
        if (signal.aborted) return;
        const detail = toCleaveError(error).message;
        logger.warn({ code: "NATS_UNREACHABLE", detail }, "the log cannot be read; retrying");
        this.#renew(RETRY_MS);
      }
    }
  }

  /** Resolves after a heartbeat's time, or at once when the consumer has to be renewed or delivery ended. */
  async #nextLook(): Promise<void> {
    this.#pause.look();
    if (this.#renewAfterMs === null) await this.#pause.wait(HEARTBEAT_MS);
  }

  async #consume(): Promise<void> {
    const { clock, link, manager, stream } = this.#options;
    const connection = await link.ready();
    const jsm = await manager();
    const { state } = await jsm.streams.info(stream);
    if (this.#closing.signal.aborted) return;
    if (state.last_seq < this.#received) {
      // Another log, or one that was cut: waiting until its sequences catch up would mix two histories.
      this.#gap(`the log ends at ${state.last_seq}, but ${this.#received} was already read`);
      return;
    }
    this.#drop();
    const inbox = createInbox(this.#options.link.inboxPrefix);
    const subscription = connection.subscribe(inbox, {
      callback: (error, message) => {
        if (this.#subscription !== subscription) return;
        if (error) this.#renew(RETRY_MS);
        else this.#onMessage(message);
      },
    });
    this.#subscription = subscription;
    this.#heardAt = clock.monotonic();
    await jsm.consumers.add(stream, {
      deliver_subject: inbox,
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#received + 1,
      replay_policy: ReplayPolicy.Instant,
      flow_control: true,
      idle_heartbeat: nanos(HEARTBEAT_MS),
      inactive_threshold: nanos(10_000),
      mem_storage: true,
      num_replicas: 1,
    });
  }

  #onMessage(message: Msg): void {
    this.#heardAt = this.#options.clock.monotonic();
    if (message.headers?.code === 100) {
      this.#onStatus(message);
      return;
    }
    const stamp = stampOf(message);
    if (stamp === null) this.#gap(`a message without a sequence (${message.reply})`);
    else if (stamp.sequence > this.#received + 1)
      this.#gap(`record ${stamp.sequence} came after record ${this.#received}`);
    else if (stamp.sequence === this.#received + 1) {
      this.#received = stamp.sequence;
      this.#enqueue({ message, stamp });
    }
  }

  #onStatus(message: Msg): void {
    if (message.reply) {
      // Answered in turn, so that the server waits while the subscriber is behind and memory stays bounded.
      this.#enqueue({ flowControl: message });
      return;
    }
    const stalledOn = message.headers?.get("Nats-Consumer-Stalled");
    if (stalledOn && !this.#pumps) {
      void this.#options.link.ready().then((connection) => connection.publish(stalledOn));
    }
    const sent = Number(message.headers?.get("Nats-Last-Stream") ?? 0);
    if (sent > this.#received) this.#gap(`record ${sent} was sent, but only ${this.#received} arrived`);
  }

  /** Never skipped: what is missing is asked for again, for as long as it takes. */
  #gap(what: string): void {
    this.#options.logger.error({ code: "INTERNAL", afterSequence: this.#received }, `${what}; reading again`);
    this.#renew(GAP_RETRY_MS);
  }

  #enqueue(item: Item): void {
    this.#queue.push(item);
    if (!this.#pumps) this.#pumping = this.#pump();
  }

  async #pump(): Promise<void> {
    this.#pumps = true;
    try {
      for (let item = this.#queue.shift(); item; item = this.#queue.shift()) {
        if (this.#closing.signal.aborted) return;
        if ("flowControl" in item) item.flowControl.respond();
        else await this.#options.onRecord(this.#read(item.message, item.stamp), item.stamp.sequence);
      }
    } catch (error) {
      // A subscriber that is being stopped may throw because of it.
      if (this.#closing.signal.aborted) return;
      this.#end();
      this.#options.onBroken(error);
    } finally {
      this.#pumps = false;
    }
  }

  #read(message: Msg, stamp: Stamp): ReadRecord {
    const { record, error } = readRecord(message.data, stamp.storedAt);
    if (error) this.#options.logger.error({ code: error.code, sequence: stamp.sequence }, error.message);
    return record;
  }
}

/**
 * JetStream puts a record's place into the reply subject:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<nanoseconds>.<pending>`;
 * newer servers put domain and account before the stream and a token at the end.
 */
function stampOf(message: Msg): Stamp | null {
  const tokens = (message.reply ?? "").split(".");
  const offset = tokens.length === 9 ? 5 : 7;
  const sequence = Number(tokens[offset]);
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK" || !Number.isSafeInteger(sequence) || sequence < 1)
    return null;
  return { sequence, storedAt: Math.floor(Number(tokens[offset + 2]) / 1e6) };
}
