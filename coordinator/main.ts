/** `cleave coordinator --config FILE`: wires the ports, the loop and the API, and runs until SIGTERM. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { FileCheckpoints } from "../protocol/adapters/file-checkpoints.ts";
import { NatsBlobs } from "../protocol/adapters/nats-blobs.ts";
import { NatsBus } from "../protocol/adapters/nats-bus.ts";
import { openLog } from "../protocol/adapters/open-log.ts";
import { type Running, runDaemon } from "../protocol/adapters/run-process.ts";
import { systemClock } from "../protocol/adapters/system-clock.ts";
import { CleaveError } from "../protocol/errors.ts";
import type { Logger } from "../protocol/ports/logger.ts";
import { Meters } from "../protocol/telemetry/meters.ts";
import { WatchedCheckpoints } from "../protocol/telemetry/watched-ports.ts";
import { createApi } from "./api/server.ts";
import { type CoordinatorConfig, loadCoordinatorConfig } from "./config.ts";
import { Coordinator } from "./loop/coordinator.ts";
import { measureCoordinator, measureProcess } from "./telemetry/measure.ts";
import { WebhookNotifier } from "./webhooks/notifier.ts";
import { FilePositions } from "./webhooks/positions.ts";

export interface RunningCoordinator extends Running {
  readonly port: number;
  /** Resolves when the log is read, however long NATS takes. @throws CleaveError when it never can be, as configured. */
  readonly started: Promise<void>;
}

/** Resolves when the API listens; the log may still be out of reach, and /health says so. */
export async function startCoordinator(
  config: CoordinatorConfig,
  logger: Logger,
): Promise<RunningCoordinator> {
  const { stateDirectory } = config;
  if (stateDirectory !== undefined) await mkdir(stateDirectory, { recursive: true });
  const checkpoints =
    stateDirectory === undefined
      ? null
      : new WatchedCheckpoints(new FileCheckpoints(join(stateDirectory, "checkpoint")), systemClock);
  const opened = await openLog({
    nats: config.nats,
    service: "cleave-coordinator",
    instance: config.id,
    attribute: "cleave.coordinator",
    logger,
  });
  const { link, log } = opened;
  const coordinator = await Coordinator.create({
    id: config.id,
    log: opened.tracedLog,
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
      await opened.close();
    },
  };
}

const USAGE = `usage: cleave coordinator --config FILE

Runs a coordinator until SIGTERM. deploy/coordinator.example.yaml is an example of FILE.
It waits for NATS as long as it takes; GET /health says what it waits for.

Exit codes: 0 stopped by a signal, 1 error, 2 wrong usage.
Example: cleave coordinator --config /etc/cleave/coordinator.yaml`;

if (import.meta.main)
  await runDaemon({
    usage: USAGE,
    explainsWrongUsage: true,
    load: loadCoordinatorConfig,
    fields: ({ id }) => ({ coordinator: id }),
    start: startCoordinator,
    stopping: "stopping",
  });
