/** Where everything of one run is: folders, ports, addresses. Plain data, made once before anything starts. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { PodAddress } from "../router/router.ts";
import { freePorts } from "./ports.ts";
import type { PostgresAddress } from "./postgres-server.ts";

export interface PodLayout {
  readonly podId: string;
  /** Everything of the Pod is below. */
  readonly folder: string;
  readonly dataDirectory: string;
  readonly postgresLog: string;
  readonly gitRoot: string;
  readonly objectsRoot: string;
  /** Of its agent; `control` in it is what writers of repositories and objects read. */
  readonly stateDirectory: string;
  readonly postgres: PostgresAddress;
  readonly appPort: number;
  readonly guardPort: number;
  readonly peerPort: number;
}

export interface Layout {
  readonly folder: string;
  readonly logs: string;
  readonly natsPort: number;
  readonly natsUrl: string;
  readonly coordinatorPort: number;
  readonly coordinatorUrl: string;
  /** Of the coordinator's API. */
  readonly token: string;
  /** Between agents. */
  readonly peerToken: string;
  readonly routerPort: number;
  readonly routerUrl: string;
  /** Pod 0 first. */
  readonly pods: readonly PodLayout[];
  /** What every agent's configuration has besides. */
  readonly agentSettings?: object;
}

/** The Pods of a split: `pod-0`, and so many new ones. */
export function podsOfSplit(newPods: number): string[] {
  return ["pod-0", ...Array.from({ length: newPods }, (_, i) => `pod-${100 + i}`)];
}

/** The first of `ids` is the default Pod. */
export async function makeLayout(folder: string, ids: readonly string[]): Promise<Layout> {
  const perPod = 4;
  const ports = await freePorts(3 + ids.length * perPod);
  const next = () => ports.pop() as number;
  const password = randomBytes(12).toString("hex");
  const [natsPort, coordinatorPort, routerPort] = [next(), next(), next()];
  return {
    folder,
    logs: join(folder, "logs"),
    natsPort,
    natsUrl: `nats://127.0.0.1:${natsPort}`,
    coordinatorPort,
    coordinatorUrl: `http://127.0.0.1:${coordinatorPort}`,
    token: randomBytes(16).toString("hex"),
    peerToken: randomBytes(16).toString("hex"),
    routerPort,
    routerUrl: `http://127.0.0.1:${routerPort}`,
    pods: ids.map((podId) => {
      const podFolder = join(folder, podId);
      return {
        podId,
        folder: podFolder,
        dataDirectory: join(podFolder, "postgres"),
        postgresLog: join(folder, "logs", `postgres-${podId}.log`),
        gitRoot: join(podFolder, "repositories"),
        objectsRoot: join(podFolder, "objects"),
        stateDirectory: join(podFolder, "state"),
        postgres: { host: "127.0.0.1", port: next(), database: "pod", user: "cleave", password },
        appPort: next(),
        guardPort: next(),
        peerPort: next(),
      };
    }),
  };
}

/** What the router needs to know of the Pods. */
export function podAddresses(layout: Layout): Record<string, PodAddress> {
  return Object.fromEntries(
    layout.pods.map((pod) => [
      pod.podId,
      { app: `http://127.0.0.1:${pod.appPort}`, guard: `http://127.0.0.1:${pod.guardPort}` },
    ]),
  );
}
