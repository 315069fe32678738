/** Hooks in whole splits: real loops, a real HTTP server and real programs. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { callOut } from "../../../agent/hooks/call.ts";
import { HookConfig } from "../../../agent/hooks/config.ts";
import { HookedStore } from "../../../agent/hooks/hooked-store.ts";
import { HookJournal } from "../../../agent/hooks/journal.ts";
import { LifecycleHooks } from "../../../agent/hooks/lifecycle-hooks.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../support/eventually.ts";
import { Bench, hurried, listener, PODS, Split } from "../../support/hooked-split.ts";
import { ObedientStore } from "../../support/stores/obedient-store.ts";
import { fold, migrationId, pod, say, until } from "../../support/story.ts";

let bench: Bench;
beforeEach(async () => {
  bench = await Bench.create();
});
afterEach(() => bench.end());

const everywhere = (url: string) =>
  ["beforeFence", "fenced", "transferred", "opened", "aborted", "beforeRemoval"].map((at) => ({
    name: "all",
    at,
    url,
  }));

it("hooks are called at every point of a split, once, and not before the cutover is approved", async () => {
  const { url, calls, points } = await listener(bench);
  const split = new Split(bench);
  for (const podId of PODS) await split.agent(podId, everywhere(url));
  await split.begin();
  await split.reaches("ready");
  await eventually(() =>
    expect(split.coordinator.status().migrations[0]?.possibleCommands).toContain("approve"),
  );
  await systemClock.sleep(100);
  expect(calls).toEqual([]);
  await split.command("approve");
  await split.reaches("retaining");
  await eventually(() => {
    for (const podId of PODS)
      expect(points(podId)).toEqual(["beforeFence", "fenced", "transferred", "opened"]);
  });
  expect(calls.find((one) => one.point === "beforeFence")).toMatchObject({ attempt: 1, epoch: null });
  expect(calls.find((one) => one.pod === "pod-100" && one.point === "opened")).toMatchObject({
    call: "split-1/pod-100/opened/all",
    role: "target",
    epoch: 1,
  });
  // Approved is not fenced: the calls before the fence ended before it was raised.
  await split.coordinator.command(migrationId, { type: "finalize", dryRun: false }, "operator:test");
  await split.reaches("completed");
  for (const podId of PODS)
    expect(points(podId)).toEqual(["beforeFence", "fenced", "transferred", "opened", "beforeRemoval"]);
});

it("a rollback calls the hooks of its two Pods, as the migration that it is", async () => {
  const { url, calls } = await listener(bench);
  const split = new Split(bench);
  for (const podId of PODS) await split.agent(podId, everywhere(url));
  await split.begin({ cutover: { approval: "auto", readLeaseMs: 200 } });
  await split.reaches("retaining");
  await eventually(() => expect(calls.filter(({ point }) => point === "opened")).toHaveLength(PODS.length));
  calls.length = 0;
  const { migrationId: rollback } = await split.coordinator.rollback(
    {
      of: migrationId,
      podId: pod("pod-100"),
      organizations: null,
      as: null,
      approval: "auto",
      acceptLoss: null,
    },
    "operator:test",
  );
  await eventually(() => expect(split.coordinator.state().migrations[rollback]?.lifecycle).toBe("retaining"));
  const way = ["beforeFence", "fenced", "transferred", "opened"];
  const of = (podId: string) => calls.filter((one) => one.pod === podId);
  await eventually(() => {
    expect(of("pod-100").map(({ point, role }) => `${point} ${role}`)).toEqual(
      way.map((point) => `${point} source`),
    );
    expect(of("pod-0").map(({ point, role }) => `${point} ${role}`)).toEqual(
      way.map((point) => `${point} target`),
    );
  });
  expect(of("pod-101"), "which takes no part in it").toEqual([]);
  expect(new Set(calls.map(({ call }) => call.split("/")[0]))).toEqual(new Set([rollback]));
});

it("a hook that fails before the fence keeps it from being raised, and says so", async () => {
  let status = 500;
  const { url, calls } = await listener(bench, () => status);
  const split = new Split(bench);
  await split.agent("pod-0", [{ name: "pause-jobs", at: "beforeFence", url }]);
  for (const podId of PODS.slice(1)) await split.agent(podId);
  await split.begin();
  await split.reaches("ready");
  await split.command("approve");
  await eventually(() => expect(split.waitingFor()).toContain("hook pause-jobs (beforeFence)"));
  expect(split.waitingFor()).toContain("answered 500: said the listener");
  await systemClock.sleep(200);
  expect(split.log.types()).not.toContain("FenceRaised");
  expect(calls).toHaveLength(1);
  // Repeated with the checks, every ten seconds; then the cutover goes on by itself.
  status = 200;
  await eventually(() => expect(split.log.types()).toContain("AuthorityTransferred"), 20_000);
  expect(calls).toHaveLength(2);
}, 40_000);

it("a hook that fails while fenced lowers the fence at once, and the other side is told that it is over", async () => {
  const { url, points } = await listener(bench, (called) =>
    called.point === "fenced" && called.pod === "pod-101" ? 500 : 200,
  );
  const split = new Split(bench);
  for (const podId of PODS) await split.agent(podId, everywhere(url));
  // A drain that would take long: nobody waits for it, nor for the deadline.
  split.store("pod-0", "git").before = async ({ goal }) => {
    if (goal === "fence") await systemClock.sleep(5_000);
  };
  await split.begin();
  await split.reaches("ready");
  await split.command("approve");
  await eventually(() => expect(split.log.types()).toContain("FenceLowered"));
  expect(split.at("FenceLowered") - split.at("FenceRaised")).toBeLessThan(2_000);
  expect(split.coordinator.status().migrations[0]?.reason).toContain("pod-101: hook all (fenced)");
  await eventually(() => {
    for (const podId of PODS) expect(points(podId)).toEqual(["beforeFence", "fenced", "aborted"]);
  });
  expect(split.log.types()).not.toContain("AuthorityTransferred");
});

it("a slow hook while fenced adds its time limit to the window and no more", async () => {
  const { url } = await listener(bench, async ({ hook }) => {
    await systemClock.sleep(hook === "slow" ? 400 : 0);
    return 200;
  });
  const split = new Split(bench);
  // Side by side: two of them take as long as one.
  const slow = { name: "slow", at: "fenced", url, timeLimitMs: 2_000 };
  await split.agent("pod-0", [slow, { ...slow, name: "quick" }]);
  await split.agent("pod-100", [slow]);
  await split.agent("pod-101");
  await split.begin({ cutover: { approval: "auto", readLeaseMs: 200 } });
  await split.reaches("retaining");
  const took = split.at("AuthorityTransferred") - split.at("FenceRaised");
  expect(took).toBeGreaterThanOrEqual(390);

  const hanging = await listener(bench, () => new Promise(() => undefined));
  const other = new Split(bench);
  await other.agent("pod-0", [{ name: "hangs", at: "fenced", url: hanging.url, timeLimitMs: 200 }]);
  await other.agent("pod-100");
  await other.agent("pod-101");
  await other.begin();
  await other.reaches("ready");
  await other.command("approve");
  await eventually(() => expect(other.log.types()).toContain("FenceLowered"));
  expect(other.at("FenceLowered") - other.at("FenceRaised")).toBeLessThan(2_000);
  expect(other.coordinator.status().migrations[0]?.reason).toContain("no answer within 200 ms");
});

it("a hook that fails after the transfer is shown and repeated, and nothing waits for it", async () => {
  let status = 500;
  const { url, calls } = await listener(bench, () => status);
  const split = new Split(bench);
  await split.agent("pod-0");
  await split.agent("pod-100", [{ name: "reindex", at: "opened", url }]);
  await split.agent("pod-101");
  await split.begin({ cutover: { approval: "auto", readLeaseMs: 200 } });
  await split.reaches("retaining");
  const problems = () =>
    split.coordinator
      .status()
      .migrations[0]?.pods.find(({ podId }) => podId === "pod-100")
      ?.stores.postgres?.problems.map(({ code, message }) => `${code} ${message}`);
  await eventually(() => expect(problems()?.join()).toContain("HOOK_RETRIED hook reindex (opened)"));
  await eventually(() => expect(calls.length).toBeGreaterThan(2));
  expect(new Set(calls.map(({ call }) => call)).size).toBe(1);
  status = 200;
  await eventually(() => expect(problems()).toEqual([]));
});

it("a restarted agent repeats what was not done, and not what was", async () => {
  let status = 500;
  const { url, calls } = await listener(bench, ({ point }) => (point === "opened" ? status : 200));
  const split = new Split(bench);
  await split.agent("pod-0");
  const stop = await split.agent("pod-100", everywhere(url));
  await split.agent("pod-101");
  await split.begin({ cutover: { approval: "auto", readLeaseMs: 200 } });
  await split.reaches("retaining");
  await eventually(() => expect(calls.map(({ point }) => point)).toContain("opened"));
  await stop();
  const before = calls.length;
  status = 200;
  await split.agent("pod-100", everywhere(url));
  await eventually(() => expect(calls.length).toBe(before + 1));
  await systemClock.sleep(100);
  expect(calls.slice(before).map(({ point }) => point)).toEqual(["opened"]);
  // Hooks that are configured only now are not told of what was.
  await rm(join(bench.folder, "pod-101.json"), { force: true });
  const late = await listener(bench);
  await split.agent("pod-101", everywhere(late.url));
  await systemClock.sleep(100);
  expect(late.calls).toEqual([]);
});

it("dormant data stays when the hook before its removal fails", async () => {
  const { url } = await listener(bench, ({ point }) => (point === "beforeRemoval" ? 503 : 200));
  const split = new Split(bench);
  await split.agent("pod-0", everywhere(url));
  await split.agent("pod-100");
  await split.agent("pod-101");
  await split.begin({ cutover: { approval: "auto", readLeaseMs: 200 } });
  await split.reaches("retaining");
  await split.coordinator.command(migrationId, { type: "finalize", dryRun: false }, "operator:test");
  await eventually(() => expect(split.log.types()).toContain("RemovalChecked"));
  const { lifecycle, findings } = split.coordinator.status().migrations[0] ?? {};
  expect(lifecycle).toBe("retaining");
  expect(findings?.map(({ code }) => code)).toEqual(["HOOK_FAILED"]);
});

it("an operator's check refuses the plan, and a warning only warns", async () => {
  const split = new Split(bench);
  const command = ["sh", "-c", "echo two background migrations run; exit 3"];
  await split.agent(
    "pod-0",
    [],
    [
      { name: "no-background-migration", command },
      { name: "only-said", command, severity: "warning" },
      { name: "of-targets", command, role: "target" },
      { name: "of-removals", command, stages: ["removal"] },
      { name: "no-database", sql: "SELECT 1" },
      { name: "fine", command: ["true"] },
    ],
  );
  for (const podId of PODS.slice(1)) await split.agent(podId);
  await split.begin();
  await split.reaches("refused");
  const findings = split.coordinator.status().migrations[0]?.findings ?? [];
  expect(findings.map(({ severity, code }) => `${severity} ${code}`)).toEqual([
    "error CHECK_FAILED",
    "warning CHECK_FAILED",
    "error CHECK_FAILED",
  ]);
  expect(findings[0]?.message).toBe(
    "pod-0: no-background-migration: sh ended with 3: two background migrations run",
  );
  expect(findings[2]?.message).toContain("there is no database");
});

it("a program is told on its standard input and in its environment, and ends with all that it started", async () => {
  const file = join(bench.folder, "told");
  const script = `cat > ${file}; echo "$CLEAVE_POINT $CLEAVE_POD $CLEAVE_ATTEMPT" >> ${file}`;
  const payload = { point: "opened", pod: "pod-0", attempt: 1, targets: ["pod-100"] };
  const { signal } = new AbortController();
  await callOut({ command: ["sh", "-c", script], timeLimitMs: 5_000 }, payload, signal);
  expect(await readFile(file, "utf8")).toBe(`${JSON.stringify(payload)}\nopened pod-0 1\n`);
  const pids = join(bench.folder, "pids");
  await writeFile(pids, "");
  const hangs = `sleep 60 & echo $! > ${pids}; wait`;
  await expect(callOut({ command: ["sh", "-c", hangs], timeLimitMs: 500 }, payload, signal)).rejects.toThrow(
    "no answer within 500 ms",
  );
  const pid = Number(await readFile(pids, "utf8"));
  expect(pid).toBeGreaterThan(1);
  await eventually(async () => {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
    expect(stat === null || / Z /.test(stat)).toBe(true);
  });
  await expect(callOut({ command: ["/nonexistent"], timeLimitMs: 500 }, payload, signal)).rejects.toThrow(
    "ENOENT",
  );
});

it("a fence is not reached while a hook of it runs, nor when one failed, whatever a coordinator makes of it", async () => {
  let status = 200;
  const { url, calls } = await listener(bench, async () => {
    await systemClock.sleep(200);
    return status;
  });
  const hooks = new LifecycleHooks({
    podId: pod("pod-0"),
    hooks: [HookConfig.parse({ name: "flush", at: "fenced", url })],
    checks: [],
    journal: await HookJournal.open(join(bench.folder, "alone.json")),
    query: () => Promise.reject(new Error("there is no database")),
    clock: hurried,
    logger: silentLogger,
  });
  const inner = new ObedientStore("postgres");
  const store = new HookedStore(inner, hooks);
  const reach = (epoch: number) => {
    const duty = { migrationId, goal: "fence", epoch } as Parameters<typeof store.reach>[0];
    return store.reach(duty, new AbortController().signal);
  };
  hooks.update(fold(until.fencing()));
  let reached = false;
  const first = reach(1).then(() => {
    reached = true;
  });
  await eventually(() => expect(inner.status(migrationId)?.reached).toBe(true));
  expect(reached).toBe(false);
  await first;
  // Asked again for the same fence: it was called.
  await reach(1);
  expect(calls).toHaveLength(1);
  status = 500;
  hooks.update(fold([...until.fencing(), say.lowered(), say.caughtUp(), say.fenced(2)]));
  await expect(reach(2)).rejects.toThrow("hook flush (fenced)");
  expect(store.status(migrationId)?.problems.map(({ code }) => code)).toEqual(["HOOK_FAILED"]);
  // The attempt is lost: it is not called again every time that the worker tries.
  await expect(reach(2)).rejects.toThrow("hook flush (fenced)");
  expect(calls).toHaveLength(2);
  await store.close();
});
