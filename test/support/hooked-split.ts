/** Splits over ports in memory whose agents call hooks, and a listener for these. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { CheckConfig, HookConfig } from "../../agent/hooks/config.ts";
import { HookedStore } from "../../agent/hooks/hooked-store.ts";
import { HookJournal } from "../../agent/hooks/journal.ts";
import { LifecycleHooks } from "../../agent/hooks/lifecycle-hooks.ts";
import { Agent } from "../../agent/loop/agent.ts";
import { Coordinator } from "../../coordinator/loop/coordinator.ts";
import { silentLogger } from "../../protocol/adapters/logger.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { decodeRecord } from "../../protocol/codec.ts";
import { Plan, type PlanInput } from "../../protocol/plan.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import { eventually } from "./eventually.ts";
import { MemoryBlobs, MemoryBus, MemoryDisk, MemoryLog } from "./memory-ports.ts";
import { ObedientStore } from "./stores/obedient-store.ts";
import { assignments, migrationId, pod, STORES } from "./story.ts";

export const PODS = ["pod-0", "pod-100", "pod-101"];

/** What a test has begun, to be ended after it. */
export class Bench {
  readonly folder: string;
  readonly #endings: (() => Promise<unknown> | unknown)[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<Bench> {
    return new Bench(await mkdtemp(join(tmpdir(), "cleave-hooks-")));
  }

  after(end: () => Promise<unknown> | unknown): void {
    this.#endings.push(end);
  }

  async end(): Promise<void> {
    for (const end of this.#endings.splice(0).reverse()) await end();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export interface Called {
  readonly call: string;
  readonly point: string;
  readonly pod: string;
  readonly role: string;
  readonly attempt: number;
  readonly epoch: number | null;
  readonly hook: string;
}

/** Writes down who called, and answers what `answer` says. */
export async function listener(
  bench: Bench,
  answer: (called: Called) => number | Promise<number> = () => 200,
) {
  const calls: Called[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    request.on("end", async () => {
      const called = JSON.parse(body) as Called;
      calls.push(called);
      response.writeHead(await answer(called)).end("said the listener");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  bench.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    url,
    calls,
    points: (podId: string) => calls.filter((one) => one.pod === podId).map((one) => one.point),
  };
}

/** Pauses between calls that fail are short. */
export const hurried: Clock = {
  ...systemClock,
  sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 20), signal),
};

export class Split {
  readonly #bench: Bench;
  readonly log = new MemoryLog();
  readonly #ports = {
    log: this.log,
    bus: new MemoryBus(),
    blobs: new MemoryBlobs(),
    clock: systemClock,
    logger: silentLogger,
  };
  readonly #disks = new Map<string, MemoryDisk>();
  readonly stores = new Map<string, ObedientStore>();
  coordinator!: Coordinator;

  constructor(bench: Bench) {
    this.#bench = bench;
  }

  async begin(settings: PlanInput["settings"] = {}): Promise<void> {
    this.coordinator = await Coordinator.create({
      ...this.#ports,
      id: "c1",
      checkpoints: null,
      cluster: { pods: PODS.map(pod), defaultPodId: pod("pod-0"), stores: STORES },
    });
    await this.coordinator.start();
    this.#bench.after(() => this.coordinator.stop());
    const plan = Plan.parse({
      migration: migrationId,
      source: "pod-0",
      assignments: [
        { pod: "pod-100", organizations: ["1"] },
        { pod: "pod-101", organizations: ["2"] },
      ],
      settings: { settlingMs: 20, cutover: { readLeaseMs: 200 }, ...settings },
    });
    await this.coordinator.createPlan(plan, assignments, "operator:test");
    await this.command("start");
  }

  command(type: "start" | "approve"): Promise<void> {
    return this.coordinator.command(migrationId, { type }, "operator:test");
  }

  store(podId: string, name: (typeof STORES)[number]): ObedientStore {
    const store = this.stores.get(`${podId}/${name}`) ?? new ObedientStore(name);
    this.stores.set(`${podId}/${name}`, store);
    return store;
  }

  async agent(podId: string, hooks: object[] = [], checks: object[] = []): Promise<() => Promise<void>> {
    const disk = this.#disks.get(podId) ?? new MemoryDisk();
    this.#disks.set(podId, disk);
    const lifecycle = new LifecycleHooks({
      podId: pod(podId),
      hooks: hooks.map((hook) => HookConfig.parse(hook)),
      checks: checks.map((check) => CheckConfig.parse(check)),
      journal: await HookJournal.open(join(this.#bench.folder, `${podId}.json`)),
      query: () => Promise.reject(new Error("there is no database")),
      clock: hurried,
      logger: silentLogger,
    });
    const agent = await Agent.create({
      ...this.#ports,
      podId: pod(podId),
      software: "test",
      stores: STORES.map((name, place) =>
        place === 0 ? new HookedStore(this.store(podId, name), lifecycle) : this.store(podId, name),
      ),
      checkpoints: disk,
      memory: disk.memory,
    });
    agent.onChange(() => lifecycle.update(agent.state));
    await agent.start();
    let stopped: Promise<void> | null = null;
    const stop = () => {
      stopped ??= agent.stop();
      return stopped;
    };
    this.#bench.after(stop);
    return stop;
  }

  reaches(lifecycle: string): Promise<void> {
    return eventually(() => {
      const { waitingFor } = this.coordinator.status().migrations[0] ?? {};
      expect(this.coordinator.state().migrations[migrationId]?.lifecycle, waitingFor?.join()).toBe(lifecycle);
    });
  }

  waitingFor(): string {
    return this.coordinator.status().migrations[0]?.waitingFor.join("; ") ?? "";
  }

  /** When an event was appended, by the log's times. */
  at(type: string): number {
    const record = this.log.records
      .map(decodeRecord)
      .find(({ events }) => events.some((one) => one.type === type));
    return record?.at ?? Number.NaN;
  }
}
