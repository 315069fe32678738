/** A whole split as Prometheus sees it: real loops, the coordinator's API and agents' servers over HTTP. */
import { afterEach, expect, it } from "vitest";
import { measureAgent } from "../../../agent/telemetry/measure.ts";
import { startMetricsServer } from "../../../agent/telemetry/server.ts";
import { type ReachOutcome, WatchedStore } from "../../../agent/telemetry/watched-store.ts";
import type { AccessToken } from "../../../coordinator/api/roles.ts";
import { createApi } from "../../../coordinator/api/server.ts";
import { measureCoordinator, measureProcess } from "../../../coordinator/telemetry/measure.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { Plan } from "../../../protocol/plan.ts";
import { Meters } from "../../../protocol/telemetry/meters.ts";
import { collectTallies, tally } from "../../../protocol/telemetry/tally.ts";
import { WatchedBus, WatchedCheckpoints } from "../../../protocol/telemetry/watched-ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { eventually } from "../../support/eventually.ts";
import { MemoryBus, MemoryDisk } from "../../support/memory-ports.ts";
import { assignments, epoch, migrationId, pod, storeStatus } from "../../support/story.ts";

const endings: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

/** Samples by name and labels, as they stand in the text. */
async function scrape(url: string, headers: Record<string, string> = {}): Promise<Map<string, number>> {
  const response = await fetch(url, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toContain("text/plain");
  const samples = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    samples.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1).replace("Inf", "Infinity"))];
    }),
  );
}

async function startCoordinatorsMetrics(
  fixture: ApiFixture,
  tokens: readonly AccessToken[],
  isPublic: boolean,
) {
  const meters = new Meters({ exposer: "coordinator" });
  const service = fixture.coordinator;
  let ready = false;
  const measured = {
    service,
    ready: () => ready,
    connected: () => !fixture.log.down,
    checkpoints: new WatchedCheckpoints(new MemoryDisk(), systemClock),
    clock: systemClock,
  };
  measureProcess(meters, measured);
  const api = await createApi({
    service,
    ready: () => ready,
    problem: () => null,
    tokens,
    logger: silentLogger,
    metrics: { meters, public: isPublic },
  });
  await api.listen({ host: "127.0.0.1", port: 0 });
  endings.push(() => api.close());
  const address = api.server.address();
  if (address === null || typeof address === "string") throw new Error("the API does not listen");
  return {
    url: `http://127.0.0.1:${address.port}/metrics`,
    read: () => {
      ready = true;
      endings.push(measureCoordinator(meters, measured));
    },
  };
}

it("a coordinator tells states, reports, decisions and windows", async () => {
  const fixture = await startApi();
  endings.push(() => fixture.stop());
  const { url, read } = await startCoordinatorsMetrics(fixture, [], false);
  const before = await scrape(url);
  expect(before.get("cleave_ready")).toBe(0);
  expect(before.get("cleave_nats_connected")).toBe(1);
  expect([...before.keys()].some((name) => name.startsWith("cleave_report_age"))).toBe(false);

  read();
  await fixture.startAgents("pod-0", "pod-100");
  const silent = await scrape(url);
  expect(silent.get('cleave_report_age_seconds{pod="pod-101"}')).toBe(Number.POSITIVE_INFINITY);
  await fixture.startAgents("pod-101");
  const plan = Plan.parse({
    migration: migrationId,
    source: "pod-0",
    assignments: [
      { pod: "pod-100", organizations: ["1"] },
      { pod: "pod-101", organizations: ["2"] },
    ],
    settings: { settlingMs: 50, cutover: { approval: "auto", readLeaseMs: 200 } },
  });
  // A drain that takes a while: the window is at least as long.
  fixture.store("pod-0", "git").before = async ({ goal }) => {
    if (goal === "fence") await systemClock.sleep(250);
  };
  await fixture.coordinator.createPlan(plan, assignments, "operator:test");
  await fixture.coordinator.command(migrationId, { type: "start" }, "operator:test");
  await eventually(() =>
    expect(fixture.coordinator.state().migrations[migrationId]?.lifecycle).toBe("retaining"),
  );
  let after = new Map<string, number>();
  await eventually(async () => {
    after = await scrape(url);
    expect(after.get('cleave_read_only_window_seconds_count{outcome="opened"}')).toBe(2);
  });
  expect(after.get('cleave_migration_state{migration="split-1",kind="split",state="retaining"}')).toBe(1);
  expect([...after.keys()].filter((name) => name.startsWith("cleave_migration_state{"))).toHaveLength(1);
  const sum = after.get('cleave_read_only_window_seconds_sum{outcome="opened"}') ?? 0;
  expect(sum).toBeGreaterThan(2 * 0.24);
  expect(sum).toBeLessThan(60);
  expect(after.get('cleave_decisions_total{type="FenceRaised"}')).toBe(1);
  expect(after.get('cleave_decisions_total{type="Opened"}')).toBe(2);
  expect(after.get("cleave_log_sequence")).toBe(fixture.coordinator.state().sequence);
  expect(after.get('cleave_report_age_seconds{pod="pod-101"}')).toBeLessThan(5);
  expect(after.get('cleave_cutover_attempts{migration="split-1"}')).toBe(1);
  expect([...after.keys()].some((name) => name.startsWith("cleave_fence_age"))).toBe(false);
});

it("a coordinator's metrics need a token, unless the configuration says that they do not", async () => {
  const fixture = await startApi();
  endings.push(() => fixture.stop());
  const token = "a-token-of-sufficient-length";
  const tokens = [{ name: "prometheus", role: "viewer" as const, token }];
  const guarded = await startCoordinatorsMetrics(fixture, tokens, false);
  expect((await fetch(guarded.url)).status).toBe(401);
  expect((await scrape(guarded.url, { authorization: `Bearer ${token}` })).get("cleave_ready")).toBe(0);
  const open = await startCoordinatorsMetrics(fixture, tokens, true);
  expect((await scrape(open.url)).get("cleave_ready")).toBe(0);
});

it("an agent tells what it reports, its guard's answers, its checkpoint and what it copied", async () => {
  const meters = new Meters({ exposer: "agent", labels: { pod: "pod-100" } });
  const bus = new WatchedBus(new MemoryBus());
  const checkpoints = new WatchedCheckpoints(new MemoryDisk(), systemClock);
  const health = { ready: false, connected: true, sequence: 12 };
  measureAgent(meters, { health: () => health, bus, checkpoints, held: () => 3 });
  const options = { podId: pod("pod-100"), host: "127.0.0.1", port: 0, logger: silentLogger };
  const server = await startMetricsServer({ ...options, meters, health: () => health });
  endings.push(() => server.close());
  const at = (path: string) => `http://127.0.0.1:${server.port}${path}`;

  expect((await fetch(at("/ready"))).status).toBe(503);
  health.ready = true;
  expect((await fetch(at("/ready"))).status).toBe(200);
  expect(await (await fetch(at("/health"))).json()).toMatchObject({ podId: "pod-100", connected: true });
  expect((await fetch(at("/else"))).status).toBe(404);
  expect((await fetch(at("/metrics"), { method: "POST" })).status).toBe(405);

  const report = (stores: Record<string, ReturnType<typeof storeStatus>>) => ({
    ...{ v: 2 as const, podId: pod("pod-100"), incarnation: 1, reportSequence: 1, appliedSequence: 12 },
    ...{ at: 1, software: "test", notUnderstood: null },
    migrations: { [migrationId]: { stores, preflight: null, dormantEpoch: 0 } },
  });
  bus.publishReport(
    report({
      postgres: storeStatus("follow", {
        lag: { amount: 4096, unit: "bytes" },
        verified: true,
        keptBytes: 7,
        problems: [
          { code: "DISK_FULL", message: "a" },
          { code: "DISK_FULL", message: "b" },
        ],
      }),
      git: storeStatus("follow", { lag: { amount: null, unit: "repositories" }, verified: false }),
      objects: storeStatus("removeFiles", {
        reached: false,
        lag: null,
        progress: { done: 5, total: 9, unit: "objects" },
        stragglers: ["a writer"],
        evidence: { epoch: epoch(1), digest: "d", details: {} },
      }),
    }),
  );
  const first = await scrape(at("/metrics"));
  const of = (name: string, labels: string) =>
    first.get(`${name}{${labels === "" ? "" : `${labels},`}pod="pod-100"}`);
  const store = (name: string) => `migration="split-1",store="${name}"`;
  expect(of("cleave_lag_bytes", store("postgres"))).toBe(4096);
  expect(of("cleave_lag_known", store("postgres"))).toBe(1);
  expect(of("cleave_verified", store("postgres"))).toBe(1);
  expect(of("cleave_wal_kept_bytes", 'migration="split-1"')).toBe(7);
  expect(of("cleave_store_problems", `${store("postgres")},code="DISK_FULL"`)).toBe(2);
  // Unknown is no number: it would look like no lag at all.
  expect(of("cleave_lag_repositories", store("git"))).toBeUndefined();
  expect(of("cleave_lag_known", store("git"))).toBe(0);
  expect(of("cleave_verified", store("git"))).toBe(0);
  expect(of("cleave_progress_done", `${store("objects")},state="removing",unit="objects"`)).toBe(5);
  expect(of("cleave_progress_total", `${store("objects")},state="removing",unit="objects"`)).toBe(9);
  expect(of("cleave_state_reached", `${store("objects")},state="removing"`)).toBe(0);
  expect(of("cleave_stragglers", store("objects"))).toBe(1);
  expect(of("cleave_guard_held", "")).toBe(3);
  expect(of("cleave_log_sequence", "")).toBe(12);

  // What flows back to a source after the transfer.
  const back = (
    amount: number | null,
    unit: "bytes" | "objects",
    verified: boolean,
    code?: "REVERSE_REPLICATION_GONE",
  ) => ({
    [pod("pod-7")]: {
      lag: { amount, unit },
      verified,
      problem: code === undefined ? null : { code, message: "its slot is gone" },
    },
  });
  bus.publishReport(
    report({
      postgres: storeStatus("yield", {
        reverseReplication: back(null, "bytes", false, "REVERSE_REPLICATION_GONE"),
      }),
      objects: storeStatus("yield", { reverseReplication: back(3, "objects", true) }),
    }),
  );
  const behind = await scrape(at("/metrics"));
  const from = (name: string, of: string, more = "") =>
    behind.get(`${name}{${store(of)},from="pod-7",${more}pod="pod-100"}`);
  expect(from("cleave_reverse_replication_lag_bytes", "postgres")).toBeUndefined();
  expect(from("cleave_reverse_replication_verified", "postgres")).toBe(0);
  expect(from("cleave_reverse_replication_problems", "postgres", 'code="REVERSE_REPLICATION_GONE",')).toBe(1);
  expect(from("cleave_reverse_replication_lag_objects", "objects")).toBe(3);
  expect(from("cleave_reverse_replication_verified", "objects")).toBe(1);

  // What is over is not told any more.
  bus.publishReport(report({ postgres: storeStatus("activate", { lag: null }) }));
  const second = await scrape(at("/metrics"));
  expect(
    [...second.keys()].filter((name) =>
      /^cleave_(lag|progress|verified|store_problems|reverse_replication)/.test(name),
    ),
  ).toEqual([]);
  expect(second.get(`cleave_state_reached{${store("postgres")},state="promoting",pod="pod-100"}`)).toBe(1);
});

it("tallies of stores and ends of goals are told where somebody listens", async () => {
  const seen: string[] = [];
  const end = collectTallies((store, unit, amount) => seen.push(`${store} ${unit} ${amount}`));
  tally("git", "repositories", 1);
  tally("postgres", "bytes", 0);
  end();
  tally("git", "repositories", 1);
  expect(seen).toEqual(["git repositories 1"]);

  const fixture = await startApi();
  endings.push(() => fixture.stop());
  const store = fixture.store("pod-0", "git");
  const outcomes: ReachOutcome["kind"][] = [];
  const watched = new WatchedStore(store, ({ goal }, name) => {
    expect([goal, name]).toEqual(["serve", "git"]);
    return ({ kind }) => outcomes.push(kind);
  });
  const duty = { migrationId, goal: "serve", epoch: null } as Parameters<typeof watched.reach>[0];
  await watched.reach(duty, new AbortController().signal);
  expect(watched.status(migrationId)?.goal).toBe("serve");
  store.before = () => Promise.reject(new Error("full"));
  await expect(watched.reach(duty, new AbortController().signal)).rejects.toThrow("full");
  store.before = () => systemClock.sleep(1_000);
  const stopping = new AbortController();
  const cut = watched.reach(duty, stopping.signal);
  stopping.abort(new Error("called away"));
  await expect(cut).rejects.toThrow("called away");
  expect(outcomes).toEqual(["reached", "failed", "abandoned"]);
});
