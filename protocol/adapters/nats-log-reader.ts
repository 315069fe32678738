/** The log as NATS has it, for when no coordinator answers or none has all of it at hand: looked at, never changed. */

import { toCleaveError } from "../errors.ts";
import type { ReadRecord } from "../events.ts";
import { withNats } from "./nats-check.ts";
import type { NatsConfig } from "./nats-config.ts";
import { LOG_STREAM } from "./nats-event-log.ts";
import { readRecord } from "./read-record.ts";

export type SequencedRecord = ReadRecord & { readonly sequence: number };

/** Records asked for at once: one after the other, a slow line would take minutes. */
const AT_ONCE = 32;

/** All records. @throws CleaveError NATS_UNREACHABLE. */
export async function readLog(config: NatsConfig): Promise<SequencedRecord[]> {
  try {
    return await withNats(config, async (manager) => {
      const { state } = await manager.streams.info(LOG_STREAM);
      const records: SequencedRecord[] = [];
      for (let first = state.first_seq; first <= state.last_seq; first += AT_ONCE) {
        const count = Math.min(AT_ONCE, state.last_seq - first + 1);
        const some = Array.from({ length: count }, async (_, index) => {
          const sequence = first + index;
          const message = await manager.streams.getMessage(LOG_STREAM, { seq: sequence });
          return { sequence, ...readRecord(message.data, message.time.getTime()).record };
        });
        records.push(...(await Promise.all(some)));
      }
      return records;
    });
  } catch (error) {
    throw toCleaveError(error, "NATS_UNREACHABLE");
  }
}
