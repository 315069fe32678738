/** `cleave agent --config FILE`: wires the ports and stores of one Pod's agent, and runs it until SIGTERM. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CachedBlobs } from "../protocol/adapters/cached-blobs.ts";
import { FileCheckpoints } from "../protocol/adapters/file-checkpoints.ts";
import { NatsBlobs } from "../protocol/adapters/nats-blobs.ts";
import { NatsBus } from "../protocol/adapters/nats-bus.ts";
import { openLog } from "../protocol/adapters/open-log.ts";
import { type Running, runDaemon } from "../protocol/adapters/run-process.ts";
import { systemClock } from "../protocol/adapters/system-clock.ts";
import { toCleaveError } from "../protocol/errors.ts";
import type { Logger } from "../protocol/ports/logger.ts";
import { Meters } from "../protocol/telemetry/meters.ts";
import { collectTallies } from "../protocol/telemetry/tally.ts";
import type { Tracing } from "../protocol/telemetry/tracing.ts";
import { WatchedBus, WatchedCheckpoints } from "../protocol/telemetry/watched-ports.ts";
import { STORE_STATES } from "../protocol/wording.ts";
import { type AgentConfig, loadAgentConfig } from "./config.ts";
import { startGuardServer } from "./guard/server.ts";
import { HookedStore } from "./hooks/hooked-store.ts";
import { HookJournal } from "./hooks/journal.ts";
import { LifecycleHooks } from "./hooks/lifecycle-hooks.ts";
import { readOnlyQuery } from "./hooks/sql.ts";
import { FileMemory } from "./loop/adapters/file-memory.ts";
import { Agent } from "./loop/agent.ts";
import { startPeerServer } from "./peer/server.ts";
import { createStores } from "./stores/create-stores.ts";
import { measureAgent } from "./telemetry/measure.ts";
import { startMetricsServer } from "./telemetry/server.ts";
import { type OnReach, WatchedStore } from "./telemetry/watched-store.ts";

const SOFTWARE = "0.1.0";

export async function startAgent(config: AgentConfig, logger: Logger): Promise<Running> {
  const { podId, stateDirectory } = config;
  await mkdir(stateDirectory, { recursive: true });
  const opened = await openLog({
    nats: config.nats,
    service: "cleave-agent",
    instance: podId,
    attribute: "cleave.pod",
    logger,
  });
  const { link, tracing } = opened;
  const ports = {
    log: opened.tracedLog,
    bus: new WatchedBus(new NatsBus(link)),
    blobs: new CachedBlobs(new NatsBlobs(link, config.nats.replicas), join(stateDirectory, "blobs")),
    clock: systemClock,
    logger,
  };
  const meters = new Meters({ exposer: "agent", labels: { pod: podId }, ofProcess: true });
  const endTallies = collectTallies((store, unit, amount) => {
    if (unit === "bytes") meters.count("cleave_copied_bytes_total", { store }, amount);
    else meters.count("cleave_copied_items_total", { store, unit }, amount);
  });
  const checkpoints = new WatchedCheckpoints(
    new FileCheckpoints(join(stateDirectory, "checkpoint")),
    systemClock,
  );
  const made = await createStores(config, systemClock, logger);
  const { stores, peerRoutes, establishIdentity, close } = made;
  const hooks =
    config.hooks.length + config.checks.length === 0
      ? null
      : new LifecycleHooks({
          podId,
          hooks: config.hooks,
          checks: config.checks,
          journal: await HookJournal.open(join(stateDirectory, "hooks.json")),
          query: readOnlyQuery(config.postgres),
          clock: systemClock,
          logger,
          onCall: (point, outcome, seconds) => {
            meters.count("cleave_hook_calls_total", { point, outcome });
            meters.observe("cleave_hook_seconds", { point }, seconds);
          },
        });
  const agent = await Agent.create({
    ...ports,
    podId,
    software: SOFTWARE,
    stores: stores
      // Beside the first of them, so that every hook is called once.
      .map((store, place) => (hooks !== null && place === 0 ? new HookedStore(store, hooks) : store))
      .map((store) => new WatchedStore(store, onReach(meters, tracing))),
    checkpoints,
    memory: new FileMemory(join(stateDirectory, "agent.json")),
    podProblems: made.podProblems,
  });
  made.keepServer();
  agent.onChange(() => hooks?.update(agent.state));
  // Writers of repositories and objects are let in as soon as the log says who this Pod is.
  let asked = false;
  agent.onChange(() => {
    const { defaultPodId } = agent.state;
    if (asked || defaultPodId === null) return;
    asked = true;
    establishIdentity(defaultPodId).catch((error: unknown) => {
      asked = false;
      logger.error({ err: error }, "the file fence cannot be set up; writers are refused");
    });
  });
  const { host, guardPort, peerPort, metricsPort } = config.listen;
  // First of all: whoever asks gets an answer, if only "not yet".
  const guard = await startGuardServer({
    podId,
    view: agent,
    config: config.guard,
    clock: systemClock,
    logger,
    host,
    port: guardPort,
    onAnswer: (outcome) => meters.count("cleave_guard_answers_total", { outcome }),
  });
  const peer = await startPeerServer({
    podId,
    host,
    port: peerPort,
    token: config.peerToken,
    stores: peerRoutes,
    logger,
  });
  const health = () => agent.health();
  measureAgent(meters, { health, bus: ports.bus, checkpoints, held: () => guard.held() });
  const metrics =
    metricsPort === undefined
      ? null
      : await startMetricsServer({ podId, host, port: metricsPort, meters, health, logger });
  logger.info(
    { guard: `http://${host}:${guard.port}`, peer: `http://${host}:${peer.port}` },
    "the agent answers",
  );
  const started = agent.start();
  started.then(
    () => logger.info({}, "the log is read; the agent works"),
    (error: unknown) => {
      const known = toCleaveError(error);
      logger.error({ code: known.code, next: known.nextStep }, known.message);
    },
  );
  return {
    sequence: () => agent.health().sequence,
    stop: async () => {
      await agent.stop();
      await Promise.all([guard.close(), peer.close(), metrics?.close()]);
      await close();
      endTallies();
      await opened.close();
    },
  };
}

/** What is told of a store's way to a state: how long it took, and as a span what it followed from. */
function onReach(meters: Meters, tracing: Tracing | null): OnReach {
  return (duty, store) => {
    const from = systemClock.monotonic();
    const traced = tracing?.reaching(duty, store);
    return (outcome) => {
      const seconds = (systemClock.monotonic() - from) / 1_000;
      if (outcome.kind === "reached")
        meters.observe("cleave_reach_seconds", { store, state: STORE_STATES[duty.goal] }, seconds);
      traced?.(outcome.kind, "error" in outcome ? outcome.error : undefined);
    };
  };
}

if (import.meta.main)
  await runDaemon({
    usage:
      "usage: cleave agent --config FILE\n\nRuns the agent of one Pod. deploy/agent.example.yaml is an example of FILE.",
    load: loadAgentConfig,
    fields: ({ podId }) => ({ agent: podId, pod: podId }),
    start: startAgent,
    stopping: "stopping; the Pod stays as it is",
  });
