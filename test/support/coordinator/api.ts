/** A real coordinator and its API over ports in memory, with agents whose stores obey. */
import type { Socket } from "node:net";
import { Agent } from "../../../agent/loop/agent.ts";
import type { AccessToken } from "../../../coordinator/api/roles.ts";
import { type Api, createApi, type ServerTls } from "../../../coordinator/api/server.ts";
import { Coordinator } from "../../../coordinator/loop/coordinator.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { OwnProblem } from "../../../protocol/evidence.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import { MemoryBlobs, MemoryBus, MemoryDisk, MemoryLog } from "../memory-ports.ts";
import { ObedientStore } from "../stores/obedient-store.ts";
import { pod, STORES } from "../story.ts";

export interface ApiFixture {
  /** What agents say of their Pods themselves, by Pod; told with their next report. */
  readonly podProblems: Map<string, readonly OwnProblem[]>;
  readonly url: string;
  readonly port: number;
  readonly log: MemoryLog;
  readonly coordinator: Coordinator;
  /** Until it is true, the API says that the log is not read yet. */
  ready: boolean;
  /** The store of a Pod that has an agent: to delay it, or to let it find something. */
  store(podId: string, name: "postgres" | "git" | "objects"): ObedientStore;
  /** Starts the agents of Pods: without them a migration waits in its checks. */
  startAgents(...podIds: string[]): Promise<void>;
  /** The server's side of the connections that are open. */
  sockets(): Socket[];
  /** How many listen to the coordinator's changes. */
  listeners(): number;
  /** The API goes away as in a restart, while the coordinator and its agents go on. */
  stopListening(): Promise<void>;
  /** On the same port. */
  listenAgain(): Promise<void>;
  stop(): Promise<void>;
}

export const PODS = ["pod-0", "pod-100", "pod-101"] as const;

export interface ApiFixtureOptions {
  readonly tokens?: readonly AccessToken[];
  readonly tls?: ServerTls;
  readonly logger?: Logger;
}

export async function startApi(options: ApiFixtureOptions = {}): Promise<ApiFixture> {
  const log = new MemoryLog();
  const ports = {
    log,
    bus: new MemoryBus(),
    blobs: new MemoryBlobs(),
    clock: systemClock,
    logger: silentLogger,
  };
  const cluster = { pods: PODS.map(pod), defaultPodId: pod("pod-0"), stores: STORES };
  const coordinator = await Coordinator.create({ ...ports, id: "test", checkpoints: null, cluster });
  await coordinator.start();
  let listeners = 0;
  const { onChange } = coordinator;
  coordinator.onChange = (listener) => {
    const unsubscribe = onChange.call(coordinator, listener);
    let subscribed = true;
    listeners += 1;
    return () => {
      if (subscribed) listeners -= 1;
      subscribed = false;
      unsubscribe();
    };
  };
  const agents: Agent[] = [];
  const stores = new Map<string, ObedientStore>();
  const sockets = new Set<Socket>();
  const listen = async (port: number): Promise<Api> => {
    const created = await createApi({
      service: coordinator,
      ready: () => fixture.ready,
      problem: () => (log.down ? new CleaveError("NATS_UNREACHABLE", "the log is down") : null),
      tokens: options.tokens ?? [],
      tls: options.tls ?? null,
      logger: options.logger ?? silentLogger,
    });
    created.server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    await created.listen({ host: "127.0.0.1", port });
    return created;
  };
  let api = await listen(0);
  const address = api.server.address();
  if (address === null || typeof address === "string") throw new Error("the API does not listen");
  const fixture: ApiFixture = {
    url: `http${options.tls === undefined ? "" : "s"}://127.0.0.1:${address.port}`,
    port: address.port,
    log,
    coordinator,
    ready: true,
    podProblems: new Map(),
    store: (podId, name) => {
      const store = stores.get(`${podId}/${name}`) ?? new ObedientStore(name);
      stores.set(`${podId}/${name}`, store);
      return store;
    },
    startAgents: async (...podIds) => {
      for (const podId of podIds) {
        const disk = new MemoryDisk();
        const agent = await Agent.create({
          ...ports,
          podId: pod(podId),
          software: "test",
          stores: STORES.map((name) => fixture.store(podId, name)),
          checkpoints: disk,
          memory: disk.memory,
          podProblems: () => fixture.podProblems.get(podId) ?? [],
        });
        await agent.start();
        agents.push(agent);
      }
    },
    sockets: () => [...sockets],
    listeners: () => listeners,
    stopListening: () => api.close().then(() => undefined),
    listenAgain: async () => {
      api = await listen(fixture.port);
    },
    stop: async () => {
      log.restore();
      await api.close();
      for (const agent of agents) await agent.stop();
      await coordinator.stop();
    },
  };
  return fixture;
}
