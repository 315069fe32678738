/** `cleave status` on a terminal: one screen of 80 columns, at every stage. */
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import { migrationView } from "../../../coordinator/cli/view.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave, startCleave } from "../../support/coordinator/cleave.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-status-"));
  api = await startApi();
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => cleave(args, { url: api.url });
const status = async () => JSON.parse((await run("status", "split-1", "--json")).stdout) as MigrationStatus;

async function planFile(kind: "split" | "move", approval: "auto" | "manual" = "manual"): Promise<string> {
  const file = join(folder, "plan.yaml");
  const more = kind === "split" ? "\n  - {pod: pod-101, organizations: [2]}" : "";
  await writeFile(
    file,
    `migration: split-1
kind: ${kind}
source: pod-0
assignments:
  - {pod: pod-100, organizations: [1]}${more}
settings: {settlingMs: 50, cutover: {approval: ${approval}, readLeaseMs: 200}}
`,
  );
  return file;
}

it("says where it is on its way, what the stores are at, what is awaited, and the very commands", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await run("split", await planFile("split"), "--wait");
  const { stdout } = await run("status", "split-1");
  expect(stdout).toMatch(/^●●●●◉○○○○○○ {2}following → \[ready\] → fencing$/m);
  expect(stdout).toMatch(/^Pod +WAL +Git +objects$/m);
  expect(stdout).toMatch(/^pod-100 \(replica\) +level +level +level$/m);
  expect(stdout).toMatch(/^waiting for an operator: approve the cutover$/m);
  expect(stdout).toMatch(
    /^next +cleave approve split-1\n +cleave abort split-1 --reason "…"\n +cleave pause split-1 --reason "…"$/m,
  );
});

it("while fenced it says since when, and how long it is to the deadline; a move has rows", async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  api.store("pod-100", "git").before = (duty) => (duty.goal === "match" ? held : undefined);
  await api.startAgents("pod-0", "pod-100");
  await run("move", await planFile("move", "auto"));
  await expect.poll(async () => (await status()).lifecycle, { timeout: 20_000 }).toBe("matching");
  const { stdout } = await run("status", "split-1");
  expect(stdout).toMatch(/^Pod +rows +Git +objects$/m);
  expect(stdout).toMatch(
    /^read-only {3}for [\d.]+ m?s, epoch 1, at most 30\.0 s: deadline in (2\d|30)\.\d s$/m,
  );
  release();
  await expect.poll(async () => (await status()).lifecycle, { timeout: 20_000 }).toBe("retaining");
  expect((await run("status", "split-1")).stdout).toMatch(
    /^next +cleave rollback split-1 --pod pod-100\n +cleave pause .*\n +cleave finalize split-1 --dry-run\n +cleave finalize split-1\n +cleave give-up split-1 pod-100 --reason .*$/m,
  );
});

const hasScript = (() => {
  try {
    return execFileSync("script", ["--version"], { encoding: "utf8" }).includes("util-linux");
  } catch {
    return false;
  }
})();

it.skipIf(!hasScript)("fits 80 columns with long names, long reasons and everything at work", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await run("split", await planFile("split"), "--wait");
  const found = await status();
  const long = "x-very-long-name-of-a-pod-at-its-limit-0";
  const store = { ...found.pods[1]?.stores.postgres, reached: false, matched: null, state: "copying" };
  const crowded = {
    ...found,
    migrationId: "m".repeat(40),
    lifecycle: "seeding",
    waitingFor: [`${long}: ${"a reason of several words ".repeat(8)}`],
    estimate: { leftMs: 3_600_000, basis: `${long} WAL: 4.2 TB left at 120 MB/s over the last 60 s` },
    fence: { epoch: 12, raisedAt: 0, raisedSequence: 1, deadlineAt: 30_000 },
    findings: [
      { store: null, severity: "error", code: "REPOSITORY_HOOK_DISABLED", message: "long ".repeat(40) },
    ],
    pods: found.pods.map((pod) => ({
      ...pod,
      podId: long,
      stores: {
        postgres: { ...store, progress: { done: 1, total: 3, unit: "bytes" } },
        git: {
          ...store,
          reached: true,
          state: "following",
          lag: { amount: 123_456_789, unit: "repositories" },
        },
        objects: { ...store, problems: [{ code: "REPOSITORY_HOOK_DISABLED", message: "x" }] },
      },
    })),
  };
  const file = join(folder, "show.ts");
  const view = join(import.meta.dirname, "../../../coordinator/cli/view.ts");
  await writeFile(
    file,
    `import { migrationView } from ${JSON.stringify(view)};\nconsole.log(migrationView(${JSON.stringify(crowded)}, 1_200));\n`,
  );
  const shown = execFileSync(
    "script",
    ["--quiet", "--return", "--command", `"${process.execPath}" "${file}"`, "/dev/null"],
    {
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1", TERM: "xterm" },
    },
  );
  const lines = shown.split(/\r?\n/);
  expect(lines.length).toBeGreaterThan(15);
  expect(lines.length).toBeLessThan(36);
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
  expect(shown).toMatch(/x-very-l…limit-0 \(replica\) +███░░░░░ 33 % +123456789 behind +REPOSITORY_HOOK/);
  expect(shown).toMatch(/time left +about 1 h 0 min \(x-very/);
  // In a pipe a reason stays on its line, for grep.
  expect(migrationView(crowded as never, 1_200)).toMatch(/waiting for .*(a reason of several words ?){8}/);
});

it("--wait ends with 0 where it was to go, and prints the status with --json", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await run("plan", await planFile("split"));
  const started = await run("start", "split-1", "--wait", "--timeout", "30s");
  expect(started).toMatchObject({ code: 0, stdout: "split-1 is ready\n" });
  expect(started.stderr).toContain("split-1 following: waiting for");
  const passed = await run("wait", "split-1", "--for", "seeding", "--json");
  expect([passed.code, passed.stderr]).toEqual([0, ""]);
  expect(JSON.parse(passed.stdout)).toMatchObject({ migrationId: "split-1", lifecycle: "ready" });
  expect((await run("approve", "split-1", "--wait")).stdout).toBe("split-1 is retaining\n");
  expect((await run("finalize", "split-1", "--wait=completed")).stdout).toBe("split-1 is completed\n");
  expect(await run("wait", "split-1", "--for", "aborted")).toMatchObject({
    code: 3,
    stderr: expect.stringContaining("error WAIT_ENDED: split-1 has transferred its organizations\nnext: "),
  });
});

it("--wait ends with 3 where the cutover failed or the migration ended, and with 5 when time is up", async () => {
  api.store("pod-100", "git").content = "different";
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const file = await planFile("split");
  await writeFile(
    file,
    (await readFile(file, "utf8")).replace("readLeaseMs: 200", "readLeaseMs: 200, deadlineMs: 600"),
  );
  await run("split", file, "--wait");
  const failed = await run("approve", "split-1", "--wait");
  expect([failed.code, failed.stderr]).toEqual([
    3,
    expect.stringContaining("WAIT_ENDED: split-1 was not cut over: "),
  ]);
  const late = await run("wait", "split-1", "--for=retaining", "--timeout", "300ms");
  expect(late.code).toBe(5);
  expect(late.stderr).toMatch(
    /WAIT_TIMED_OUT: split-1 is not retaining after .* m?s; it is ready: waiting for/,
  );
  const waiting = startCleave(["wait", "split-1", "--for", "completed", "--json"], { url: api.url });
  await expect.poll(() => api.listeners(), { timeout: 20_000 }).toBeGreaterThan(0);
  await run("abort", "split-1", "--reason", "enough", "--wait");
  const ended = await waiting.ended;
  expect(ended.code).toBe(3);
  expect(JSON.parse(ended.stdout)).toMatchObject({
    error: "WAIT_ENDED",
    message: "split-1 is aborted: enough",
  });
});

it.each([
  [["start", "x", "--wait=somewhere"], /the states are planned, preflight/],
  [["wait", "x", "--for", "ready", "--timeout", "soon"], /give a duration as 500ms/],
  [["wait", "x"], /required option '--for <state>'/],
])("cleave %j is wrong usage, also for a program", async (args, said) => {
  const text = await run(...args);
  expect(text).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(said) });
  expect(text.stderr).toMatch(/^error USAGE_INVALID: .*\nnext: `cleave --help`/s);
  const json = await run(...args, "--json");
  expect([json.code, json.stderr]).toEqual([2, ""]);
  expect(JSON.parse(json.stdout)).toMatchObject({ error: "USAGE_INVALID", nextStep: expect.any(String) });
});
