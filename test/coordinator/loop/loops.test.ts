/** Coordinator and agents as whole loops over ports in memory: the lifecycle, restarts, rivals, deadlines. */
import { afterEach, expect, it } from "vitest";
import { Agent } from "../../../agent/loop/agent.ts";
import { Coordinator } from "../../../coordinator/loop/coordinator.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { PodId, StoreName } from "../../../protocol/ids.ts";
import { Plan, type PlanInput } from "../../../protocol/plan.ts";
import { MemoryBlobs, MemoryBus, MemoryDisk, MemoryLog } from "../../support/memory-ports.ts";
import { ObedientStore } from "../../support/stores/obedient-store.ts";
import { assignments, migrationId, org, pod, STORES } from "../../support/story.ts";

class TestCluster {
  readonly log = new MemoryLog();
  readonly bus = new MemoryBus();
  readonly blobs = new MemoryBlobs();
  readonly disks = new Map<PodId, MemoryDisk>();
  readonly agents = new Map<PodId, Agent>();
  readonly stores = new Map<string, ObedientStore>();
  readonly coordinators: Coordinator[] = [];
  readonly ports = {
    log: this.log,
    bus: this.bus,
    blobs: this.blobs,
    clock: systemClock,
    logger: silentLogger,
  };

  async coordinator(id = "c1"): Promise<Coordinator> {
    const cluster = {
      pods: [pod("pod-0"), pod("pod-100"), pod("pod-101")],
      defaultPodId: pod("pod-0"),
      stores: STORES,
    };
    const coordinator = await Coordinator.create({ ...this.ports, id, checkpoints: null, cluster });
    await coordinator.start();
    this.coordinators.push(coordinator);
    return coordinator;
  }

  store(podId: string, name: StoreName): ObedientStore {
    const key = `${podId}/${name}`;
    const store = this.stores.get(key) ?? new ObedientStore(name);
    this.stores.set(key, store);
    return store;
  }

  async agent(id: string): Promise<Agent> {
    const agent = await this.createAgent(id);
    await agent.start();
    this.agents.set(pod(id), agent);
    return agent;
  }

  /** As after a restart, before anything was read or loaded but the checkpoint. */
  async createAgent(id: string): Promise<Agent> {
    const podId = pod(id);
    const disk = this.disks.get(podId) ?? new MemoryDisk();
    this.disks.set(podId, disk);
    const stores = STORES.map((name) => this.store(id, name));
    return await Agent.create({
      ...this.ports,
      podId,
      software: "test",
      stores,
      checkpoints: disk,
      memory: disk.memory,
    });
  }

  async all(): Promise<Coordinator> {
    const coordinator = await this.coordinator();
    for (const podId of ["pod-0", "pod-100", "pod-101"]) await this.agent(podId);
    return coordinator;
  }

  async stop(): Promise<void> {
    this.log.restore();
    for (const agent of this.agents.values()) await agent.stop();
    for (const coordinator of this.coordinators) await coordinator.stop();
  }
}

let cluster: TestCluster;
afterEach(() => cluster.stop());

const plan = (settings: PlanInput["settings"] = {}) =>
  Plan.parse({
    migration: migrationId,
    source: "pod-0",
    assignments: [
      { pod: "pod-100", organizations: ["1"] },
      { pod: "pod-101", organizations: ["2"] },
    ],
    settings: { settlingMs: 50, ...settings },
  });
const auto = { cutover: { approval: "auto" as const, readLeaseMs: 200 } };

async function until(condition: () => boolean, what: () => string = () => "it"): Promise<void> {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 10_000) throw new Error(`not within 10 s: ${what()}`);
    await systemClock.sleep(5);
  }
}
const lifecycle = (coordinator: Coordinator) => coordinator.state().migrations[migrationId]?.lifecycle;
const reaches = (coordinator: Coordinator, wanted: string) =>
  until(
    () => lifecycle(coordinator) === wanted,
    () => `${wanted}, but ${lifecycle(coordinator)}: ${coordinator.status().migrations[0]?.waitingFor}`,
  );

it("a split runs from plan to retention, and everybody agrees who is authoritative", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  await coordinator.createPlan(plan(auto), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await reaches(coordinator, "retaining");
  expect(cluster.log.types()).toEqual([
    "ClusterConfigured",
    "MigrationPlanned",
    "PreflightStarted",
    "PreflightPassed",
    "SeedingCompleted",
    "ReplicasCaughtUp",
    "FenceRaised",
    ...(cluster.log.types().includes("SourceDrained") ? ["SourceDrained"] : []),
    "ConsensusReached",
    "AuthorityTransferred",
    "Opened",
    "Opened",
  ]);
  expect(coordinator.route(org("1"))?.podId).toBe("pod-100");
  const writable = (id: string) =>
    [...cluster.agents]
      .filter(([, agent]) => agent.access(org(id), true).outcome === "allow")
      .map(([podId]) => podId);
  await until(() => writable("1").length === 1 && writable("2").length === 1);
  expect([writable("1"), writable("2"), writable("3")]).toEqual([["pod-100"], ["pod-101"], ["pod-0"]]);
  expect(cluster.store("pod-0", "postgres").goals).toEqual(
    ["prepare", "serve", "fence", "yield", "yield", "yield"].slice(
      0,
      cluster.store("pod-0", "postgres").goals.length,
    ),
  );
  expect(cluster.store("pod-100", "git").goals.slice(0, 4)).toEqual(["seed", "follow", "match", "activate"]);
});

it("two coordinators at once make the same decisions once", async () => {
  cluster = new TestCluster();
  const first = await cluster.all();
  await cluster.coordinator("c2");
  await first.createPlan(plan(auto), assignments, "operator:test");
  await first.command(migrationId, { type: "start" }, "operator:test");
  await reaches(first, "retaining");
  for (const type of ["ClusterConfigured", "FenceRaised", "AuthorityTransferred"]) {
    expect(
      cluster.log.types().filter((one) => one === type),
      type,
    ).toHaveLength(1);
  }
});

it("a Pod that is open stays so while its stores hear that another one has opened too", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  const first = cluster.agents.get(pod("pod-100"));
  const isOpen = () => first?.access(org("1"), true).outcome === "allow";
  let mayOpen = () => {};
  const held = new Promise<void>((resolve) => {
    mayOpen = resolve;
  });
  cluster.store("pod-101", "postgres").before = ({ goal }) => (goal === "activate" ? held : undefined);
  await coordinator.createPlan(plan(auto), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await until(isOpen);
  // From here on its stores never answer again.
  cluster.store("pod-100", "git").before = () => new Promise(() => {});
  mayOpen();
  await reaches(coordinator, "retaining");
  await until(() => cluster.store("pod-100", "objects").duty?.shares[pod("pod-101")] === "opened");
  expect(isOpen()).toBe(true);
});

it("a failing check refuses the migration before anything is touched", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  cluster.store("pod-101", "git").findings = [
    { store: "git", severity: "error", code: "GIT_NOT_EMPTY", message: "not empty" },
  ];
  await coordinator.createPlan(plan(), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "check" }, "operator:test");
  await until(() => coordinator.state().migrations[migrationId]?.context.findings.length === 1);
  expect(lifecycle(coordinator)).toBe("planned");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await reaches(coordinator, "refused");
  for (const store of cluster.stores.values()) expect(store.goals).toEqual([]);
});

it("a peer whose agent is away for a moment refuses no plan", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  const store = cluster.store("pod-100", "git");
  const message = "pod-0: connection refused";
  store.findings = [{ store: "git", severity: "error", code: "PEER_UNREACHABLE", message }];
  await coordinator.createPlan(plan(auto), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await systemClock.sleep(200);
  expect(lifecycle(coordinator)).toBe("preflight");
  store.findings = [];
  await reaches(coordinator, "retaining");
});

it("a difference is never transferred: the fence runs out, the source serves, and the reason is told", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  cluster.store("pod-101", "objects").content = "other";
  await coordinator.createPlan(
    plan({ cutover: { ...auto.cutover, attempts: 1, deadlineMs: 200 } }),
    assignments,
    "operator:test",
  );
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await until(() => cluster.log.types().includes("FenceLowered"));
  const source = cluster.agents.get(pod("pod-0")) as Agent;
  await until(() => source.access(org("1"), true).outcome === "allow");
  expect(coordinator.state().migrations[migrationId]?.context.reason).toContain("pod-101: objects differs");
  await reaches(coordinator, "ready");
  expect(coordinator.status().migrations[0]?.waitingFor[0]).toMatch(/approve the cutover again or abort/);
  cluster.store("pod-101", "objects").content = "same";
  await coordinator.command(migrationId, { type: "approve" }, "operator:test");
  await reaches(coordinator, "retaining");
});

it("with the coordinator dead, the source's agent lowers an expired fence through the log", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  cluster.store("pod-101", "git").before = (duty) =>
    duty.goal === "match" ? new Promise(() => undefined) : undefined;
  await coordinator.createPlan(
    plan({ cutover: { ...auto.cutover, deadlineMs: 300 } }),
    assignments,
    "operator:test",
  );
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await until(() => cluster.log.types().includes("FenceRaised"));
  await coordinator.stop();
  await until(() => cluster.log.types().includes("FenceLowered"));
  const source = cluster.agents.get(pod("pod-0")) as Agent;
  await until(() => source.access(org("1"), true).outcome === "allow");
});

it("with the log gone, a fenced source neither writes nor, after its lease, reads; and never re-opens by itself", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  cluster.store("pod-101", "git").before = (duty) =>
    duty.goal === "match" ? new Promise(() => undefined) : undefined;
  await coordinator.createPlan(
    plan({ cutover: { ...auto.cutover, deadlineMs: 400 } }),
    assignments,
    "operator:test",
  );
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  const source = cluster.agents.get(pod("pod-0")) as Agent;
  await until(() => source.access(org("1"), true).outcome === "fenced");
  expect(source.access(org("1"), false).outcome).toBe("allow");
  cluster.log.down = true;
  await systemClock.sleep(1_200);
  expect(source.access(org("1"), false).outcome).not.toBe("allow");
  expect(source.access(org("1"), true).outcome).not.toBe("allow");
  expect(source.access(org("3"), true).outcome).toBe("allow");
  cluster.log.restore();
  await until(() => source.access(org("1"), true).outcome === "allow");
});

it("an agent that restarts at the fence proves everything again, and a dead source holds up the opening no longer than its lease", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  let hold: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    hold = resolve;
  });
  cluster.store("pod-101", "postgres").before = (duty) => (duty.goal === "match" ? held : undefined);
  await coordinator.createPlan(plan(auto), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await until(() => cluster.log.types().includes("SourceDrained"));
  await cluster.agents.get(pod("pod-100"))?.stop();
  await cluster.agent("pod-100");
  const source = cluster.agents.get(pod("pod-0")) as Agent;
  cluster.store("pod-101", "postgres").before = (duty) =>
    duty.goal === "activate" ? source.stop() : undefined;
  hold();
  await reaches(coordinator, "retaining");
  expect(cluster.store("pod-100", "postgres").goals).toContain("match");
});

it("an agent that has loaded its checkpoint alone tells routers nothing yet, and serves nobody", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  await coordinator.createPlan(plan(auto), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await reaches(coordinator, "retaining");
  await cluster.agents.get(pod("pod-100"))?.stop();
  const restarted = await cluster.createAgent("pod-100");
  expect(restarted.route(org("1"))).toBeNull();
  expect(restarted.access(org("1"), true)).toEqual({ outcome: "unknownIdentity" });
  await restarted.start();
  expect(restarted.route(org("1"))?.podId).toBe("pod-100");
});

it("an abort releases every participant and leaves the organizations free for another plan", async () => {
  cluster = new TestCluster();
  const coordinator = await cluster.all();
  await coordinator.createPlan(plan(), assignments, "operator:test");
  await coordinator.command(migrationId, { type: "start" }, "operator:test");
  await reaches(coordinator, "ready");
  await coordinator.command(migrationId, { type: "abort", reason: "changed my mind" }, "operator:test");
  await until(() => [...cluster.stores.values()].every((store) => store.goals.at(-1) === "release"));
  await coordinator.createPlan(
    { ...plan(auto), migration: "split-2" as typeof migrationId },
    assignments,
    "operator:test",
  );
  await coordinator.command("split-2" as typeof migrationId, { type: "start" }, "operator:test");
  await until(
    () => coordinator.state().migrations["split-2" as typeof migrationId]?.lifecycle === "retaining",
  );
});
