/** `cleave … --watch`, `cleave watch` and `--follow` as processes: to the end, through restarts, on a terminal. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave, startCleave } from "../../support/coordinator/cleave.ts";
import { migrationId } from "../../support/story.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-watch-"));
  api = await startApi();
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

async function planFile(cutover = "approval: manual"): Promise<string> {
  const file = join(folder, "plan.yaml");
  await writeFile(
    file,
    `migration: ${migrationId}
source: pod-0
assignments:
  - {pod: pod-100, organizations: [1]}
  - {pod: pod-101, organizations: [2]}
settings: {settlingMs: 50, cutover: {readLeaseMs: 200, ${cutover}}}
`,
  );
  return file;
}
const lifecycle = () => api.coordinator.state().migrations[migrationId]?.lifecycle;

it("split --watch ends where an operator decides; approve and watch go on to the end", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const split = await cleave(["split", await planFile(), "--watch"], { url: api.url });
  expect([split.code, split.stderr]).toEqual([0, ""]);
  expect(split.stdout.trim().split("\n").at(-1)).toBe(
    `${migrationId} ready: waiting for an operator: approve the cutover`,
  );
  expect(lifecycle()).toBe("ready");
  const watching = startCleave(["watch", migrationId], { url: api.url });
  await expect.poll(watching.stdout, { timeout: 20_000 }).toContain("an operator");
  expect(watching.child.exitCode).toBeNull();
  expect((await cleave(["approve", migrationId], { url: api.url })).code).toBe(0);
  const watched = await watching.ended;
  expect(watched.code).toBe(0);
  expect(watched.stdout).toContain(`${migrationId} retaining`);
  expect(watched.stdout).toMatch(
    /read-only for .* by the log: .* until the transfer, .* until the last Pod opened/,
  );
});

it("--approve approves once, as soon as that is possible, and a failed attempt ends with 3 and the reason", async () => {
  api.store("pod-100", "git").content = "different";
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const file = await planFile("approval: manual, deadlineMs: 600");
  const split = await cleave(["split", file, "--approve", "--watch"], { url: api.url });
  expect(split.stdout).toMatch(
    /ready: waiting for an operator: approve the cutover again or abort \(last attempt: /,
  );
  expect(split.code).toBe(3);
  expect(api.log.types().filter((type) => type === "CutoverApproved")).toHaveLength(1);
  expect(api.log.types().filter((type) => type === "FenceRaised")).toHaveLength(1);
});

it("--approve alone ends when the approval is given", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const split = await cleave(["split", await planFile(), "--approve"], { url: api.url });
  expect(split.code).toBe(0);
  expect(api.log.types()).toContain("CutoverApproved");
});

it("a refused split ends with 3 and its findings, an aborted one with 3 and its reason", async () => {
  await api.startAgents("pod-0", "pod-100");
  const aborted = startCleave(["split", await planFile(), "--watch"], { url: api.url });
  await expect.poll(aborted.stdout, { timeout: 20_000 }).toContain("preflight: waiting for pod-101");
  await cleave(["abort", migrationId, "--reason", "not\ttoday\u001b[2J"], { url: api.url });
  const ended = await aborted.ended;
  expect(ended.code).toBe(3);
  expect(ended.stdout).toContain("aborted: pod-0 serves as before\nnot today\ufffd[2J\n");
  await api.stop();

  api = await startApi();
  api.store("pod-100", "git").findings = [
    { store: "git", severity: "error", code: "GIT_NOT_EMPTY", message: "3 repositories" },
  ];
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const refused = await cleave(["split", await planFile(), "--watch"], { url: api.url });
  expect(refused.code).toBe(3);
  expect(refused.stdout).toContain(
    "refused: pod-0 serves as before\nerror   GIT_NOT_EMPTY: pod-100: 3 repositories",
  );
});

it("--json gives one status a line", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const split = await cleave(["split", await planFile("approval: auto"), "--watch", "--json"], {
    url: api.url,
  });
  const statuses = split.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as MigrationStatus & { at: number });
  expect([split.code, statuses.at(-1)?.lifecycle]).toEqual([0, "retaining"]);
  expect(statuses.every((status) => status.at > 0 && status.migrationId === migrationId)).toBe(true);
});

it("watch and events --follow outlive the API, and miss nothing", async () => {
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await cleave(["plan", await planFile("approval: auto")], { url: api.url });
  const watching = startCleave(["watch", migrationId], { url: api.url });
  const events = startCleave(["events", "--follow", "--json"], { url: api.url });
  await expect.poll(watching.stdout, { timeout: 20_000 }).toContain("planned");
  await expect.poll(events.stdout, { timeout: 20_000 }).toContain("MigrationPlanned");
  await api.stopListening();
  await expect.poll(watching.stderr, { timeout: 20_000 }).toContain("does not answer; still trying");
  await api.coordinator.command(migrationId, { type: "start" }, "operator:test");
  await api.listenAgain();
  expect((await watching.ended).code).toBe(0);
  const sequences = () =>
    events
      .stdout()
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { sequence: number }).sequence);
  const wanted = Array.from({ length: api.log.records.length }, (_, index) => index + 1);
  await expect.poll(sequences, { timeout: 20_000 }).toEqual(wanted);
});

const hasScript = (() => {
  try {
    return execFileSync("script", ["--version"], { encoding: "utf8" }).includes("util-linux");
  } catch {
    return false;
  }
})();

it.skipIf(!hasScript)("on a terminal it is one live screen with the matrix of Pods and stores", async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  api.store("pod-100", "git").before = (duty) => (duty.goal === "match" ? held : undefined);
  await api.startAgents("pod-0", "pod-100", "pod-101");
  await cleave(["split", await planFile("approval: auto")], { url: api.url });
  const command = `"${process.execPath}" "${join(import.meta.dirname, "../../../bin/cleave.mjs")}" watch ${migrationId}`;
  const terminal = spawn(
    "script",
    ["--quiet", "--return", "--command", `stty cols 140 rows 40; ${command}`, "/dev/null"],
    {
      env: { ...process.env, CLEAVE_URL: api.url, TERM: "xterm-256color", NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let raw = "";
  terminal.stdout.setEncoding("utf8").on("data", (text: string) => {
    raw += text;
  });
  const ended = once(terminal, "close");
  const text = () => stripVTControlCharacters(raw);
  await expect
    .poll(text, { timeout: 20_000 })
    .toContain("waiting for pod-100: Git is catching up to the fence");
  expect(text()).toMatch(/Pod +WAL +Git +objects/);
  expect(text()).toMatch(/pod-100 \(replica\) +equal +proving equal +equal/);
  expect(text()).toMatch(/read-only +for \d+(\.\d)? m?s, epoch 1, at most 30\.0 s/);
  release();
  expect((await ended)[0]).toBe(0);
  expect(text()).toMatch(/pod-100 \(serves\)/);
  expect(raw, "the cursor is shown again").toMatch(/\u001b\[\?25h(?![\s\S]*\u001b\[\?25l)/);
});
