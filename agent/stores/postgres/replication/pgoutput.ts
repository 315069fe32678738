/**
 * Messages of PostgreSQL's output plugin pgoutput, protocol version 1, in text mode. Pure.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 *
 * Values stay as the server wrote them: whoever turns a timestamp into a date of JavaScript has lost its microseconds.
 */
import { isUtf8 } from "node:buffer";
import { CleaveError } from "../../../../protocol/errors.ts";

/** As the server writes it; null is NULL; undefined was not sent, because it is large and did not change. */
export type Value = string | null | undefined;

export interface RelationColumn {
  readonly name: string;
  /** Part of the replica identity. */
  readonly key: boolean;
}

export interface RelationMessage {
  readonly tag: "relation";
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly RelationColumn[];
}

export type Message =
  | { readonly tag: "begin"; readonly finalLsn: string; readonly xid: number }
  | { readonly tag: "commit"; readonly commitLsn: string; readonly endLsn: string; readonly time: string }
  /** The transaction that just began was itself applied there, from the source of this name. */
  | { readonly tag: "origin"; readonly name: string }
  | RelationMessage
  | { readonly tag: "insert"; readonly oid: number; readonly values: readonly Value[] }
  | {
      readonly tag: "update";
      readonly oid: number;
      /** The old row (REPLICA IDENTITY FULL) or its key, when the key changed. */
      readonly old: readonly Value[] | null;
      readonly values: readonly Value[];
    }
  | { readonly tag: "delete"; readonly oid: number; readonly old: readonly Value[] }
  | { readonly tag: "truncate"; readonly oids: readonly number[] }
  | { readonly tag: "other" };

/** Kinds of values: `n`, `u` and `t`. */
const NULL = 0x6e;
const UNCHANGED = 0x75;
const TEXT = 0x74;

class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#buffer.length)
      throw new CleaveError("INTERNAL", "a message of the change stream is shorter than it says");
    this.#at += bytes;
    return at;
  }

  char(): string {
    return String.fromCharCode(this.#buffer.readUInt8(this.#take(1)));
  }

  uint8(): number {
    return this.#buffer.readUInt8(this.#take(1));
  }

  uint16(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  uint32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  uint64(): bigint {
    return this.#buffer.readBigUInt64BE(this.#take(8));
  }

  lsn(): string {
    return formatLsn(this.uint64());
  }

  text(): string {
    const end = this.#buffer.indexOf(0, this.#at);
    if (end < 0) throw new CleaveError("INTERNAL", "a name in the change stream has no end");
    const text = this.#buffer.toString("utf8", this.#at, end);
    this.#at = end + 1;
    return text;
  }

  value(): Value {
    const kind = this.uint8();
    if (kind === NULL) return null;
    if (kind === UNCHANGED) return undefined;
    if (kind !== TEXT) throw new CleaveError("INTERNAL", `the change stream holds a value of kind ${kind}`);
    const length = this.uint32();
    const at = this.#take(length);
    return carriedValue(this.#buffer, at, at + length);
  }

  row(): Value[] {
    const length = this.uint16();
    const values: Value[] = [];
    for (let at = 0; at < length; at++) values.push(this.value());
    return values;
  }
}

/** @throws CleaveError CHANGE_NOT_APPLICABLE for what cannot be carried as it is. */
function carriedValue(buffer: Buffer, from: number, to: number): string {
  let text: string;
  try {
    text = buffer.toString("utf8", from, to);
  } catch (error) {
    const megabytes = Math.ceil((to - from) / 1024 / 1024);
    throw new CleaveError(
      "CHANGE_NOT_APPLICABLE",
      `a value of ${megabytes} MB is larger than what can be carried`,
      {
        cause: error,
      },
    );
  }
  // What is no character is read as this one; a value may have it of its own.
  if (text.includes("\uFFFD") && !isUtf8(buffer.subarray(from, to)))
    throw new CleaveError("CHANGE_NOT_APPLICABLE", "a value has bytes that are no UTF-8");
  return text;
}

/** `16/B374D848`, as PostgreSQL writes positions. */
export function formatLsn(value: bigint): string {
  return `${(value >> 32n).toString(16).toUpperCase()}/${(value & 0xffff_ffffn).toString(16).toUpperCase()}`;
}

export function parseLsn(text: string): bigint {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) throw new CleaveError("INTERNAL", `not a position in the WAL: ${text}`);
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/** Microseconds since 2000 as a timestamp that PostgreSQL reads. */
function formatTime(microseconds: bigint): string {
  const epochMs = 946_684_800_000n;
  const rest = (microseconds % 1_000n).toString().padStart(3, "0");
  return new Date(Number(microseconds / 1_000n + epochMs)).toISOString().replace("Z", `${rest}Z`);
}

/** @throws CleaveError INTERNAL for a message that is cut off or not of this protocol. */
export function decode(buffer: Buffer): Message {
  const reader = new Reader(buffer);
  const tag = reader.char();
  switch (tag) {
    case "B": {
      const finalLsn = reader.lsn();
      reader.uint64();
      return { tag: "begin", finalLsn, xid: reader.uint32() };
    }
    case "C": {
      reader.uint8();
      const commitLsn = reader.lsn();
      const endLsn = reader.lsn();
      return { tag: "commit", commitLsn, endLsn, time: formatTime(reader.uint64()) };
    }
    case "R": {
      const oid = reader.uint32();
      // An empty name is pg_catalog.
      const schema = reader.text() || "pg_catalog";
      const name = reader.text();
      reader.char();
      const columns = Array.from({ length: reader.uint16() }, () => {
        const key = reader.uint8() === 1;
        const column = { name: reader.text(), key };
        reader.uint32();
        reader.uint32();
        return column;
      });
      return { tag: "relation", oid, schema, name, columns };
    }
    case "I": {
      const oid = reader.uint32();
      reader.char();
      return { tag: "insert", oid, values: reader.row() };
    }
    case "U": {
      const oid = reader.uint32();
      const kind = reader.char();
      const old = kind === "N" ? null : reader.row();
      if (kind !== "N") reader.char();
      return { tag: "update", oid, old, values: reader.row() };
    }
    case "D": {
      const oid = reader.uint32();
      reader.char();
      return { tag: "delete", oid, old: reader.row() };
    }
    case "T": {
      const count = reader.uint32();
      reader.uint8();
      return { tag: "truncate", oids: Array.from({ length: count }, () => reader.uint32()) };
    }
    case "O":
      reader.lsn();
      return { tag: "origin", name: reader.text() };
    case "Y":
    case "M":
      return { tag: "other" };
    default:
      throw new CleaveError("INTERNAL", `the change stream holds a message of kind ${JSON.stringify(tag)}`);
  }
}
