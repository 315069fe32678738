/** Starts the parts of the cluster, each as a process of its own, in the order in which an operator would. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { request } from "undici";
import { stringify } from "yaml";
import type { z } from "zod";
import type { PodAppOptions } from "../pod-app/options.ts";
import { agentConfig } from "./agent-config.ts";
import { Coordinator } from "./coordinator.ts";
import { type Layout, type PodLayout, podAddresses } from "./layout.ts";
import { folderForPostgres, startPostgres } from "./postgres-server.ts";
import type { Processes, Started } from "./processes.ts";
import { program } from "./programs.ts";
import { listening, waitFor } from "./waiting.ts";

const ROOT = join(import.meta.dirname, "../../..");
/** On a machine that is overloaded a process takes many times as long to start. */
const WITHIN_MS = 60_000;

/**
 * NATS, the folders of all Pods, and the PostgreSQL of those that serve already, each with an empty database. The
 * others are new.
 */
export async function startServers(
  layout: Layout,
  processes: Processes,
  serving: readonly PodLayout[],
): Promise<void> {
  for (const pod of layout.pods) {
    for (const folder of [pod.folder, pod.gitRoot, pod.objectsRoot, pod.stateDirectory])
      mkdirSync(folder, { recursive: true, mode: 0o711 });
  }
  // A new Pod is empty: its agent fills this folder.
  for (const pod of layout.pods) if (!serving.includes(pod)) await folderForPostgres(pod.dataDirectory);
  const nats = processes.start({
    name: "nats",
    command: program("nats-server"),
    args: ["-js", "-sd", join(layout.folder, "nats"), "-a", "127.0.0.1", "-p", String(layout.natsPort)],
  });
  for (const pod of serving)
    await startPostgres({
      podId: pod.podId,
      dataDirectory: pod.dataDirectory,
      logFile: pod.postgresLog,
      address: pod.postgres,
    });
  await waitFor("nats-server", () => listening(layout.natsPort), {
    withinMs: WITHIN_MS,
    failed: nats.failed,
  });
}

/** The coordinator and one agent per Pod; resolves when all of them answer. */
export async function startCleave(
  layout: Layout,
  processes: Processes,
  ownershipFile: string,
): Promise<Coordinator> {
  const coordinatorFile = join(layout.folder, "coordinator.yaml");
  writeFileSync(coordinatorFile, coordinatorConfig(layout), { mode: 0o600 });
  const started = startNode(processes, "coordinator", "coordinator/main.ts", "--config", coordinatorFile);
  const agents = layout.pods.map((pod) => {
    const file = join(pod.folder, "agent.yaml");
    writeFileSync(file, agentConfig(layout, pod, ownershipFile), { mode: 0o600 });
    return { pod, agent: startNode(processes, `agent-${pod.podId}`, "agent/main.ts", "--config", file) };
  });
  const coordinator = new Coordinator(layout);
  await waitFor(
    "the coordinator",
    async () => {
      const { connected, pods } = await coordinator.status();
      // Every agent has been heard of, so a plan is not refused for want of one.
      return connected && pods.every((pod) => pod.lastReportAgeMs !== null) ? true : null;
    },
    { withinMs: WITHIN_MS, everyMs: 50, failed: started.failed },
  );
  await guardsAnswer(layout, (podId) => agents.find(({ pod }) => pod.podId === podId)?.agent.failed);
  return coordinator;
}

/** Resolves when the guard of every Pod answers: an agent may have been restarted just now. */
export async function guardsAnswer(
  layout: Layout,
  failed: (podId: string) => Promise<never> | undefined = () => undefined,
): Promise<void> {
  for (const { guardPort, podId } of layout.pods) {
    const ended = failed(podId);
    await waitFor(
      `the guard of ${podId}`,
      async () => {
        const response = await request(
          `http://127.0.0.1:${guardPort}/guard/route?path=${encodeURIComponent("/organizations/1")}`,
        );
        await response.body.dump();
        return response.statusCode === 200 ? true : null;
      },
      { withinMs: WITHIN_MS, everyMs: 50, ...(ended === undefined ? {} : { failed: ended }) },
    );
  }
}

/** The application of every Pod. Those of new Pods wait for a database to appear. */
export async function startApplications(layout: Layout, processes: Processes): Promise<void> {
  const started = layout.pods.map((pod) => {
    const options: z.input<typeof PodAppOptions> = {
      podId: pod.podId,
      port: pod.appPort,
      database: pod.postgres,
      gitRoot: pod.gitRoot,
      objectRoot: pod.objectsRoot,
      control: join(pod.stateDirectory, "control"),
    };
    const file = join(pod.folder, "app.json");
    writeFileSync(file, JSON.stringify(options, null, 2), { mode: 0o600 });
    return {
      pod,
      app: startNode(processes, `app-${pod.podId}`, "examples/quickstart/pod-app/main.ts", file),
    };
  });
  for (const { app, pod } of started)
    await waitFor(`the application of ${pod.podId}`, () => listening(pod.appPort), {
      withinMs: WITHIN_MS,
      failed: app.failed,
    });
}

export async function startRouter(layout: Layout, processes: Processes): Promise<void> {
  const podsFile = join(layout.folder, "router-pods.json");
  writeFileSync(podsFile, JSON.stringify(podAddresses(layout), null, 2));
  const port = String(layout.routerPort);
  const router = startNode(processes, "router", "examples/quickstart/router/main.ts", port, podsFile);
  await waitFor("the router", () => listening(layout.routerPort), {
    withinMs: WITHIN_MS,
    failed: router.failed,
  });
}

/** A program of this project, by its path in it. */
export function startNode(
  processes: Processes,
  name: string,
  file: string,
  ...args: readonly string[]
): Started {
  // As on a Pod of its own, where the agent does not compete with all clients of the cluster.
  const urgent = /^(agent|coordinator)/.test(name);
  return processes.start({ name, urgent, command: process.execPath, args: [join(ROOT, file), ...args] });
}

function coordinatorConfig(layout: Layout): string {
  return stringify({
    listen: { host: "127.0.0.1", port: layout.coordinatorPort },
    token: layout.token,
    stateDirectory: join(layout.folder, "coordinator"),
    nats: { servers: layout.natsUrl, name: "coordinator" },
    cluster: {
      pods: layout.pods.map((pod) => pod.podId),
      defaultPod: layout.pods[0]?.podId,
    },
  });
}
