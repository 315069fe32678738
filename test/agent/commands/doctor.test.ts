/** `cleave doctor`, both parts: of the whole installation, and on a Pod's machine. */
import { execFileSync } from "node:child_process";
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "nats";
import { afterEach, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import { examine } from "../../../agent/commands/doctor/main.ts";
import { startPeerServer } from "../../../agent/peer/server.ts";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import { startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";
import { type NatsServer, startNats } from "../../support/nats/nats.ts";
import { Cluster } from "../../support/postgres/postgres.ts";
import { pod } from "../../support/story.ts";

let folder: string;
let nats: NatsServer;
const endings: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-doctor-"));
  nats = await startNats();
});
afterEach(async () => {
  await endCleave();
  for (const end of endings.splice(0)) await end();
  await nats.stop();
  await rm(folder, { recursive: true, force: true });
});

async function stream(changes: object = {}): Promise<void> {
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager();
  const keeps = { deny_delete: true, deny_purge: true };
  await manager.streams.add({ name: "CLEAVE", subjects: ["cleave.log"], ...keeps, ...changes });
  await connection.close();
}

async function coordinatorConfig(mode: number): Promise<string> {
  const file = join(folder, "coordinator.yaml");
  const text = `token: 0123456789abcdef\nnats: {servers: "${nats.url}"}\ncluster: {pods: [pod-0], defaultPod: pod-0}\n`;
  await writeFile(file, text);
  await chmod(file, mode);
  return file;
}

it("of an installation: coordinator, agents, NATS and its stream, and who may read secrets", async () => {
  const api = await startApi();
  endings.push(() => api.stop());
  await api.startAgents("pod-0", "pod-100");
  await stream();
  const run = (...args: string[]) => cleave(["doctor", ...args], { url: api.url });
  const some = await run("--config", await coordinatorConfig(0o644));
  expect(some.code).toBe(3);
  expect(some.stdout).toMatch(/^ok {6}the coordinator answers; record \d+ of the log$/m);
  expect(some.stdout).toMatch(/^ok {6}pod-100: its agent reports, version test$/m);
  expect(some.stdout).toMatch(
    /^error {3}AGENT_SILENT: pod-101: its agent has never reported .*\n {8}next: Look at its machine/m,
  );
  expect(some.stdout).toMatch(
    /^warning SECRET_READABLE: .*coordinator\.yaml can be read by others .*: mode 644$/m,
  );
  expect(some.stdout).toMatch(/^ok {6}the log has 0 records, 0 B, 1 copy$/m);
  expect(some.stdout).toContain("the log has one copy");
  await api.startAgents("pod-101");
  const whole = await run("--config", await coordinatorConfig(0o600), "--json");
  expect(whole.code).toBe(0);
  const { ok, findings } = JSON.parse(whole.stdout) as { ok: boolean; findings: Finding[] };
  expect(ok).toBe(true);
  expect(findings.filter(({ code }) => code === "SECRET_READABLE")).toEqual([]);

  api.podProblems.set("pod-100", [
    { code: "POSTGRES_UNREACHABLE", message: "PostgreSQL of this Pod has stopped" },
  ]);
  await expect
    .poll(async () => (await run()).stdout, { timeout: 10_000 })
    .toMatch(/^error {3}POSTGRES_UNREACHABLE: pod-100: PostgreSQL of this Pod has stopped$/m);
  const { stdout } = await cleave(["status"], { url: api.url });
  expect(stdout).toMatch(
    /^ {2}pod-100 +reporting a problem\n +POSTGRES_UNREACHABLE: PostgreSQL of this Pod has stopped$/m,
  );
});

it("finds NATS away, a stream that forgets, and no coordinator", async () => {
  await stream({ max_msgs: 1_000, deny_delete: false });
  const url = `http://127.0.0.1:${await freePort()}`;
  const config = await coordinatorConfig(0o600);
  const forgets = await cleave(["doctor", "--config", config], { url });
  expect(forgets.code).toBe(3);
  expect(forgets.stdout).toContain(`error   COORDINATOR_UNREACHABLE: ${url}`);
  expect(forgets.stdout).toContain("error   CONFIG_INVALID: the stream CLEAVE may forget records");
  await nats.kill();
  const away = await cleave(["doctor", "--config", config], { url });
  expect(away.stdout).toMatch(/^error {3}NATS_UNREACHABLE: nats:/m);
});

async function agentConfig(cluster: Cluster, changes: object = {}): Promise<string> {
  const { host, port, user, password, database } = cluster.connection;
  await writeFile(join(folder, "password"), password, { mode: 0o644 });
  await writeFile(join(folder, "peer-token"), "0123456789abcdef", { mode: 0o600 });
  await writeFile(
    join(folder, "ownership.yaml"),
    stringify({ version: 1, root: { table: "public.orgs" }, tables: {} }),
  );
  for (const name of ["git", "objects", "state"]) await mkdir(join(folder, name), { recursive: true });
  const file = join(folder, "agent.yaml");
  const config = {
    podId: "pod-0",
    stateDirectory: "state",
    listen: { guardPort: await freePort(), peerPort: await freePort() },
    peerTokenFile: "peer-token",
    ownershipFile: "ownership.yaml",
    nats: { servers: nats.url },
    postgres: { dataDirectory: cluster.dataDirectory, host, port, user, database, passwordFile: "password" },
    git: { root: "git" },
    objects: { root: "objects" },
    ...changes,
  };
  await writeFile(file, stringify(config));
  return file;
}

const said = (findings: readonly Finding[], severity: Finding["severity"]) =>
  findings.filter((one) => one.severity === severity).map(({ code, message }) => `${code}: ${message}`);

it("of a Pod's machine: what a migration would find, secrets, disks, peers", async () => {
  const cluster = await Cluster.start({ podId: "pod-0", settings: { cluster_name: "pod-0" } });
  endings.push(() => cluster.remove());
  await cluster.query("CREATE TABLE orgs (id bigint PRIMARY KEY)");
  await stream();
  const peer = await startPeerServer({
    podId: pod("pod-7"),
    host: "127.0.0.1",
    port: 0,
    token: "0123456789abcdef",
    stores: [],
    logger: silentLogger,
  });
  endings.push(() => peer.close());
  const postgres = { host: "127.0.0.1", port: 1, database: "pod", user: "cleave" };
  const peers = {
    "pod-7": { agentUrl: `http://127.0.0.1:${peer.port}`, postgres },
    "pod-8": { agentUrl: `http://127.0.0.1:${peer.port}`, postgres },
  };
  const own = await startPeerServer({
    podId: pod("pod-0"),
    host: "127.0.0.1",
    port: await freePort(),
    token: "0123456789abcdef",
    stores: [],
    logger: silentLogger,
  });
  endings.push(() => own.close());
  const listen = { guardPort: await freePort(), peerPort: own.port };
  const file = await agentConfig(cluster, { peers, listen });
  const findings = await examine(file, { quick: false });
  expect(said(findings, "error")).toEqual([
    `CONFIG_INVALID: http://127.0.0.1:${peer.port} is the agent of pod-7, not of pod-8`,
  ]);
  expect(said(findings, "info").join("\n")).toMatch(
    /the agent of pod-0 answers[\s\S]*the agent of pod-7 answers/,
  );
  for (const store of ["postgres", "git", "objects"])
    expect(said(findings, "info").join("\n"), store).toContain(
      `${store} could be a source: all checks passed`,
    );
  expect(said(findings, "warning").join("\n")).toMatch(/SECRET_READABLE: .*password can be read by others/);
  expect(said(findings, "info").join("\n")).toMatch(/peer-token is its owner's alone/);

  // A table without a rule, a repository of nobody, and no agent.
  await cluster.query("CREATE TABLE secret_plans (id bigint PRIMARY KEY)");
  execFileSync("git", ["init", "--quiet", "--bare", join(folder, "git", "lost.git")]);
  await own.close();
  const worse = said(await examine(file, { quick: false }), "error").join("\n");
  expect(worse).toContain("OWNERSHIP_RULE_MISSING: the table public.secret_plans has no ownership rule");
  expect(worse).toContain("OWNER_UNKNOWN: repository lost.git has no owner");
  expect(worse).toContain("AGENT_SILENT: the agent of pod-0 does not answer");
});

it("of PostgreSQL's roles: as roles.sql leaves them, or what is more or less", async () => {
  const cluster = await Cluster.start({ podId: "pod-0", settings: { cluster_name: "pod-0" } });
  endings.push(() => cluster.remove());
  const roles = async () =>
    said(await examine(await agentConfig(cluster, {}), { quick: true }), "warning")
      .filter((line) => line.startsWith("POSTGRES_ROLE"))
      .join("\n");
  const before = await roles();
  expect(before).toContain("is the server's first superuser");
  expect(before).toContain("there is no role cleave_reader");
  await cluster.query(
    await readFile(join(import.meta.dirname, "../../../deploy/postgres/roles.sql"), "utf8"),
  );
  // The test's first superuser has the name of the script's role.
  await cluster.query(
    "CREATE ROLE keeper LOGIN SUPERUSER REPLICATION CONNECTION LIMIT 64 PASSWORD 'agent'; ALTER ROLE keeper NOCREATEDB NOCREATEROLE",
  );
  const asAgent = async () => {
    const { host, port, database } = cluster.connection;
    await writeFile(join(folder, "agent-password"), "agent", { mode: 0o600 });
    const postgres = { dataDirectory: cluster.dataDirectory, host, port, user: "keeper", database };
    const file = await agentConfig(cluster, { postgres: { ...postgres, passwordFile: "agent-password" } });
    return (await examine(file, { quick: true })).filter(({ code }) => code === "POSTGRES_ROLE");
  };
  expect(await asAgent()).toEqual([
    expect.objectContaining({
      severity: "info",
      message: "keeper and cleave_reader are as roles.sql leaves them",
    }),
  ]);
  await cluster.query(`ALTER ROLE keeper CREATEDB NOREPLICATION CONNECTION LIMIT -1;
    ALTER ROLE cleave_reader CREATEROLE CONNECTION LIMIT -1; ALTER ROLE cleave_reader RESET default_transaction_read_only;
    REVOKE pg_monitor FROM cleave_reader`);
  await appendFile(join(cluster.dataDirectory, "pg_hba.conf"), "host all all 10.0.0.0/8 trust\n");
  const worse = (await asAgent()).map(({ message, severity }) => `${severity}: ${message}`).join("\n");
  for (const fault of [
    /warning: keeper has no REPLICATION/,
    /keeper has CREATEDB or CREATEROLE/,
    /keeper may open any number/,
    /cleave_reader has CREATEROLE, and is only to read/,
    /cleave_reader may open any number/,
    /cleave_reader lacks pg_read_all_data or pg_monitor/,
    /cleave_reader does not begin its transactions read-only/,
    /pg_hba.conf, line \d+, asks for no password: host all all 10.0.0.0 255.0.0.0 trust/,
  ])
    expect(worse).toMatch(fault);
  await cluster.query("ALTER ROLE cleave_reader SUPERUSER REPLICATION CREATEDB BYPASSRLS");
  expect((await asAgent()).map(({ message }) => message)).toContain(
    "cleave_reader has SUPERUSER, REPLICATION, CREATEDB, CREATEROLE, BYPASSRLS, and is only to read",
  );
});

it("of a machine as a command: exit code 3, and a configuration that cannot be read", async () => {
  const cluster = await Cluster.start({ podId: "pod-0", settings: { cluster_name: "pod-0" } });
  endings.push(() => cluster.remove());
  const file = await agentConfig(cluster);
  const ran = await cleave(["doctor", "--agent-config", file, "--quick"]);
  expect(ran.code).toBe(3);
  expect(ran.stdout).toMatch(/^error {3}AGENT_SILENT: .*\n {8}next: Look at its machine/m);
  expect(ran.stdout).toContain("JetStream has no stream CLEAVE yet");
  expect((await cleave(["doctor", "--agent-config", join(folder, "none.yaml")])).code).toBe(1);
  await cluster.stop();
  const stopped = await cleave(["doctor", "--agent-config", file, "--quick"]);
  expect(stopped.stdout).toMatch(/^error {3}POSTGRES_UNREACHABLE: .*ECONNREFUSED/m);
});
