/** A process's way to the log: the connection to NATS, the log over it, and the traces of what passes through. */
import type { EventLog } from "../ports/event-log.ts";
import type { Logger } from "../ports/logger.ts";
import { Tracing } from "../telemetry/tracing.ts";
import type { NatsConfig } from "./nats-config.ts";
import { NatsLink } from "./nats-connection.ts";
import { NatsEventLog } from "./nats-event-log.ts";
import { startTracingSdk } from "./opentelemetry.ts";
import { systemClock } from "./system-clock.ts";
import { systemRandom } from "./system-random.ts";

export interface OpenLogOptions {
  readonly nats: NatsConfig;
  /** Of whom traces tell: the service, which of its instances, and the attribute of every span that names it. */
  readonly service: string;
  readonly instance: string;
  readonly attribute: string;
  readonly logger: Logger;
}

export interface OpenLog {
  readonly link: NatsLink;
  readonly log: EventLog;
  /** The same log; what is read and appended here leaves traces, where they are configured. */
  readonly tracedLog: EventLog;
  /** Null where traces are not configured. */
  readonly tracing: Tracing | null;
  close(): Promise<void>;
}

/** NATS need not answer yet. The process ends when a record could not be folded. */
export async function openLog({
  nats,
  service,
  instance,
  attribute,
  logger,
}: OpenLogOptions): Promise<OpenLog> {
  const link = new NatsLink(nats, systemClock, logger);
  const sdk = await startTracingSdk(service, instance, logger);
  const attributes = { [attribute]: instance };
  const tracing = sdk && new Tracing({ tracer: sdk.tracer, ids: sdk.ids, clock: systemClock, attributes });
  // A record that could not be folded may neither be skipped nor given twice: the next start reads it again.
  const onBroken = (error: unknown) => {
    logger.error({ err: error }, "the log cannot be followed any further; the process ends");
    process.exit(1);
  };
  const log = new NatsEventLog({
    link,
    clock: systemClock,
    random: systemRandom,
    logger,
    replicas: nats.replicas,
    onBroken,
  });
  return {
    link,
    log,
    tracedLog: tracing?.around(log) ?? log,
    tracing,
    close: async () => {
      await link.close();
      await sdk?.stop();
    },
  };
}
