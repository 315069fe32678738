/** MessagePack on the wire, checked by schema on both sides, with a size limit before anything is decoded. */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { z } from "zod";
import { CleaveError } from "./errors.ts";
import {
  type ClusterEvent,
  EVENT_SCHEMAS,
  type EventType,
  type LogRecord,
  type ReadRecord,
  RecordEnvelope,
} from "./events.ts";
import { Report } from "./messages.ts";
import { renamedEvent, renamedReport } from "./renamed.ts";

/** Below the default payload limit of NATS (1 MiB). Larger content goes into a blob. */
export const MAX_MESSAGE_BYTES = 512 * 1024;

// Made once: each has a buffer of its own. They know by themselves when they are called again while they work.
const encoder = new Encoder({ ignoreUndefined: true });
const decoder = new Decoder({
  // The shared one draws by chance what it forgets.
  keyDecoder: null,
  maxStrLength: MAX_MESSAGE_BYTES,
  maxArrayLength: 20_000,
  maxMapLength: 20_000,
  maxBinLength: MAX_MESSAGE_BYTES,
});

function decodeBounded(bytes: Uint8Array, what: string): unknown {
  if (bytes.byteLength > MAX_MESSAGE_BYTES) {
    throw new CleaveError(
      "MESSAGE_OVERSIZED",
      `${what} has ${bytes.byteLength} bytes, the limit is ${MAX_MESSAGE_BYTES}`,
    );
  }
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw new CleaveError("MESSAGE_MALFORMED", `${what} is not MessagePack`, { cause: error });
  }
}

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new CleaveError("MESSAGE_MALFORMED", `${what}: ${z.prettifyError(result.error)}`);
}

function encodeBounded(value: unknown, what: string): Uint8Array {
  const bytes = encoder.encode(value);
  if (bytes.byteLength > MAX_MESSAGE_BYTES) {
    throw new CleaveError(
      "MESSAGE_OVERSIZED",
      `${what} would have ${bytes.byteLength} bytes, the limit is ${MAX_MESSAGE_BYTES}`,
    );
  }
  return bytes;
}

export function isKnownEvent(event: { type: string; v: number }): boolean {
  if (!Object.hasOwn(EVENT_SCHEMAS, event.type)) return false;
  return (EVENT_SCHEMAS[event.type as EventType].shape.v.values as ReadonlySet<number>).has(event.v);
}

/** @throws CleaveError MESSAGE_MALFORMED or MESSAGE_OVERSIZED: a record that could not be read back is never written. */
export function encodeRecord(record: LogRecord): Uint8Array {
  parse(RecordEnvelope, record, "log record");
  for (const event of record.events) parse<unknown>(EVENT_SCHEMAS[event.type], event, event.type);
  return encodeBounded(record, "log record");
}

/** Events of unknown type or version come back as `Unknown`; the fold stops their migration. */
export function decodeRecord(bytes: Uint8Array): ReadRecord {
  const value = decodeBounded(bytes, "log record");
  const version = (value as { v?: unknown } | null)?.v;
  if (typeof version === "number" && version !== 1) {
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", `log record of version ${version}`);
  }
  const envelope = parse(RecordEnvelope, value, "log record");
  const events = envelope.events
    .map(renamedEvent)
    .map((event) =>
      isKnownEvent(event)
        ? parse<ClusterEvent>(
            EVENT_SCHEMAS[event.type as EventType] as z.ZodType<ClusterEvent>,
            event,
            event.type,
          )
        : ({ type: "Unknown", event } as const),
    );
  return { at: envelope.at, by: envelope.by, events };
}

export function encodeReport(report: Report): Uint8Array {
  return encodeBounded(parse(Report, report, "report"), "report");
}

/** @throws CleaveError MESSAGE_MALFORMED, MESSAGE_OVERSIZED or MESSAGE_VERSION_UNKNOWN. */
export function decodeReport(bytes: Uint8Array): Report {
  const value = decodeBounded(bytes, "report");
  const version = (value as { v?: unknown } | null)?.v;
  if (typeof version === "number" && version !== 1 && version !== 2)
    throw new CleaveError("MESSAGE_VERSION_UNKNOWN", `report of version ${version}`);
  return parse(Report, renamedReport(value), "report");
}
