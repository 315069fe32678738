/** `cleave coordinator --config FILE`: wires the ports, the loop and the API, and runs until SIGTERM. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { FileCheckpoints } from "../protocol/adapters/file-checkpoints.ts";
import { createLogger } from "../protocol/adapters/logger.ts";
import { NatsBlobs } from "../protocol/adapters/nats-blobs.ts";
import { NatsBus } from "../protocol/adapters/nats-bus.ts";
import { NatsLink } from "../protocol/adapters/nats-connection.ts";
import { NatsEventLog } from "../protocol/adapters/nats-event-log.ts";
import { startTracingSdk } from "../protocol/adapters/opentelemetry.ts";
import { systemClock } from "../protocol/adapters/system-clock.ts";
import { systemRandom } from "../protocol/adapters/system-random.ts";
import { CleaveError, toCleaveError } from "../protocol/errors.ts";
import type { Logger } from "../protocol/ports/logger.ts";
import { Meters } from "../protocol/telemetry/meters.ts";
import { Tracing } from "../protocol/telemetry/tracing.ts";
import { WatchedCheckpoints } from "../protocol/telemetry/watched-ports.ts";
import { createApi } from "./api/server.ts";
import { type CoordinatorConfig, loadCoordinatorConfig } from "./config.ts";
import { Coordinator } from "./loop/coordinator.ts";
import { measureCoordinator, measureProcess } from "./telemetry/measure.ts";
import { WebhookNotifier } from "./webhooks/notifier.ts";
import { FilePositions } from "./webhooks/positions.ts";

export interface RunningCoordinator {
  readonly port: number;
  /** Last record of the log that was folded. */
  sequence(): number;
  /** Resolves when the log is read, however long NATS takes. @throws CleaveError when it never can be, as configured. */
  readonly started: Promise<void>;
  stop(): Promise<void>;
}

/** Resolves when the API listens; the log may still be out of reach, and /health says so. */
export async function startCoordinator(
  config: CoordinatorConfig,
  logger: Logger,
): Promise<RunningCoordinator> {
  const link = new NatsLink(config.nats, systemClock, logger);
  const { stateDirectory } = config;
  // A record that could not be folded may neither be skipped nor given twice: the next start reads it again.
  const onBroken = (error: unknown) => {
    logger.error({ err: error }, "the log cannot be followed any further; the process ends");
    process.exit(1);
  };
  if (stateDirectory !== undefined) await mkdir(stateDirectory, { recursive: true });
  const checkpoints =
    stateDirectory === undefined
      ? null
      : new WatchedCheckpoints(new FileCheckpoints(join(stateDirectory, "checkpoint")), systemClock);
  const sdk = await startTracingSdk("cleave-coordinator", config.id, logger);
  const attributes = { "cleave.coordinator": config.id };
  const tracing = sdk && new Tracing({ tracer: sdk.tracer, ids: sdk.ids, clock: systemClock, attributes });
  const log = new NatsEventLog({
    link,
    clock: systemClock,
    random: systemRandom,
    logger,
    replicas: config.nats.replicas,
    onBroken,
  });
  const coordinator = await Coordinator.create({
    id: config.id,
    log: tracing?.around(log) ?? log,
    bus: new NatsBus(link),
    blobs: new NatsBlobs(link, config.nats.replicas),
    clock: systemClock,
    checkpoints,
    logger,
    cluster: {
      pods: config.cluster.pods,
      defaultPodId: config.cluster.defaultPod,
      stores: config.cluster.stores,
    },
  });
  let ready = false;
  const problem = () => {
    const found = link.problem();
    return found === null ? null : new CleaveError(found.code, found.message);
  };
  const { tokens, tls, webhooks } = config;
  const meters = new Meters({ exposer: "coordinator", ofProcess: true });
  const measured = {
    service: coordinator,
    ready: () => ready,
    connected: () => link.connected(),
    checkpoints,
    clock: systemClock,
  };
  measureProcess(meters, measured);
  const notifier =
    webhooks.length === 0 || stateDirectory === undefined
      ? null
      : new WebhookNotifier({
          webhooks,
          log,
          positions: await FilePositions.open(join(stateDirectory, "webhooks.json")),
          clock: systemClock,
          logger,
          onDelivery: (webhook, outcome) =>
            meters.count("cleave_webhook_deliveries_total", { webhook, outcome }),
        });
  meters.onScrape(() => {
    for (const [webhook, records] of notifier?.pending() ?? [])
      meters.set("cleave_webhook_pending", { webhook }, records);
  });
  const metrics = { meters, public: config.metrics.public };
  const api = await createApi({
    service: coordinator,
    ready: () => ready,
    problem,
    tokens,
    tls,
    logger,
    metrics,
  });
  try {
    await api.listen(config.listen);
  } catch (error) {
    await link.close();
    throw new CleaveError("CONFIG_INVALID", `listen: ${(error as Error).message}`, { cause: error });
  }
  const address = api.server.address();
  const port = typeof address === "object" && address !== null ? address.port : config.listen.port;
  logger.info({ url: `http${tls === null ? "" : "s"}://${config.listen.host}:${port}` }, "the API answers");
  let stopping = false;
  const started = coordinator.start().then(
    () => {
      ready = true;
      measureCoordinator(meters, measured);
      logger.info({ sequence: coordinator.state().sequence }, "the log is read; the coordinator decides");
    },
    (error: unknown) => {
      if (!stopping) throw error;
    },
  );
  notifier?.start().catch((error: unknown) => {
    if (!stopping) logger.error({ err: error }, "webhooks cannot be told of anything");
  });
  // Whoever only wants to stop need not look at it.
  started.catch(() => undefined);
  return {
    port,
    sequence: () => coordinator.state().sequence,
    started,
    stop: async () => {
      stopping = true;
      await api.close();
      await notifier?.stop();
      await coordinator.stop();
      await link.close();
      await sdk?.stop();
    },
  };
}

const USAGE = `usage: cleave coordinator --config FILE

Runs a coordinator until SIGTERM. deploy/coordinator.example.yaml is an example of FILE.
It waits for NATS as long as it takes; GET /health says what it waits for.

Exit codes: 0 stopped by a signal, 1 error, 2 wrong usage.
Example: cleave coordinator --config /etc/cleave/coordinator.yaml`;

function fromCommandLine(): { config: string } | { usage: string; exitCode: number } {
  try {
    const options = { config: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
    const { values } = parseArgs({ options });
    if (values.help) return { usage: USAGE, exitCode: 0 };
    if (values.config !== undefined) return { config: values.config };
    return { usage: USAGE, exitCode: 2 };
  } catch (error) {
    return { usage: `${(error as Error).message}\n\n${USAGE}`, exitCode: 2 };
  }
}

async function main(): Promise<void> {
  const asked = fromCommandLine();
  if ("usage" in asked) {
    (asked.exitCode === 0 ? console.log : console.error)(asked.usage);
    process.exitCode = asked.exitCode;
    return;
  }
  const config = await loadCoordinatorConfig(asked.config);
  let known: RunningCoordinator | null = null;
  const where = () => (known === null ? {} : { sequence: known.sequence() });
  const logger = createLogger({ coordinator: config.id }, config.logLevel, where);
  const running = await startCoordinator(config, logger);
  known = running;
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    logger.info({ signal }, "stopping");
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, "stopping failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  await running.started;
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    const known = toCleaveError(error);
    console.error(`error ${known.code}: ${known.message}\nnext: ${known.nextStep}`);
    process.exit(1);
  });
}
