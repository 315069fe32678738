/** The base copy of a target: what stops it, what it survives, and what is left of it when the migration is aborted. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { processStartTime, signalWriter } from "../../../../../agent/stores/machine/processes.ts";
import { slotName } from "../../../../../agent/stores/postgres/split/slots.ts";
import { Settings } from "../../../../../protocol/plan.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  reachAtLast,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";
import { processesOf, removeServer, signalServer } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
let pods: Assembly;
const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}, 60_000);

async function prepared(options: Parameters<typeof assemble>[0] = {}): Promise<TargetPod> {
  pods = await assemble(options);
  cleanups.push(() => pods.remove());
  await pods.store(SOURCE).reach(pods.duty(SOURCE, "prepare"), never);
  return pods.targets[0] as TargetPod;
}

const seed = (store = pods.store(TARGET)) => store.reach(pods.duty(TARGET, "seed"), never);

it("refuses a data directory with anything in it, and leaves it alone", async () => {
  const pod = await prepared();
  writeFileSync(join(pod.dataDirectory, "somebody's"), "data");
  await expect(seed()).rejects.toMatchObject({ code: "POSTGRES_NOT_EMPTY" });
  await pods.store(TARGET).reach(pods.duty(TARGET, "release"), never);
  expect(readFileSync(join(pod.dataDirectory, "somebody's"), "utf8")).toBe("data");
});

it("says that the password is wrong, for the copy and for the replication alike", async () => {
  await prepared();
  const store = pods.storeWithPeer(TARGET, { password: "not the password" });
  await expect(seed(store)).rejects.toMatchObject({ code: "POSTGRES_AUTHENTICATION" });
  expect(store.status(MIGRATION)?.problems).toMatchObject([{ code: "POSTGRES_AUTHENTICATION" }]);
  const findings = await store.preflight(pods.duty(TARGET, "seed"), "start", never);
  expect(findings.map(({ code }) => code)).toEqual(["POSTGRES_AUTHENTICATION", "POSTGRES_AUTHENTICATION"]);
});

it("says that the source cannot be reached, and goes on when it can", async () => {
  await prepared();
  await pods.source.stop();
  const store = pods.store(TARGET);
  await expect(seed(store)).rejects.toMatchObject({ code: "POSTGRES_UNREACHABLE" });
  await pods.source.resume();
  await reachAtLast(store, pods.duty(TARGET, "seed"));
  await until(store, ({ verified }) => verified);
});

it("starts over after the agent was killed in the middle of the copy", async () => {
  const pod = await prepared({
    rows: 40_000,
    settings: { rateLimits: { baseBackupBytesPerSecond: 4_000_000 } },
  });
  const { assignments: _, ...duty } = pods.duty(TARGET, "seed");
  const agent = spawn(
    process.execPath,
    [
      join(import.meta.dirname, "../../../../support/postgres/seeding-agent.ts"),
      JSON.stringify({ options: pods.optionsOf(TARGET), duty }),
    ],
    { stdio: "ignore" },
  );
  const recordPath = join(pod.stateDirectory, "postgres", `${MIGRATION}.json`);
  const copier = async () =>
    existsSync(recordPath) ? JSON.parse(readFileSync(recordPath, "utf8")).copier : null;
  await expect.poll(copier, { timeout: 10_000 }).not.toBeNull();
  await expect.poll(() => existsSync(join(pod.dataDirectory, "base")), { timeout: 10_000 }).toBe(true);
  const { pid, startTime } = await copier();
  cleanups.push(async () => void (await signalWriter({ pid, startTime }, "SIGKILL")));
  // As an out-of-memory killer does: no handler runs. The copy is stopped too, so that it is certainly left behind.
  process.kill(pid, "SIGSTOP");
  agent.kill("SIGKILL");
  await new Promise((resolve) => agent.on("exit", resolve));
  expect(await processStartTime(pid)).not.toBeNull();

  const store = pods.store(TARGET);
  // Without the limit that made the copy slow enough to be killed.
  await reachAtLast(store, { ...pods.duty(TARGET, "seed"), settings: Settings.parse({}) });
  expect(await processStartTime(pid)).toBeNull();
  expect(JSON.parse(readFileSync(recordPath, "utf8"))).toMatchObject({ state: "copied", attempt: 2 });
  await until(store, ({ verified, lag }) => verified && lag?.amount === 0);
});

it("reports its progress in bytes and keeps to the rate limit", async () => {
  await prepared({ rows: 20_000, settings: { rateLimits: { baseBackupBytesPerSecond: 20_000_000 } } });
  const store = pods.store(TARGET);
  const seen: number[] = [];
  store.onChange(() => {
    const progress = store.status(MIGRATION)?.progress;
    if (progress) seen.push(progress.done / progress.total);
  });
  const startedAt = performance.now();
  await seed(store);
  expect(performance.now() - startedAt).toBeGreaterThan(700);
  expect(seen.length).toBeGreaterThan(1);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(seen.at(-1)).toBeCloseTo(1, 1);
});

it.skipIf(process.getuid?.() !== 0)(
  "reports a full disk (needs root for a small file system), cleans up and goes on when there is space",
  async () => {
    const pod = await prepared({ rows: 60_000 });
    const mount = (options: string) =>
      execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", pod.dataDirectory]);
    mount("size=20m,mode=700");
    cleanups.push(async () => {
      await removeServer(pod.dataDirectory).catch(() => undefined);
      execFileSync("umount", ["-l", pod.dataDirectory]);
    });
    const store = pods.store(TARGET);
    const findings = await store.preflight(pods.duty(TARGET, "seed"), "start", never);
    expect(findings.map(({ code }) => code)).toEqual(["DISK_FULL"]);
    await expect(seed(store)).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(readdirSync(pod.dataDirectory)).toEqual([]);
    mount("remount,size=500m");
    await reachAtLast(store, pods.duty(TARGET, "seed"));
    await until(store, ({ verified }) => verified);
  },
);

it("waits for the slot that the source has not made yet", async () => {
  pods = await assemble();
  cleanups.push(() => pods.remove());
  const store = pods.store(TARGET);
  const seeding = seed(store);
  const waiting = await until(store, ({ problems }) => problems.length > 0);
  expect(waiting.problems).toMatchObject([{ code: "PEER_UNREACHABLE" }]);
  await pods.store(SOURCE).reach(pods.duty(SOURCE, "prepare"), never);
  await seeding;
  expect(store.status(MIGRATION)?.problems).toEqual([]);
});

it("leaves nothing behind when the migration is aborted", async () => {
  const pod = await prepared();
  const [source, target] = [pods.store(SOURCE), pods.store(TARGET)];
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await seed(target);
  await source.reach(pods.duty(SOURCE, "fence", { epoch: 1, phase: "fenced" }), never);
  // The source first: its slot is in use by the standby.
  await source.reach(pods.duty(SOURCE, "release", { epoch: 1 }), never);
  expect(await pods.source.query("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
  expect(await pods.source.query("SELECT nspname FROM pg_namespace WHERE nspname = 'cleave'")).toEqual([]);
  await pods.source.query("INSERT INTO notes (organization_id, body) VALUES (1, 'as before')");

  await pods.store(TARGET).reach(pods.duty(TARGET, "release", { epoch: 1 }), never);
  expect(await processesOf(pod.dataDirectory)).toEqual([]);
  expect(readdirSync(pod.dataDirectory)).toEqual([]);
  await expect(connectTo(pod)).rejects.toThrow();
  // And once more, as a restarted agent does.
  await pods.store(TARGET).reach(pods.duty(TARGET, "release", { epoch: 1 }), never);
  await pods.store(SOURCE).reach(pods.duty(SOURCE, "release", { epoch: 1 }), never);
});

it("never ends or empties a server that was promoted, however old the agent's memory of it", async () => {
  const pod = await prepared();
  await seed();
  await pods.store(TARGET).close();
  const client = await connectTo(pod);
  cleanups.push(() => client.end());
  await client.query("SELECT pg_promote()");
  // A state directory that is put back to when the copy was made.
  const folder = join(pods.optionsOf(TARGET).stateDirectory, "postgres");
  const record = join(folder, `${MIGRATION}.json`);
  const remembered = JSON.parse(readFileSync(record, "utf8"));
  for (const state of ["copying", "copied"]) {
    writeFileSync(record, JSON.stringify({ ...remembered, state }));
    const restored = pods.storeWithPeer(TARGET, {});
    if (state === "copying")
      await expect(seed(restored)).rejects.toMatchObject({ code: "POSTGRES_PROMOTED" });
    await expect(restored.reach(pods.duty(TARGET, "release"), never)).rejects.toMatchObject({
      code: "POSTGRES_PROMOTED",
    });
    await restored.close();
  }
  // By the connection of before: it was not even stopped.
  const { rows } = await client.query("SELECT pg_is_in_recovery() AS recovering");
  expect(rows).toEqual([{ recovering: false }]);
});

it("does not remove a directory that was replaced since", async () => {
  const pod = await prepared();
  const store = pods.store(TARGET);
  await seed(store);
  await store.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  for (const name of readdirSync(pod.dataDirectory))
    rmSync(join(pod.dataDirectory, name), { recursive: true });
  writeFileSync(join(pod.dataDirectory, "precious"), "data");
  await pods.store(TARGET).reach(pods.duty(TARGET, "release"), never);
  expect(readdirSync(pod.dataDirectory)).toEqual(["precious"]);
});

it("names slots that are valid, unique and the same for everybody", () => {
  const long = "a".repeat(40);
  const names = [
    slotName(long as never, `${long}` as never),
    slotName(long as never, `${long.slice(1)}b` as never),
  ];
  for (const name of names) expect(name).toMatch(/^[a-z0-9_]{1,63}$/);
  expect(new Set(names).size).toBe(2);
  expect(slotName("a-b" as never, "c" as never)).not.toBe(slotName("a" as never, "b-c" as never));
});
