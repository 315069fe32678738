/** `rollback` and `give-up` as an operator types them, against a real coordinator and agents. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MigrationStatus } from "../../../coordinator/api/ports.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";

let api: ApiFixture;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-cli-"));
  api = await startApi();
  await api.startAgents("pod-0", "pod-100", "pod-101");
  const file = join(folder, "plan.yaml");
  await writeFile(
    file,
    `migration: split-1
source: pod-0
assignments:
  - {pod: pod-100, organizations: [1]}
  - {pod: pod-101, organizations: [2]}
settings: {settlingMs: 50, cutover: {approval: auto, readLeaseMs: 200}}
`,
  );
  const split = await run("split", file, "--wait=retaining", "--timeout", "30s");
  expect(split.code, split.stderr).toBe(0);
});
afterEach(async () => {
  await endCleave();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => cleave(args, { url: api.url });
const status = async (id: string) =>
  JSON.parse((await run("status", id, "--json")).stdout) as MigrationStatus;

it("brings back what a Pod took over, waits for it, and says where it lives now", async () => {
  // Two Pods took some over: which one is meant has to be said.
  const which = await run("rollback", "split-1");
  expect(which.code).not.toBe(0);
  expect(which.stderr).toMatch(/pod-100.*pod-101/);
  const back = await run("rollback", "split-1", "--pod", "pod-100", "--wait", "--timeout", "30s");
  expect(back).toMatchObject({ code: 0, stdout: "split-1-back-1 is retaining\n" });
  expect(await status("split-1-back-1")).toMatchObject({ kind: "rollback", sourcePodId: "pod-100" });
  expect((await run("routes")).stdout).toMatch(/^1 +pod-0/m);
  expect((await run("routes")).stdout).toMatch(/^2 +pod-101/m);
  const again = await run("rollback", "split-1", "--organizations", "1");
  expect(again.code).not.toBe(0);
});

it("asks first where that is wished, and can then be aborted as if it had never been planned", async () => {
  const args = ["--organizations", "2", "--name", "back-home", "--approval", "manual"];
  const ready = await run("rollback", "split-1", ...args, "--wait", "--timeout", "30s");
  expect(ready).toMatchObject({ code: 0, stdout: "back-home is ready\n" });
  expect(
    (await run("abort", "back-home", "--reason", "not tonight", "--wait", "--timeout", "30s")).code,
  ).toBe(0);
  expect((await run("routes")).stdout).toMatch(/^2 +pod-101/m);
  expect((await run("rollback", "split-1", "--organizations", "2", "--wait", "--timeout", "30s")).code).toBe(
    0,
  );
});

it("what was given up does not come back, and the reason is in the history", async () => {
  expect((await run("give-up", "split-1", "pod-101")).code).toBe(2);
  expect(await run("give-up", "split-1", "pod-101", "--reason", "its disk is filling")).toMatchObject({
    code: 0,
    stdout: "nothing flows back from pod-101 any more\n",
  });
  expect((await run("history", "split-1")).stdout).toContain("its disk is filling");
  const refused = await run("rollback", "split-1", "--pod", "pod-101");
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain("REVERSE_REPLICATION_GONE");
  expect((await run("rollback", "split-1", "--pod", "pod-100", "--wait", "--timeout", "30s")).code).toBe(0);
});
