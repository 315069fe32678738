/** `cleave` as a process against the API of a real coordinator: answers, errors, exit codes. */
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createProgram } from "../../../coordinator/cli/main.ts";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave, startCleave } from "../../support/coordinator/cleave.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-cli-"));
  api = await startApi();
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => cleave(args, { url: api.url });

async function planFile(changes = ""): Promise<string> {
  const file = join(folder, "plan.yaml");
  await writeFile(join(folder, "list.txt"), "# ours\n2\n0017\n");
  await writeFile(
    file,
    `migration: split-1
source: pod-0
assignments:
  - {pod: pod-100, organizations: [1]}
  - {pod: pod-101, file: list.txt}
settings: {settlingMs: 50, cutover: {readLeaseMs: 200${changes}}}
`,
  );
  return file;
}

it("plan claims the organizations of lists and files, and says what it would do", async () => {
  const { code, stdout, stderr } = await run("plan", await planFile());
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("split-1 is planned; nothing was touched");
  expect(stdout).toMatch(/3 organizations can only be read for a moment, 30\.0 s at most/);
  expect(stdout).toMatch(/pod-100 +1 organization\n +pod-101 +2 organizations\n/);
  expect(stdout).toContain("waits for an operator's approval");
  expect(api.log.types()).toEqual(["ClusterConfigured", "MigrationPlanned"]);
  const json = await run("plan", await planFile(), "--json");
  expect(JSON.parse(json.stdout)).toEqual({
    migrationId: "split-1",
    lifecycle: "planned",
    targets: { "pod-100": 1, "pod-101": 2 },
  });
});

it("a dry run prints the findings and fails with them; without, it starts", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const file = await planFile();
  const passed = await run("split", file, "--dry-run");
  expect([passed.code, passed.stdout]).toEqual([0, "all checks passed; nothing was changed\n"]);
  api.store("pod-101", "objects").findings = [
    {
      store: "objects",
      severity: "error",
      code: "OBJECTS_NOT_EMPTY",
      message: "2 objects\u001b[2J are there",
    },
    { store: "objects", severity: "warning", code: "CLOCK_SKEW", message: "a little" },
  ];
  const failed = await run("split", file, "--dry-run");
  expect(failed.code).toBe(3);
  expect(failed.stdout).toContain("error   OBJECTS_NOT_EMPTY: pod-101: 2 objects");
  expect(failed.stdout).not.toContain("\u001b");
  expect(failed.stdout).toContain("warning CLOCK_SKEW");
  expect(failed.stdout).toContain("it would be refused; nothing was changed");
  const json = await run("check", "split-1", "--json");
  expect(json.code).toBe(3);
  expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, findings: [{ code: "OBJECTS_NOT_EMPTY" }, {}] });
  expect(api.store("pod-0", "postgres").goals).toEqual([]);
  expect(await run("split", file)).toMatchObject({ code: 0, stdout: expect.stringContaining("has started") });
});

it("a check that takes its time says what it waits for", async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  api.store("pod-101", "git").preflight = async () => {
    await held;
    return [];
  };
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const checking = startCleave(["plan", await planFile(), "--dry-run"], { url: api.url });
  await expect.poll(checking.stderr, { timeout: 10_000 }).toMatch(/^waiting for pod-101: /m);
  expect(checking.stdout()).toBe("");
  release();
  expect(await checking.ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("all checks passed"),
  });
});

it("start, abort, approve and revoke answer, or are refused with code, next step and exit code 3", async () => {
  await run("plan", await planFile());
  expect((await run("start", "split-1")).code).toBe(0);
  const early = await run("approve", "split-1");
  expect(early.code).toBe(3);
  expect(early.stderr).toMatch(/^error COMMAND_NOT_POSSIBLE: .*preflight.*\nnext: .*cleave status/);
  expect((await run("revoke", "split-1", "pod-100", "--reason", "r")).code).toBe(3);
  expect(await run("abort", "split-1", "--reason", "changed my mind")).toMatchObject({
    code: 0,
    stdout: "split-1 is aborted; the source serves\n",
  });
  const status = await run("status", "split-1", "--json");
  expect(JSON.parse(status.stdout)).toMatchObject({ lifecycle: "aborted", reason: "changed my mind" });
  const json = await run("start", "split-1", "--json");
  expect(json.code).toBe(3);
  expect(JSON.parse(json.stdout)).toMatchObject({
    error: "COMMAND_NOT_POSSIBLE",
    nextStep: expect.any(String),
  });
});

it("status fits on a screen and says what is awaited and possible", async () => {
  expect((await run("status")).stdout).toMatch(/pod-101 +never reported[\s\S]*No migrations/);
  await api.startAgents("pod-0");
  await run("split", await planFile());
  const { code, stdout } = await run("status", "split-1");
  expect(code).toBe(0);
  expect(stdout).toContain("split-1  split of pod-0, 3 organizations");
  expect(stdout).toContain("waiting for pod-100: its agent has not reported");
  expect(stdout).toMatch(/^next +cleave abort split-1 --reason/m);
  expect(stdout.split("\n").length).toBeLessThan(24);
});

it("routes and events are listed, for people and for programs", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const split = await run("split", await planFile(), "--approve", "--watch");
  expect(split.code).toBe(0);
  expect((await run("routes")).stdout).toBe(
    "every organization that is not listed: pod-0\n0017  pod-101  version 1\n1  pod-100  version 1\n2  pod-101  version 1\n",
  );
  expect((await run("routes", "elsewhere")).stdout).toBe("elsewhere  pod-0  version 0\n");
  const lines = (await run("routes", "--json")).stdout.trim().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toHaveLength(3);
  const events = await run("events", "--after", "1");
  expect(events.stdout).toMatch(/^ +2 {2}\d{4}-.*Z {2}MigrationPlanned {2}operator:/);
  expect(events.stdout).toContain("FenceRaised  coordinator:test");
  expect(events.stdout.trim().split("\n")).toHaveLength(api.log.records.length - 1);
});

it.each([
  [["plan", "missing.yaml"], 1, /error PLAN_INVALID: .*ENOENT.*missing\.yaml/],
  [["plan"], 2, /missing required argument 'file'/],
  [["status", "none"], 1, /error MIGRATION_UNKNOWN: there is no migration none\nnext: /],
  [["watch", "none"], 1, /error MIGRATION_UNKNOWN/],
  [["abort", "x"], 2, /--reason/],
  [["explode"], 2, /unknown command 'explode'/],
  [["status", "--what"], 2, /unknown option '--what'/],
  [["events", "--after", "-1"], 2, /--after/],
  [["--url", "nonsense", "status"], 2, /--url/],
])("cleave %j ends with %i", async (args, code, said) => {
  const ran = await run(...args);
  expect(ran.stderr).toMatch(said);
  expect([ran.code, ran.stdout]).toEqual([code, ""]);
});

it("a plan that is wrong is refused before anything is sent, naming file, field and line", async () => {
  const file = join(folder, "bad.yaml");
  await writeFile(
    file,
    "migration: split-1\nsource: pod-0\nassignments:\n  - {pod: Pod_1, organizations: [1]}\n",
  );
  const { code, stderr } = await run("plan", file);
  expect(code).toBe(1);
  expect(stderr).toMatch(/bad\.yaml: assignments\[0\]\.pod \(line 4\): a Pod id is/);
  await writeFile(join(folder, "list.txt"), "2\n1\n");
  await writeFile(
    file,
    "migration: a\nsource: pod-0\nassignments: [{pod: pod-100, organizations: [1]}, {pod: pod-101, file: list.txt}]",
  );
  expect((await run("plan", file)).stderr).toContain("organization 1 is assigned to pod-100 and to pod-101");
  expect(api.log.types()).toEqual(["ClusterConfigured"]);
});

it("nobody there, a stranger there, or NATS away: exit code 4 with the address", async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  for (const command of [["status"], ["watch", "split-1"], ["events", "--follow"]]) {
    const gone = await cleave(command, { url });
    expect(gone.code, command.join(" ")).toBe(4);
    expect(gone.stderr).toContain(`error COORDINATOR_UNREACHABLE: ${url}: connect ECONNREFUSED`);
  }
  const stranger = createServer((_request, response) =>
    response.writeHead(302, { location: url }).end("moved"),
  );
  await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
  const answered = await cleave(["status"], {
    url: `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`,
  });
  stranger.close();
  expect([answered.code, answered.stderr]).toEqual([4, expect.stringContaining("answered, with 302")]);
  api.ready = false;
  expect((await run("status")).code).toBe(4);
});

it("the token comes from the environment, and its absence is explained", async () => {
  await api.stop();
  api = await startApi({ tokens: [{ name: null, role: "admin", token: "a-token-of-this-test-alone" }] });
  const without = await run("status");
  expect([without.code, without.stderr]).toEqual([1, expect.stringContaining("CLEAVE_TOKEN")]);
  const env = { CLEAVE_TOKEN: "a-token-of-this-test-alone\n" };
  expect((await cleave(["status"], { url: api.url, env })).code).toBe(0);
});

it("every command has help with examples, and needs no coordinator for it", async () => {
  const all = await cleave(["--help"], { env: { CLEAVE_URL: "nonsense" } });
  expect(all.stdout).toMatch(/Exit codes:\n {2}0 done\n[\s\S]*^ {2}5 --timeout/m);
  const one = await cleave(["plan", "--help"], { env: { CLEAVE_URL: "nonsense" } });
  expect([one.code, one.stdout]).toEqual([0, expect.stringContaining("Examples:\n  cleave plan")]);
  // Whatever there is, so that a new command cannot be forgotten here.
  const program = createProgram();
  const commands = program.createHelp().visibleCommands(program);
  const names = commands.map((command) => command.name());
  expect(names).toEqual(expect.arrayContaining(["plan", "split", "status", "wait", "finalize", "history"]));
  for (const command of commands.filter((one) => one.name() !== "help")) {
    const name = command.name();
    expect(all.stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    let help = "";
    command.configureOutput({
      writeOut: (text) => {
        help += text;
      },
    });
    command.outputHelp();
    expect(help).toMatch(`Examples:\n  cleave ${name}`);
    expect(help).toContain("--json");
  }
});

it("colours only where they are wanted", async () => {
  const coloured = await cleave(["status"], { url: api.url, env: { NO_COLOR: "", FORCE_COLOR: "1" } });
  expect(coloured.stdout).toContain("\u001b[");
  expect((await run("status")).stdout).not.toContain("\u001b[");
  // Machines that build and test say "CI" and read what a pipe gets.
  const built = await cleave(["status"], { url: api.url, env: { NO_COLOR: "", CI: "true" } });
  expect(built.stdout).not.toContain("\u001b[");
});

it("the daemons and tools are reached through the same command", async () => {
  for (const name of ["coordinator", "agent", "checksum"])
    expect((await cleave([name, "--help"])).stdout).toMatch(new RegExp(`^usage: cleave ${name}`, "i"));
  expect((await cleave(["checksum", folder])).code).toBe(1);
  expect((await cleave(["checksum"])).code).toBe(2);
  expect(JSON.parse((await cleave(["checksum", "--json", folder])).stdout)).toMatchObject([
    { path: folder, error: { code: "REPOSITORY_UNREADABLE" } },
  ]);
  expect((await cleave(["coordinator", "--config", join(folder, "none.yaml")])).stderr).toMatch(
    /error CONFIG_INVALID: .*none\.yaml/,
  );
});

it("a daemon that is killed through the command is gone: nothing is left between the two", async () => {
  const port = await freePort();
  const file = join(folder, "coordinator.yaml");
  await writeFile(
    file,
    `listen: {port: ${port}}\nnats: {servers: "nats://127.0.0.1:1"}\ncluster: {pods: [pod-0], defaultPod: pod-0}\n`,
  );
  const answers = () =>
    fetch(`http://127.0.0.1:${port}/health`).then(
      () => true,
      () => false,
    );
  const daemon = startCleave(["coordinator", "--config", file]);
  await expect.poll(answers, { timeout: 20_000 }).toBe(true);
  daemon.child.kill("SIGKILL");
  await daemon.ended;
  expect(await answers()).toBe(false);
  const again = startCleave(["coordinator", "--config", file]);
  await expect.poll(answers, { timeout: 20_000 }).toBe(true);
  again.child.kill("SIGTERM");
  expect((await again.ended).code).toBe(0);
});

it.skipIf(!existsSync("/usr/bin/node") && !existsSync("/usr/local/bin/node"))(
  "an older Node hands over to the one of the project, with arguments and exit code",
  async () => {
    const node = existsSync("/usr/local/bin/node") ? "/usr/local/bin/node" : "/usr/bin/node";
    expect((await cleave(["status", "no ne"], { url: api.url, node })).stderr).toContain(
      "there is no migration no ne",
    );
    expect((await cleave(["abort"], { url: api.url, node })).code).toBe(2);
  },
);
