/**
 * A logical replication slot as a stream of messages with back-pressure. Only what the reader has confirmed (that is:
 * what is durable on the target) is ever acknowledged to the server; keepalives repeat that position and no newer one.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import type pg from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Endpoint } from "../config.ts";
import { connect, describeEndpoint, toPostgresError } from "../server/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";
import { decode, formatLsn, type Message, parseLsn } from "./pgoutput.ts";

const STATUS_EVERY_MS = 1_000;
/** Paused when there is more of either than this, resumed below half of it. */
const QUEUE = { messages: 10_000, bytes: 8 * 1024 * 1024 } as const;
const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;

export interface WalStreamOptions {
  readonly endpoint: Endpoint;
  readonly slot: string;
  readonly publication: string;
  /** Everything up to here is durable on the target. `0/0` for a new slot. */
  readonly from: string;
}

/** What the driver has beside its documented interface: the raw replication protocol. */
interface RawConnection {
  on(event: "copyData", listener: (message: { chunk: Buffer }) => void): void;
  once(event: "replicationStart", listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
  readonly stream: { pause(): void; resume(): void; destroy(): void };
}

export class WalStream {
  readonly #client: pg.Client;
  readonly #connection: RawConnection;
  readonly #queue: { readonly message: Message; readonly bytes: number }[] = [];
  /** What of the queue is read: taking the first element out of a long array is slow. */
  #read = 0;
  #bytes = 0;
  #confirmed: bigint;
  /** The server has nothing before this that was not sent. */
  #sentUpTo: bigint;
  #failure: unknown = null;
  /** Of relations, by their oids: for what cannot be read of one. */
  readonly #names = new Map<number, string>();
  #paused = false;
  #wake: () => void = () => undefined;
  #heard: AbortSignal | null = null;
  #timer: NodeJS.Timeout | null = null;

  private constructor(client: pg.Client, from: bigint) {
    this.#client = client;
    this.#connection = (client as unknown as { connection: RawConnection }).connection;
    this.#confirmed = from;
    this.#sentUpTo = from;
  }

  /**
   * Resolves when the server has begun to stream.
   * @throws CleaveError POSTGRES_UNREACHABLE, or what the server says (the slot is in use, lost, …).
   */
  static async open(options: WalStreamOptions): Promise<WalStream> {
    const { endpoint, slot, publication, from } = options;
    const client = await connect(endpoint, { applicationName: slot, replication: "database" });
    const where = describeEndpoint(endpoint);
    const stream = new WalStream(client, parseLsn(from));
    client.on("error", (error) => stream.#fail(toPostgresError(error, where)));
    try {
      await stream.#start(slot, publication, from, where);
    } catch (error) {
      stream.close();
      throw toPostgresError(error, where);
    }
    return stream;
  }

  #start(slot: string, publication: string, from: string, where: string): Promise<void> {
    this.#connection.on("copyData", ({ chunk }) => this.#receive(chunk));
    const names = quoteLiteral(quoteIdentifier(publication));
    const query = this.#client.query(
      `START_REPLICATION SLOT ${quoteIdentifier(slot)} LOGICAL ${from} (proto_version '1', publication_names ${names})`,
    );
    return new Promise((resolve, reject) => {
      this.#connection.once("replicationStart", () => {
        this.#timer = setInterval(() => this.#status(), STATUS_EVERY_MS);
        resolve();
      });
      // Ends with the stream: whatever the reason, nothing more will come.
      query.then(
        () => this.#fail(new CleaveError("POSTGRES_UNREACHABLE", `${where} ended the change stream`)),
        (error: unknown) => {
          const known = toPostgresError(untranslatable(error), where);
          reject(known);
          this.#fail(known);
        },
      );
    });
  }

  /** The next message when one is here. */
  take(): Message | undefined {
    const first = this.#queue[this.#read];
    if (first === undefined) return undefined;
    this.#read += 1;
    this.#bytes -= first.bytes;
    if (this.#read === this.#queue.length || this.#read > QUEUE.messages) {
      this.#queue.splice(0, this.#read);
      this.#read = 0;
    }
    if (this.#paused && this.waiting < QUEUE.messages / 2 && this.#bytes < QUEUE.bytes / 2) {
      this.#paused = false;
      this.#connection.stream.resume();
    }
    return first.message;
  }

  /** The next message, or null when none has come before `signal` aborts. @throws what ended the stream. */
  async next(signal: AbortSignal): Promise<Message | null> {
    for (;;) {
      const message = this.take();
      if (message !== undefined) return message;
      if (this.#failure !== null) throw this.#failure;
      if (signal.aborted) return null;
      if (this.#heard !== signal) {
        // Once, for this is waited for thousands of times a second.
        this.#heard = signal;
        signal.addEventListener("abort", () => this.#wake(), { once: true });
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Messages that are here and not read yet. */
  get waiting(): number {
    return this.#queue.length - this.#read;
  }

  /** Everything up to `lsn` is durable on the target; told to the server at once when `now`. */
  confirm(lsn: string, now = false): void {
    const position = parseLsn(lsn);
    if (position > this.#confirmed) this.#confirmed = position;
    if (now) this.#status();
  }

  /** How far the server has read its WAL for this stream: nothing of interest lies before it and unsent. */
  get sentUpTo(): string {
    return formatLsn(this.#sentUpTo);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#failure ??= new CleaveError("COMMAND_NOT_POSSIBLE", "the change stream is closed");
    this.#wake();
    // Not waited for: the server may hang.
    this.#client.end().catch(() => undefined);
    this.#connection.stream.destroy();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#wake();
  }

  #receive(chunk: Buffer): void {
    try {
      if (chunk[0] === XLOG_DATA) {
        const end = chunk.readBigUInt64BE(9);
        if (end > this.#sentUpTo) this.#sentUpTo = end;
        this.#push(this.#decode(chunk.subarray(25)), chunk.length);
        this.#wake();
      } else if (chunk[0] === KEEPALIVE) {
        const end = chunk.readBigUInt64BE(1);
        if (end > this.#sentUpTo) {
          this.#sentUpTo = end;
          // Whoever reads gets to know that the server has passed over what is not of interest.
          this.#push({ tag: "other" }, 0);
        }
        this.#wake();
        if (chunk.readUInt8(17) === 1) this.#status();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #decode(content: Buffer): Message {
    try {
      const message = decode(content);
      if (message.tag === "relation") this.#names.set(message.oid, `${message.schema}.${message.name}`);
      return message;
    } catch (error) {
      // Insert, update, delete: all begin with the relation.
      if (!(error instanceof CleaveError) || error.code === "INTERNAL") throw error;
      const name = this.#names.get(content.readUInt32BE(1)) ?? "a table";
      throw new CleaveError(error.code, `a row of ${name}: ${error.message}`, { cause: error });
    }
  }

  #push(message: Message, bytes: number): void {
    this.#queue.push({ message, bytes });
    this.#bytes += bytes;
    if (this.#paused || (this.waiting <= QUEUE.messages && this.#bytes <= QUEUE.bytes)) return;
    this.#paused = true;
    this.#connection.stream.pause();
  }

  #status(): void {
    if (this.#failure !== null) return;
    const message = Buffer.alloc(34);
    message.write("r", 0, "latin1");
    for (const at of [1, 9, 17]) message.writeBigUInt64BE(this.#confirmed, at);
    message.writeBigInt64BE((BigInt(Date.now()) - 946_684_800_000n) * 1_000n, 25);
    this.#connection.sendCopyFromChunk(message);
  }
}

/** The server itself could not write a value as UTF-8; trying again would not help. */
function untranslatable(error: unknown): unknown {
  const { code, message, where } = error as { code?: string; message?: string; where?: string };
  // character_not_in_repertoire, untranslatable_character
  if (code !== "22021" && code !== "22P05") return error;
  return new CleaveError(
    "CHANGE_NOT_APPLICABLE",
    `a value on the source is no text: ${message} (${where ?? ""})`,
    {
      cause: error,
    },
  );
}
