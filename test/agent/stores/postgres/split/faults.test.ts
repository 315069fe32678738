/** What happens to a following standby when servers crash, hang, or turn out to be of another history. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";
import { Cluster, processesOf, signalServer } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
const cleanups: (() => Promise<void>)[] = [];
let pods: Assembly;
let pod: TargetPod;
let source: PostgresStore;
let target: PostgresStore;

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}, 60_000);

async function following(options: Parameters<typeof assemble>[0] = {}): Promise<void> {
  pods = await assemble(options);
  cleanups.push(() => pods.remove());
  pod = pods.targets[0] as TargetPod;
  source = pods.store(SOURCE);
  target = pods.store(TARGET);
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  await until(target, ({ verified, lag }) => verified && lag?.amount === 0);
}

const note = (body: string) =>
  pods.source.query("INSERT INTO notes (organization_id, body) VALUES (9, $1)", [body]);

it("starts a killed standby again and catches up", async () => {
  await following();
  await signalServer(pod.dataDirectory, "SIGKILL");
  await note("written meanwhile");
  await until(target, ({ verified }) => !verified);
  await until(
    target,
    ({ verified, lag, problems }) => verified && lag?.amount === 0 && problems.length === 0,
  );
  const client = await connectTo(pod);
  const { rows } = await client.query("SELECT body FROM notes WHERE body = 'written meanwhile'");
  await client.end();
  expect(rows).toHaveLength(1);
});

it("knows no lag while the source or the standby hangs, and goes on afterwards", async () => {
  await following();
  await pods.source.freeze();
  const hanging = await until(target, ({ verified }) => !verified);
  expect(hanging).toMatchObject({ lag: { amount: null }, problems: [{ code: "POSTGRES_UNREACHABLE" }] });
  await pods.source.thaw();
  await until(target, ({ verified, lag }) => verified && lag?.amount === 0);
  await signalServer(pod.dataDirectory, "SIGSTOP");
  await until(target, ({ verified, lag }) => !verified && lag?.amount === null);
  await signalServer(pod.dataDirectory, "SIGCONT");
  await until(target, ({ verified, lag }) => verified && lag?.amount === 0);
});

it("measures the lag from what was replayed, not from what was sent or received", async () => {
  await following();
  const client = await connectTo(pod);
  await client.query("SELECT pg_wal_replay_pause()");
  await note("x".repeat(200_000));
  await pods.source.query(
    "INSERT INTO notes (organization_id, body) SELECT 9, md5(n::text) FROM generate_series(1, 5000) n",
  );
  await until(target, ({ lag }) => (lag?.amount ?? 0) > 300_000);
  await client.query("SELECT pg_wal_replay_resume()");
  await client.end();
  await until(target, ({ lag }) => lag?.amount === 0);
});

it("does not count a standby as level whose replay is paused, and says why while following", async () => {
  await following();
  const client = await connectTo(pod);
  await client.query("SELECT pg_wal_replay_pause()");
  const paused = await until(target, ({ verified, lag }) => !verified && lag?.amount === 0);
  expect(paused.problems).toMatchObject([
    { code: "POSTGRES_SETTING", message: expect.stringMatching(/replay is paused/) },
  ]);
  const findings = await target.preflight(pods.duty(TARGET, "follow"), "fence", never);
  expect(findings.map(({ message }) => message).join()).toMatch(/pg_wal_replay_resume/);
  await client.query("SELECT pg_wal_replay_resume()");
  await client.end();
  await until(target, ({ verified, problems }) => verified && problems.length === 0);
});

it.each([
  ["while it runs", async () => undefined],
  ["while it is down", () => signalServer(pod.dataDirectory, "SIGKILL")],
])("follows on after the source raised what a standby may not have smaller, %s", async (_, before) => {
  await following();
  await pods.source.stop();
  await before();
  await pods.source.resume({ max_connections: "150", max_wal_senders: "12" });
  await note("written with more connections");
  const seen = async () => {
    const client = await connectTo(pod);
    const { rows } = await client.query(
      "SELECT current_setting('max_connections') AS connections, count(*)::int AS found FROM notes WHERE body = 'written with more connections'",
    );
    await client.end();
    return rows;
  };
  await expect
    .poll(() => seen().catch(() => []), { timeout: 20_000 })
    .toEqual([{ connections: "150", found: 1 }]);
  await until(
    target,
    ({ verified, lag, problems }) => verified && lag?.amount === 0 && problems.length === 0,
  );
});

it("follows on after the source crashed and came back", async () => {
  await following();
  await pods.source.kill();
  await until(target, ({ verified }) => !verified);
  await until(source, ({ problems }) => problems.some(({ code }) => code === "POSTGRES_UNREACHABLE"));
  await pods.source.resume();
  await note("after the crash");
  await until(target, ({ verified, lag }) => verified && lag?.amount === 0);
  await until(source, ({ verified, problems }) => verified && problems.length === 0);
});

it("says why the source does not let it stream, and goes on when it does", async () => {
  await following();
  const file = join(pods.source.dataDirectory, "pg_hba.conf");
  const before = readFileSync(file, "utf8");
  writeFileSync(file, before.replace("host replication", "# host replication"));
  await pods.source.query("SELECT pg_reload_conf()");
  await pods.source.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
  const why = /does not stream from the source: .*no pg_hba\.conf entry for replication/;
  await until(target, ({ problems }) => problems.some(({ message }) => why.test(message)));
  const findings = await target.preflight(pods.duty(TARGET, "follow"), "fence", never);
  expect(findings.map(({ message }) => message)).toEqual([expect.stringMatching(why)]);
  writeFileSync(file, before);
  await pods.source.query("SELECT pg_reload_conf()");
  await until(target, ({ verified, problems }) => verified && problems.length === 0);
});

it("does not take another server at the source's address for the source", async () => {
  await following();
  await pods.source.stop();
  const stranger = await Cluster.start({ podId: SOURCE, fresh: true, port: pods.source.port });
  cleanups.push(() => stranger.remove());
  const status = await until(target, ({ problems }) => problems[0]?.code === "POSTGRES_LINEAGE");
  expect(status.verified).toBe(false);
  expect(status.problems[0]?.message).toMatch(/system identifier/);
  const findings = await target.preflight(pods.duty(TARGET, "follow"), "fence", never);
  expect(findings.map(({ code }) => code)).toContain("POSTGRES_LINEAGE");
});

it("does not take a source that went back in time for the source", async () => {
  // The same system identifier and timeline: only the positions differ.
  await following({ rows: 5_000 });
  await pods.source.stop();
  const earlier = await Cluster.start({ podId: SOURCE, port: pods.source.port });
  cleanups.push(() => earlier.remove());
  const status = await until(target, ({ problems }) => problems[0]?.code === "POSTGRES_LINEAGE");
  expect(status.problems[0]?.message).toMatch(/has not written/);
});

it("notices that the standby was promoted by somebody else", async () => {
  await following();
  const client = await connectTo(pod);
  await client.query("SELECT pg_promote()");
  await client.end();
  const status = await until(target, ({ problems }) => problems[0]?.code === "POSTGRES_LINEAGE");
  expect(status).toMatchObject({ verified: false });
  expect(target.status(MIGRATION)?.problems[0]?.message).toMatch(/promoted/);
});

it("copies again when the data directory was emptied, and never starts a half-made copy", async () => {
  await following();
  await target.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  for (const name of readdirSync(pod.dataDirectory))
    rmSync(join(pod.dataDirectory, name), { recursive: true });
  const fresh = pods.store(TARGET);
  await fresh.reach(pods.duty(TARGET, "follow"), never);
  await until(fresh, ({ verified, lag }) => verified && lag?.amount === 0);
  await fresh.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  const recordPath = join(pod.stateDirectory, "postgres", `${MIGRATION}.json`);
  const record = JSON.parse(readFileSync(recordPath, "utf8"));
  writeFileSync(recordPath, JSON.stringify({ ...record, state: "copying" }));
  const refused = { code: "POSTGRES_LINEAGE" };
  const store = pods.store(TARGET);
  const matching = store.reach(pods.duty(TARGET, "match", { epoch: 1, phase: "fenced" }), never);
  await expect(matching).rejects.toMatchObject(refused);
  const opening = store.reach(pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
  await expect(opening).rejects.toMatchObject(refused);
  expect(await processesOf(pod.dataDirectory)).toEqual([]);
});

it("stops while the server that it waits for still hangs", async () => {
  await following();
  await pods.source.freeze();
  const signal = AbortSignal.timeout(200);
  await expect(
    source.reach(pods.duty(SOURCE, "fence", { epoch: 1, phase: "fenced" }), signal),
  ).rejects.toThrow();
  await pods.source.thaw();
  await source.reach(pods.duty(SOURCE, "fence", { epoch: 1, phase: "fenced" }), never);
  await target.reach(pods.duty(TARGET, "match", { epoch: 1, phase: "fenced" }), never);
});

it("says how much WAL the source keeps for a target that is away", async () => {
  await following();
  await source.reach(pods.duty(SOURCE, "serve"), never);
  const { keptBytes: before = 0 } = await until(source, ({ keptBytes }) => keptBytes !== undefined);
  await target.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  for (let i = 0; i < 3; i++) {
    await note("a change, so that there is something to switch away from");
    await pods.source.query("SELECT pg_switch_wal()");
  }
  await until(source, ({ keptBytes }) => (keptBytes ?? 0) > before + 32e6);
});

it("says that WAL was lost with a slot", async () => {
  await following();
  const [slot] = await pods.source.query<{ slot_name: string }>("SELECT slot_name FROM pg_replication_slots");
  await target.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  await source.reach(pods.duty(SOURCE, "serve"), never);
  const drop = () => pods.source.query("SELECT pg_drop_replication_slot($1)", [slot?.slot_name]);
  await expect
    .poll(
      () =>
        drop().then(
          () => true,
          () => false,
        ),
      { timeout: 10_000 },
    )
    .toBe(true);
  const status = await until(source, ({ problems }) => problems.length > 0);
  expect(status.problems[0]).toMatchObject({ code: "POSTGRES_SETTING" });
  expect(status.verified).toBe(false);
});

it("is started once when two agents start it at once", async () => {
  await following();
  await target.close();
  await signalServer(pod.dataDirectory, "SIGKILL");
  const both = [pods.store(TARGET), pods.store(TARGET), pods.store(TARGET)];
  await Promise.all(both.map((store) => store.reach(pods.duty(TARGET, "follow"), never)));
  const client = await connectTo(pod);
  const { rows } = await client.query("SELECT count(*)::int AS n FROM pg_stat_wal_receiver");
  await client.end();
  expect(rows).toEqual([{ n: 1 }]);
});
