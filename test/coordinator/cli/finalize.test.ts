/** `pause`, `resume`, `finalize` and `history` as an operator types them, against a real coordinator and agents. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-cli-"));
  api = await startApi();
  await api.startAgents("pod-0", "pod-100", "pod-101");
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => cleave(args, { url: api.url });
const status = async () => JSON.parse((await run("status", "split-1", "--json")).stdout) as MigrationStatus;
const reaches = (lifecycle: string) =>
  expect.poll(async () => (await status()).lifecycle, { timeout: 20_000 }).toBe(lifecycle);

async function plan(approval: "auto" | "manual" = "auto"): Promise<string> {
  const file = join(folder, "plan.yaml");
  const text = `migration: split-1
source: pod-0
assignments:
  - {pod: pod-100, organizations: [1]}
  - {pod: pod-101, organizations: [2]}
settings: {settlingMs: 50, cutover: {approval: ${approval}, readLeaseMs: 200}}
`;
  await writeFile(file, text);
  return file;
}

const found = (severity: Finding["severity"], message: string): Finding => ({
  store: "postgres",
  severity,
  code: "REMOVAL_REFERENCED",
  message,
});

it("a paused migration waits for whoever paused it, and goes on when it is resumed", async () => {
  const file = await plan("manual");
  await run("plan", file);
  expect(await run("pause", "split-1", "--reason", "x")).toMatchObject({ code: 3 });
  await run("split", file);
  await reaches("ready");
  expect(await run("pause", "split-1", "--reason", "a backup runs")).toMatchObject({
    code: 0,
    stdout: "split-1 is paused; go on with: cleave resume split-1\n",
  });
  expect((await run("approve", "split-1")).code).toBe(0);
  const shown = (await run("status", "split-1")).stdout;
  expect(shown).toMatch(/waiting for an operator: resume it \(paused by operator:.*: a backup runs\)/);
  expect(shown).toContain("cleave resume split-1");
  expect(shown).not.toContain("cleave pause");
  expect((await status()).lifecycle).toBe("ready");
  expect((await run("resume", "split-1")).code).toBe(0);
  await reaches("retaining");
});

it("finalize says first what would go, is refused with the reason, and then removes everything", async () => {
  await run("split", await plan());
  await reaches("retaining");
  api.store("pod-0", "postgres").findings = [found("info", "1,234 rows in 7 tables, about 2 MB")];
  const dry = await run("finalize", "split-1", "--dry-run");
  expect(dry.code).toBe(0);
  expect(dry.stdout).toContain("1,234 rows in 7 tables");
  expect(dry.stdout).toContain("this is what would be removed; nothing was changed");
  expect((await status()).lifecycle).toBe("retaining");

  api.store("pod-0", "postgres").findings = [found("error", "a row of org 9 refers to one of these")];
  const refused = await run("finalize", "split-1", "--watch");
  expect(refused.stdout).toContain("refers to one of these");
  expect(refused.code).toBe(3);
  expect((await status()).lifecycle).toBe("retaining");

  api.store("pod-0", "postgres").findings = [];
  expect((await run("finalize", "split-1", "--watch")).code).toBe(0);
  expect((await status()).lifecycle).toBe("completed");
  expect(api.log.types().slice(-3)).toEqual(["RetentionEnded", "FilesRemoved", "RowsRemoved"]);
  expect(await run("finalize", "split-1")).toMatchObject({ code: 0 });
  expect(await run("abort", "split-1", "--reason", "x")).toMatchObject({ code: 3 });
});

it("history tells who decided what and why, for people, for programs and for a ticket", async () => {
  await run("split", await plan());
  await reaches("retaining");
  await run("pause", "split-1", "--reason", "ask <Bob>");
  await run("resume", "split-1");
  const text = await run("history", "split-1");
  expect(text.code).toBe(0);
  expect(text.stdout).toMatch(/paused.*operator:/);
  expect(text.stdout).toContain("because ask <Bob>");
  expect(text.stdout).toMatch(/proved pod-100 postgres/);

  const lines = (await run("history", "split-1", "--json")).stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map(({ type }) => type)).toEqual(api.log.types().slice(1));
  expect(lines.at(-1)).toMatchObject({ type: "MigrationResumed", from: "retaining", to: "retaining" });

  const file = join(folder, "ticket.md");
  expect((await run("history", "split-1", "--report", file)).code).toBe(0);
  const report = await readFile(file, "utf8");
  expect(report).toContain("# split-1");
  expect(report).toContain("ask \\<Bob\\>");
  expect(report).toMatch(/\| \d+ \| pod-101 \| objects \|/);
  expect(report).toContain("matching --> transferring: ConsensusReached ✔");
  expect(report).toMatch(/fencing --> aborted: MigrationAborted$/m);
  expect(await run("history", "nope")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("MIGRATION_UNKNOWN"),
  });
});
