import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Ending, endAll, startTimeOf } from "../../../../examples/quickstart/cluster/endings.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cleave-endings-"));
});
const started: number[] = [];
afterEach(() => {
  for (const pid of started.splice(0)) if (startTimeOf(pid) !== null) process.kill(pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

/** A stand-in for the demo: starts two processes, one of which ignores SIGTERM, and a folder; then waits. */
const SCRIPT = `
import { mkdirSync, writeFileSync } from "node:fs";
import { Processes } from ${JSON.stringify(join(import.meta.dirname, "../../../../examples/quickstart/cluster/processes.ts"))};
const folder = process.argv[2];
const processes = new Processes(folder);
processes.add({ kind: "folder", path: folder + "/data" });
mkdirSync(folder + "/data");
const start = (name, script) =>
  processes.start({ name, command: process.execPath, args: ["-e", script] }).child.pid;
const pids = [
  start("gentle", "setInterval(() => {}, 1000)"),
  start("stubborn", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)"),
];
setTimeout(async () => {
  writeFileSync(folder + "/pids", JSON.stringify(pids));
  if (process.argv[3] === "keep") await processes.keep(folder + "/kept.json");
  else setInterval(() => {}, 1000);
}, 500);
`;

async function startDemo(...args: string[]) {
  const script = join(folder, "demo.mjs");
  writeFileSync(script, SCRIPT);
  const demo = spawn(process.execPath, [script, folder, ...args], { stdio: ["ignore", "ignore", "inherit"] });
  while (!existsSync(join(folder, "pids"))) await sleep(20);
  await sleep(50);
  const pids = JSON.parse(readFileSync(join(folder, "pids"), "utf8")) as number[];
  started.push(demo.pid as number, ...pids);
  return { demo, running: () => pids.filter((pid) => startTimeOf(pid) !== null).length };
}

test("everything ends after the demo was killed: also what ignores SIGTERM, and its folders", async () => {
  const { demo, running } = await startDemo();
  expect(running()).toBe(2);
  expect(existsSync(join(folder, "data"))).toBe(true);
  demo.kill("SIGKILL");
  const end = Date.now() + 12_000;
  while ((running() > 0 || existsSync(join(folder, "data"))) && Date.now() < end) await sleep(50);
  expect(running()).toBe(0);
  expect(existsSync(join(folder, "data"))).toBe(false);
}, 20_000);

test("a kept run goes on after the demo, and its list ends it", async () => {
  const { demo, running } = await startDemo("keep");
  if (demo.exitCode === null) await once(demo, "exit");
  await sleep(300);
  expect(running()).toBe(2);
  const endings = JSON.parse(readFileSync(join(folder, "kept.json"), "utf8")) as Ending[];
  expect(await endAll(endings)).toEqual(["stubborn"]);
  expect(running()).toBe(0);
  expect(existsSync(join(folder, "data"))).toBe(false);
}, 20_000);

test("a process that only has the number of one of ours is left alone", async () => {
  const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  try {
    mkdirSync(join(folder, "data"));
    await endAll([{ kind: "process", name: "gone", pid: other.pid as number, startedAt: "1" }]);
    expect(startTimeOf(other.pid as number)).not.toBeNull();
  } finally {
    other.kill("SIGKILL");
  }
});
