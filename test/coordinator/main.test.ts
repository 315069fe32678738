/** The coordinator as a process on a real NATS server: start without NATS, wrong configuration, signals. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import { loadCoordinatorConfig } from "../../coordinator/config.ts";
import { freePort } from "../../examples/quickstart/cluster/ports.ts";
import { eventually } from "../support/eventually.ts";
import { type NatsServer, startNats } from "../support/nats/nats.ts";

const ROOT = join(import.meta.dirname, "../..");
const MAIN = join(ROOT, "coordinator/main.ts");

let folder: string;
let nats: NatsServer | null = null;
const processes: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-coordinator-"));
});
afterEach(async () => {
  for (const child of processes.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  await nats?.stop();
  nats = null;
  await rm(folder, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly exited: Promise<number | string>;
  output(): string;
}

function start(...args: string[]): Started {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  processes.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const exited = once(child, "close").then(([code, signal]) => (code ?? signal) as number | string);
  return { child, exited, output: () => output };
}

async function configuration(changes: Record<string, unknown> = {}): Promise<{ file: string; url: string }> {
  const file = join(folder, `coordinator-${Object.keys(changes).join("-")}.yaml`);
  const port = await freePort();
  const content = {
    listen: { port },
    nats: { servers: nats?.url ?? "nats://127.0.0.1:1" },
    cluster: { pods: ["pod-0", "pod-100"], defaultPod: "pod-0" },
    ...changes,
  };
  await writeFile(file, stringify(content));
  return { file, url: `http://127.0.0.1:${port}` };
}

interface Health {
  readonly ready: boolean;
  readonly connected: boolean;
  readonly problem: { readonly code: string; readonly message: string } | null;
}
const health = async (url: string) => (await (await fetch(`${url}/health`)).json()) as Health;

it("waits for a NATS that is down, says so, and begins when it is there", async () => {
  const port = await freePort();
  const { file, url } = await configuration({ nats: { servers: `nats://127.0.0.1:${port}` } });
  const coordinator = start("--config", file);
  await eventually(async () => expect((await health(url)).ready).toBe(false));
  await eventually(async () =>
    expect((await health(url)).problem?.message).toMatch(/CONNECTION_REFUSED|ECONNREFUSED/),
  );
  expect((await health(url)).problem?.code).toBe("NATS_UNREACHABLE");
  expect((await fetch(`${url}/ready`)).status).toBe(503);
  const refused = await fetch(`${url}/v1/status`);
  expect(refused.status).toBe(503);
  expect(await refused.json()).toMatchObject({
    code: "NATS_UNREACHABLE",
    detail: expect.stringContaining(`${port}`),
  });
  expect(coordinator.output()).toContain(`waiting for NATS at nats://127.0.0.1:${port}`);

  nats = await startNats({ port });
  await eventually(async () =>
    expect(await health(url)).toMatchObject({ ready: true, connected: true, problem: null }),
  );
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  expect(await (await fetch(`${url}/v1/status`)).json()).toMatchObject({
    sequence: 1,
    pods: [{ podId: "pod-0" }, { podId: "pod-100" }],
  });
  await nats.kill();
  await eventually(async () => expect((await health(url)).problem?.code).toBe("NATS_UNREACHABLE"));
  expect((await fetch(`${url}/v1/status`)).status, "what is known is still told").toBe(200);
  await nats.start();
  await eventually(async () => expect((await fetch(`${url}/ready`)).status).toBe(200));
  coordinator.child.kill("SIGTERM");
  expect(await coordinator.exited).toBe(0);
});

it.each(["SIGTERM", "SIGINT"] as const)(
  "%s ends it in a moment, also while NATS is away and somebody watches",
  async (signal) => {
    const { file, url } = await configuration();
    const waiting = start("--config", file);
    await eventually(async () => expect((await health(url)).ready).toBe(false));
    const begun = performance.now();
    waiting.child.kill(signal);
    expect(await waiting.exited).toBe(0);
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect(waiting.output()).not.toContain('"level":50');
  },
);

it("an open stream does not keep it from ending, and its checkpoint is there for the next start", async () => {
  nats = await startNats();
  const { file, url } = await configuration({ stateDirectory: "state" });
  for (const sequence of [1, 1]) {
    const coordinator = start("--config", file);
    await eventually(async () => expect((await health(url)).ready).toBe(true));
    expect(await (await fetch(`${url}/v1/status`)).json()).toMatchObject({ sequence });
    const abort = new AbortController();
    const stream = await fetch(`${url}/v1/status/stream`, { signal: abort.signal });
    expect(stream.status).toBe(200);
    coordinator.child.kill("SIGTERM");
    expect(await coordinator.exited).toBe(0);
    abort.abort();
  }
});

it("what can never work ends it with a code and a next step", async () => {
  nats = await startNats();
  const first = await configuration();
  const running = start("--config", first.file);
  await eventually(async () => expect((await health(first.url)).ready).toBe(true));

  const otherDefault = await configuration({
    cluster: { pods: ["pod-0", "pod-100"], defaultPod: "pod-100" },
  });
  const disagreeing = start("--config", otherDefault.file);
  expect(await disagreeing.exited).toBe(1);
  expect(disagreeing.output()).toMatch(/error CONFIG_INVALID: .*pod-100.*\nnext: /);

  const taken = start("--config", first.file);
  expect(await taken.exited).toBe(1);
  expect(taken.output()).toMatch(/error CONFIG_INVALID: listen: .*EADDRINUSE/);
  expect(running.child.exitCode).toBeNull();
});

it("usage: help is 0, everything else that is wrong is 2", async () => {
  const asked = [start("--help"), start(), start("--confg", "x")];
  expect(await Promise.all(asked.map((one) => one.exited))).toEqual([0, 2, 2]);
  for (const one of asked) expect(one.output()).toContain("usage: cleave coordinator --config FILE");
});

it.each([
  [{ cluster: { pods: ["pod-0"], defaultPod: "pod-1" } }, /cluster\.defaultPod/],
  [{ cluster: { pods: ["Pod_0"], defaultPod: "Pod_0" } }, /cluster\.pods/],
  [{ listen: { host: "0.0.0.0" } }, /listen\.host/],
  [{ listen: { host: "10.0.0.1" }, token: "0123456789abcdef" }, /give listen\.tls.*\n.*listen\.host/],
  [{ listen: { tls: { certificateFile: "none.crt", keyFile: "none.key" } } }, /none\.crt: .*ENOENT/],
  [{ listen: { tls: { certificateFile: "token", keyFile: "token" } } }, /token with .*token: /],
  [{ token: "short" }, /token/],
  [{ tokenFile: "none" }, /none: ENOENT/],
  [{ token: "0123456789abcdef", tokenFile: "token" }, /either token, tokenFile or tokens/],
  [{ tokenFile: "empty" }, /empty: .*16 to 1000 characters/],
  [
    { token: "0123456789abcdef", tokens: [{ name: "a", role: "viewer", tokenFile: "token" }] },
    /either token/,
  ],
  [{ tokens: [] }, /tokens/],
  [{ tokens: [{ name: "a", role: "root", tokenFile: "token" }] }, /tokens\[0\]\.role/],
  [{ tokens: [{ name: "a b", role: "admin", tokenFile: "token" }] }, /tokens\[0\]\.name/],
  [{ tokens: [{ name: "a", role: "admin" }] }, /either tokenFile or tokenVariable/],
  [{ tokens: [{ name: "a", role: "admin", tokenFile: "t", tokenVariable: "T" }] }, /either tokenFile or/],
  [
    { tokens: [{ name: "a", role: "admin", tokenVariable: "CLEAVE_TEST_NONE" }] },
    /CLEAVE_TEST_NONE of a: .*16 to/s,
  ],
  [{ tokens: [{ name: "a", role: "admin", tokenFile: "empty" }] }, /empty: .*16 to 1000 characters/],
  [
    { tokens: ["a", "b"].map((name) => ({ name, role: "admin", tokenFile: "token" })) },
    /a and b have the same/,
  ],
  [{ tokens: ["1", "2"].map((n) => ({ name: "a", role: "admin", tokenFile: n })) }, /the same name/],
  [{ nats: { servers: [] } }, /nats\.servers/],
  [{ surprise: true }, /surprise/],
])("the configuration %j is refused, naming file and field", async (changes, named) => {
  await writeFile(join(folder, "token"), "0123456789abcdef\n");
  await writeFile(join(folder, "empty"), "\n");
  const { file } = await configuration(changes);
  const error = await loadCoordinatorConfig(file).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "CONFIG_INVALID", message: expect.stringMatching(named) });
  expect(String((error as Error).message)).toContain(folder);
});

it("paths are relative to the file, and the token comes from its file", async () => {
  await writeFile(join(folder, "token"), "0123456789abcdef\n");
  const { file } = await configuration({
    tokenFile: "token",
    stateDirectory: "s",
    nats: { passwordFile: "p" },
  });
  expect(await loadCoordinatorConfig(file)).toMatchObject({
    tokens: [{ name: null, role: "admin", token: "0123456789abcdef" }],
    stateDirectory: join(folder, "s"),
    nats: { passwordFile: join(folder, "p"), servers: ["nats://127.0.0.1:4222"] },
  });
});

it("named tokens come from files and from the environment, and are enough to listen anywhere", async () => {
  await writeFile(join(folder, "token"), "0123456789abcdef\n");
  process.env["CLEAVE_TEST_TOKEN"] = "fedcba9876543210";
  const { file } = await configuration({
    tokens: [
      { name: "alice@example.org", role: "admin", tokenFile: "token" },
      { name: "grafana", role: "viewer", tokenVariable: "CLEAVE_TEST_TOKEN" },
    ],
  });
  expect((await loadCoordinatorConfig(file)).tokens).toEqual([
    { name: "alice@example.org", role: "admin", token: "0123456789abcdef" },
    { name: "grafana", role: "viewer", token: "fedcba9876543210" },
  ]);
  delete process.env["CLEAVE_TEST_TOKEN"];
});

it("beyond the loopback address without TLS only where that is said", async () => {
  const listen = { host: "0.0.0.0", port: 7400, plainHttp: true };
  const { file } = await configuration({ listen, token: "0123456789abcdef" });
  expect(await loadCoordinatorConfig(file)).toMatchObject({ listen: { host: "0.0.0.0" }, tls: null });
});

it("the example is a configuration", async () => {
  const file = join(folder, "example.yaml");
  await copyFile(join(ROOT, "deploy/coordinator.example.yaml"), file);
  expect((await loadCoordinatorConfig(file)).cluster.defaultPod).toBe("pod-0");
});
