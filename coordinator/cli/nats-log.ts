/** NATS as the coordinator's configuration names it: looked at, never changed. */
import type { NatsConnection } from "nats";
import { silentLogger } from "../../protocol/adapters/logger.ts";
import type { NatsConfig } from "../../protocol/adapters/nats-config.ts";
import { NatsLink } from "../../protocol/adapters/nats-connection.ts";
import { LOG_STREAM } from "../../protocol/adapters/nats-event-log.ts";
import { readRecord } from "../../protocol/adapters/read-record.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { StoredRecord } from "../ports.ts";

const CONNECT_MS = 5_000;
const API_TIMEOUT_MS = 5_000;
/** Records asked for at once: one after the other, a slow line would take minutes. */
const AT_ONCE = 32;

/** @throws CleaveError NATS_UNREACHABLE when there is no connection within five seconds. */
export async function withNats<T>(
  config: NatsConfig,
  use: (connection: NatsConnection) => Promise<T>,
): Promise<T> {
  const link = new NatsLink({ ...config, name: "cleave-operator" }, systemClock, silentLogger);
  try {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, CONNECT_MS, null);
    });
    const connection = await Promise.race([link.ready(), late]).finally(() => clearTimeout(timer));
    if (connection === null)
      throw new CleaveError("NATS_UNREACHABLE", link.problem()?.message ?? "no connection in time");
    return await use(connection);
  } finally {
    await link.close();
  }
}

/** All records, whatever a coordinator has at hand. @throws CleaveError NATS_UNREACHABLE. */
export async function readLog(config: NatsConfig): Promise<StoredRecord[]> {
  return withNats(config, async (connection) => {
    try {
      const manager = await connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS });
      const { state } = await manager.streams.info(LOG_STREAM);
      const records: StoredRecord[] = [];
      for (let first = state.first_seq; first <= state.last_seq; first += AT_ONCE) {
        const some = Array.from(
          { length: Math.min(AT_ONCE, state.last_seq - first + 1) },
          (_, i) => first + i,
        );
        records.push(
          ...(await Promise.all(
            some.map(async (seq) => {
              const message = await manager.streams.getMessage(LOG_STREAM, { seq });
              return { sequence: seq, ...readRecord(message.data, message.time.getTime()).record };
            }),
          )),
        );
      }
      return records;
    } catch (error) {
      throw new CleaveError("NATS_UNREACHABLE", `the log: ${(error as Error).message}`, { cause: error });
    }
  });
}
