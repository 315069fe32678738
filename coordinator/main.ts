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
import { systemClock } from "../protocol/adapters/system-clock.ts";
import { systemRandom } from "../protocol/adapters/system-random.ts";
import { toCleaveError } from "../protocol/errors.ts";
import type { Logger } from "../protocol/ports/logger.ts";
import { createApi } from "./api/server.ts";
import { type CoordinatorConfig, loadCoordinatorConfig } from "./config.ts";
import { Coordinator } from "./coordinator.ts";

export interface RunningCoordinator {
  readonly port: number;
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
  const coordinator = await Coordinator.create({
    id: config.id,
    log: new NatsEventLog({
      link,
      clock: systemClock,
      random: systemRandom,
      logger,
      replicas: config.nats.replicas,
      onBroken,
    }),
    bus: new NatsBus(link),
    blobs: new NatsBlobs(link, config.nats.replicas),
    clock: systemClock,
    checkpoints:
      stateDirectory === undefined ? null : new FileCheckpoints(join(stateDirectory, "checkpoint")),
    logger,
    cluster: {
      pods: config.cluster.pods,
      defaultPodId: config.cluster.defaultPod,
      stores: config.cluster.stores,
    },
  });
  let ready = false;
  const api = await createApi({ service: coordinator, ready: () => ready, token: config.token, logger });
  await api.listen(config.listen);
  const address = api.server.address();
  const port = typeof address === "object" && address !== null ? address.port : config.listen.port;
  logger.info({ url: `http://${config.listen.host}:${port}` }, "the API answers");
  coordinator.start().then(
    () => {
      ready = true;
      logger.info({ sequence: coordinator.state().sequence }, "the log is read; the coordinator decides");
    },
    (error: unknown) => {
      const known = toCleaveError(error);
      logger.error({ code: known.code, next: known.nextStep }, known.message);
    },
  );
  return {
    port,
    stop: async () => {
      await api.close();
      await coordinator.stop();
      await link.close();
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help || values.config === undefined) {
    console.log(
      "usage: cleave coordinator --config FILE\n\nRuns a coordinator. deploy/coordinator.example.yaml is an example of FILE.",
    );
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const config = await loadCoordinatorConfig(values.config);
  const logger = createLogger({ coordinator: config.id }, config.logLevel);
  const running = await startCoordinator(config, logger);
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
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    const known = toCleaveError(error);
    console.error(`error ${known.code}: ${known.message}\nnext: ${known.nextStep}`);
    process.exit(1);
  });
}
