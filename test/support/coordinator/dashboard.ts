/** A coordinator as a process, its NATS, and agents whose stores obey: what the dashboard is opened on. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { Agent } from "../../../agent/loop/agent.ts";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { NatsBlobs } from "../../../protocol/adapters/nats-blobs.ts";
import { NatsBus } from "../../../protocol/adapters/nats-bus.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { NatsEventLog } from "../../../protocol/adapters/nats-event-log.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { systemRandom } from "../../../protocol/adapters/system-random.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import type { PlanInput } from "../../../protocol/plan.ts";
import { eventually } from "../eventually.ts";
import { MemoryDisk } from "../memory-ports.ts";
import { startNats } from "../nats/nats.ts";
import { ObedientStore } from "../stores/obedient-store.ts";
import { pod, STORES } from "../story.ts";

const MAIN = join(import.meta.dirname, "../../../coordinator/main.ts");
export const TARGETS = ["pod-100", "pod-101"] as const;
const PODS = ["pod-0", ...TARGETS];

export interface DashboardFixture {
  readonly url: string;
  store(podId: string, name: StoreName): ObedientStore;
  /** Every store of every Pod. */
  stores(): ObedientStore[];
  plan(plan: Partial<PlanInput> & { migration: string }): Promise<void>;
  command(migrationId: string, command: string, body?: unknown): Promise<void>;
  lifecycle(migrationId: string): Promise<string>;
  reaches(migrationId: string, lifecycle: string): Promise<void>;
  /** SIGKILL; with SIGTERM it leaves a checkpoint. */
  endCoordinator(signal: "SIGKILL" | "SIGTERM"): Promise<void>;
  startCoordinator(): Promise<void>;
  stop(): Promise<void>;
}

export interface DashboardOptions {
  readonly token?: string;
  readonly podIds?: readonly string[];
}

export async function startDashboard(options: DashboardOptions = {}): Promise<DashboardFixture> {
  const endings: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const end of endings.reverse().splice(0)) await end();
  };
  try {
    return { ...(await start(options, endings)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  { token, podIds = PODS }: DashboardOptions,
  endings: (() => Promise<unknown>)[],
): Promise<Omit<DashboardFixture, "stop">> {
  const folder = await mkdtemp(join(tmpdir(), "cleave-dashboard-"));
  endings.push(() => rm(folder, { recursive: true, force: true }));
  const nats = await startNats();
  endings.push(() => nats.stop());
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const file = join(folder, "coordinator.yaml");
  const configuration = {
    listen: { port },
    stateDirectory: "state",
    nats: { servers: nats.url },
    cluster: { pods: podIds, defaultPod: "pod-0" },
    ...(token === undefined ? {} : { token }),
  };
  await writeFile(file, stringify(configuration));

  let child: ChildProcess | null = null;
  const startCoordinator = async () => {
    child = spawn(process.execPath, [MAIN, "--config", file], { stdio: "ignore" });
    await eventually(async () => {
      if (!(await fetch(`${url}/ready`)).ok) throw new Error("not ready");
    }, 60_000);
  };
  const endCoordinator = async (signal: "SIGKILL" | "SIGTERM") => {
    if (child === null || child.exitCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
    child = null;
  };
  endings.push(() => endCoordinator("SIGKILL"));
  await startCoordinator();

  const stores = new Map<string, ObedientStore>();
  const store = (podId: string, name: StoreName) => {
    const found = stores.get(`${podId}/${name}`) ?? new ObedientStore(name);
    stores.set(`${podId}/${name}`, found);
    return found;
  };
  // Each with a connection and a log of its own, as the processes they would be.
  for (const podId of podIds) {
    const link = new NatsLink(nats.config, systemClock, silentLogger);
    endings.push(() => link.close());
    const disk = new MemoryDisk();
    const agent = await Agent.create({
      log: new NatsEventLog({
        link,
        clock: systemClock,
        random: systemRandom,
        logger: silentLogger,
        replicas: 1,
        onBroken: (error) => {
          throw error;
        },
      }),
      bus: new NatsBus(link),
      blobs: new NatsBlobs(link, 1),
      clock: systemClock,
      logger: silentLogger,
      podId: pod(podId),
      software: "test",
      stores: STORES.map((name) => store(podId, name)),
      checkpoints: disk,
      memory: disk.memory,
    });
    await agent.start();
    endings.push(() => agent.stop());
  }

  const ask = async (path: string, body?: unknown) => {
    const response = await fetch(`${url}${path}`, {
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  const status = async (id: string) => (await ask(`/v1/migrations/${id}`)) as MigrationStatus;
  return {
    url,
    store,
    stores: () => [...stores.values()],
    plan: async (plan) => {
      const assignments = TARGETS.map((target, index) => ({
        pod: target,
        organizations: [`org-${index + 1}`],
      }));
      await ask("/v1/plans", {
        source: "pod-0",
        assignments,
        settings: { settlingMs: 50, cutover: { readLeaseMs: 200 } },
        ...plan,
      });
    },
    command: async (id, command, body = {}) => {
      await ask(`/v1/migrations/${id}/${command}`, body);
    },
    lifecycle: async (id) => (await status(id)).lifecycle,
    reaches: (id, wanted) =>
      eventually(async () => {
        const found = await status(id);
        if (found.lifecycle !== wanted)
          throw new Error(`${id} is ${found.lifecycle}, not ${wanted}: ${found.waitingFor.join("; ")}`);
      }, 20_000),
    endCoordinator,
    startCoordinator,
  };
}
