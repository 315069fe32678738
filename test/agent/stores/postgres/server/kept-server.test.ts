/** A Pod that Cleave made keeps its server, during the migration and after it, until a service has taken it over. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { startServer } from "../../../../../agent/stores/postgres/server/server.ts";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  never,
  reachAtLast,
  SOURCE,
  type TargetPod,
  targetId,
} from "../../../../support/postgres/pods.ts";
import { signalServer } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
const SERVICE_SETTING = "11min";
let pods: Assembly;
let pod: TargetPod;
const agents: PostgresStore[] = [];

/** As an agent that was started again: whatever ran before in its place has ended. */
async function agent(
  podId = TARGET,
  overrides: Parameters<Assembly["store"]>[1] = {},
): Promise<PostgresStore> {
  for (const former of agents.splice(0)) await former.close();
  const store = pods.store(podId, overrides);
  agents.push(store);
  store.keepServer();
  return store;
}

async function answers(): Promise<{ timeout: string } | null> {
  const client = await connectTo(pod).catch(() => null);
  if (client === null) return null;
  const { rows } = await client.query("SELECT current_setting('checkpoint_timeout') AS timeout");
  await client.end();
  return rows[0];
}

const kill = () => signalServer(pod.dataDirectory, "SIGKILL");

beforeAll(async () => {
  pods = await assemble();
  pod = pods.targets[0] as TargetPod;
  const source = pods.store(SOURCE);
  const target = await agent();
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  expect(target.podProblems).toEqual([]);
  await source.preflight(pods.duty(SOURCE, "serve"), "fence", never);
  const fenced = { epoch: 1, phase: "fenced" } as const;
  await Promise.all([
    source.reach(pods.duty(SOURCE, "fence", fenced), never),
    target.reach(pods.duty(TARGET, "match", fenced), never),
  ]);
  await target.reach(pods.duty(TARGET, "activate", { epoch: 1, phase: "transferred" }), never);
  await target.reach(pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
  await source.reach(pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
}, 60_000);
afterAll(() => pods.remove(), 60_000);

it("is started again after the transfer, without anybody's asking", async () => {
  expect(agents.map(({ podProblems }) => podProblems)).toEqual([[]]);
  // What the opening leaves to do is done beside it.
  await new Promise((resolve) => setTimeout(resolve, 500));
  await kill();
  await expect.poll(answers, { timeout: 10_000 }).not.toBeNull();
}, 30_000);

it("is started by an agent that has no duty any more, for the migration is completed", async () => {
  const target = await agent();
  const removal = { mayRemove: () => true };
  const done = { epoch: 1, phase: "opened", removal } as const;
  await reachAtLast(target, pods.duty(TARGET, "removeFiles", done));
  await reachAtLast(target, pods.duty(TARGET, "removeRows", done));
  await target.close();
  await kill();
  expect(await answers()).toBeNull();
  await agent();
  await expect.poll(answers, { timeout: 10_000 }).not.toBeNull();
}, 60_000);

it("is said to be stopped within seconds when it cannot be started", async () => {
  const broken = await agent(TARGET, { serverOptions: { shared_buffers: "no number" } });
  await kill();
  await expect
    .poll(() => broken.podProblems, { timeout: 5_000 })
    .toMatchObject([{ code: "POSTGRES_SETTING", message: expect.stringMatching(/shared_buffers/) }]);
  const mended = await agent();
  await expect.poll(answers, { timeout: 10_000 }).not.toBeNull();
  await expect.poll(() => mended.podProblems).toEqual([]);
}, 30_000);

it("is started by the agent until the service that was named has started it once, and never after that", async () => {
  const service = await agent(TARGET, { startedBy: "service" });
  await kill();
  await expect.poll(answers, { timeout: 10_000 }).not.toBeNull();
  await service.close();
  await kill();
  const { binaries, runAs } = pods.source.environment;
  const byService = () =>
    startServer({
      binaries,
      runAs,
      dataDirectory: pod.dataDirectory,
      settings: { checkpoint_timeout: SERVICE_SETTING },
      logFile: `${pod.folder}/service.log`,
      signal: AbortSignal.timeout(20_000),
    });
  await byService();
  const after = await agent(TARGET, { startedBy: "service" });
  expect(await answers()).toEqual({ timeout: SERVICE_SETTING });
  // So that it has been seen.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await kill();
  await expect
    .poll(() => after.podProblems, { timeout: 5_000 })
    .toMatchObject([{ code: "POSTGRES_UNREACHABLE", message: expect.stringMatching(/service/) }]);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(await answers()).toBeNull();
  await byService();
  await expect.poll(() => after.podProblems, { timeout: 5_000 }).toEqual([]);
}, 60_000);

it("of a source is said to be stopped as well, and never started", async () => {
  const source = pods.store(SOURCE);
  source.keepServer();
  await pods.source.stop();
  await expect
    .poll(() => source.podProblems, { timeout: 8_000 })
    .toMatchObject([{ code: "POSTGRES_UNREACHABLE" }]);
  await pods.source.resume();
  await expect.poll(() => source.podProblems, { timeout: 8_000 }).toEqual([]);
  await source.close();
}, 30_000);
