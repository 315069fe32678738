/** A bundle of a real coordinator: nothing secret is in it, and the simulator replays it. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { connect } from "nats";
import { afterEach, beforeEach, expect, it } from "vitest";
import { assignmentsOfPlan } from "../../../coordinator/plans/plan-file.ts";
import { Plan } from "../../../protocol/plan.ts";
import { type Bundle, readBundle, replayLog } from "../../../simulations/commands/replay-log.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";
import { type NatsServer, startNats } from "../../support/nats/nats.ts";

const TOKEN = "a-token-that-nobody-else-has";
const SECRETS = [TOKEN, "hunter-of-nats", "hunter-of-postgres", "hunter-in-a-comment", "hunter-of-peers-000"];

let api: ApiFixture;
let folder: string;
let nats: NatsServer | null = null;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-diagnose-"));
  api = await startApi({ tokens: [{ name: null, role: "admin", token: TOKEN }] });
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await nats?.stop();
  nats = null;
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => cleave(args, { url: api.url, env: { CLEAVE_TOKEN: TOKEN } });

async function splitIsOver(): Promise<void> {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const plan = Plan.parse({
    migration: "split-1",
    source: "pod-0",
    assignments: [
      { pod: "pod-100", organizations: [1] },
      { pod: "pod-101", organizations: [2] },
    ],
    settings: { settlingMs: 50, cutover: { approval: "auto", readLeaseMs: 200 } },
  });
  const { coordinator } = api;
  await coordinator.createPlan(plan, assignmentsOfPlan(plan), "operator:ana");
  await coordinator.command(plan.migration, { type: "start" }, "operator:ana");
  const lifecycle = () => coordinator.state().migrations[plan.migration]?.lifecycle;
  await expect.poll(lifecycle, { timeout: 20_000 }).toBe("retaining");
  const reason = `for https://ana:hunter-of-nats@host and Bearer ${TOKEN}`;
  await coordinator.command(plan.migration, { type: "pause", reason }, "operator:ana");
}

async function agentConfig(): Promise<string> {
  const file = join(folder, "agent.yaml");
  await writeFile(
    file,
    `podId: pod-0
# the old one was hunter-in-a-comment
peerToken: hunter-of-peers-000
postgres: {host: 127.0.0.1, password: hunter-of-postgres, passwordFile: /etc/cleave/password}
nats: {servers: "nats://cleave:hunter-of-nats@127.0.0.1:4222"}
`,
  );
  return file;
}

it("has the log, the status, versions and configuration, and no secret", async () => {
  await splitIsOver();
  const output = join(folder, "bundle.tar.gz");
  const { code, stdout } = await run("diagnose", "--output", output, "--agent-config", await agentConfig());
  expect(code).toBe(0);
  expect(stdout).toContain(
    `${api.log.records.length} records of the log, README.txt, log.jsonl, status.json, versions.json, config/1-agent.yaml`,
  );
  expect((await stat(output)).mode & 0o777).toBe(0o600);
  const text = gunzipSync(await readFile(output)).toString("latin1");
  for (const secret of SECRETS) expect(text, secret).not.toContain(secret);
  expect(text).toContain("passwordFile: /etc/cleave/password");
  expect(text).toContain("nats://[redacted]@127.0.0.1:4222");
  const again = await run("diagnose", "--output", output, "--json");
  expect([again.code, JSON.parse(again.stdout)]).toEqual([
    1,
    expect.objectContaining({ error: "FILE_PERMISSION" }),
  ]);
});

it("is replayed record by record to the state that the coordinator showed, or says where it differs", async () => {
  await splitIsOver();
  const output = join(folder, "bundle.tar.gz");
  await run("diagnose", "--output", output);
  const bundle = await readBundle(output);
  const said: string[] = [];
  expect(replayLog(bundle, (line) => said.push(line))).toBe(0);
  expect(said[1]).toMatch(/^ {4}2 {2}MigrationPlanned {2}by operator:ana {2}split-1 planned$/);
  expect(said).toContainEqual(expect.stringMatching(/AuthorityTransferred.* {2}split-1 .*→ activating$/));
  expect(said.at(-1)).toBe(
    `${api.log.records.length} records, from zero and from checkpoints to the same state`,
  );

  // A coordinator that shows what the log does not say.
  const { records } = bundle;
  const opened = records.findIndex(({ events }) => events.some(({ type }) => type === "Opened"));
  const without = records.map((record, index) => (index === opened ? { ...record, events: [] } : record));
  const wrong: string[] = [];
  expect(replayLog({ ...bundle, records: without } as Bundle, (line) => wrong.push(line))).toBe(10);
  expect(wrong).toContainEqual("I8: the coordinator showed split-1 as retaining, the log says activating");

  const cut = join(folder, "log.jsonl");
  await writeFile(
    cut,
    records
      .slice(1)
      .map((record) => `${JSON.stringify(record)}\n`)
      .join(""),
  );
  await expect(readBundle(cut)).rejects.toThrow("record 2 stands where record 1 should be");
});

it("takes the log from NATS when no coordinator answers, and says what is missing", async () => {
  await splitIsOver();
  nats = await startNats();
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager();
  await manager.streams.add({ name: "CLEAVE", subjects: ["cleave.log"] });
  for (const record of api.log.records) await connection.jetstream().publish("cleave.log", record);
  await connection.close();
  const config = join(folder, "coordinator.yaml");
  await writeFile(config, `nats: {servers: "${nats.url}"}\ncluster: {pods: [pod-0], defaultPod: pod-0}\n`);
  await api.stopListening();
  const output = join(folder, "bundle.tar.gz");
  const { code, stdout } = await run("diagnose", "--config", config, "--output", output, "--json");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    records: api.log.records.length,
    problems: [expect.stringContaining("status.json: COORDINATOR_UNREACHABLE")],
  });
  const bundle = await readBundle(output);
  expect(bundle.status).toBeNull();
  expect(replayLog(bundle, () => undefined)).toBe(0);
  // Without either there is nothing to write.
  expect((await run("diagnose", "--output", join(folder, "none.tar.gz"))).code).toBe(4);
});
