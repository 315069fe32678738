import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../../../support/eventually.ts";
import { ObjectPod, SOURCE, TARGET } from "../../../support/objects/pods.ts";

let folder: string;
let source: ObjectPod;
let target: ObjectPod;
let children: ChildProcess[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-objects-"));
  source = new ObjectPod(SOURCE, folder);
  target = new ObjectPod(TARGET, folder);
  children = [];
  await source.start();
  await target.start(source.peer());
});

afterEach(async () => {
  await Promise.all(children.map(end));
  await Promise.all([source.kill(), target.kill()]);
  await rm(folder, { recursive: true, force: true });
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
}

function startWriter(number: number, pauseMs: number): { child: ChildProcess; acknowledged: () => string[] } {
  const program = join(import.meta.dirname, "../../../support/file-fence/fence-writer.ts");
  const args = [program, source.control, source.root, `${number}`, "red,green", `${pauseMs}`];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  let text = "";
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const acknowledged = () =>
    text
      .split("\n")
      .slice(0, -1)
      .flatMap((line) => (JSON.parse(line) as { acknowledged?: string }).acknowledged ?? []);
  return { child, acknowledged };
}

test("no write that a program was told of is missing at the target, in any of ten fences", async () => {
  await mkdir(join(source.root, "uploads/red"), { recursive: true });
  await source.reach("prepare");
  await target.reach("seed");
  const writers = [1, 2, 3].map((number) => startWriter(number, number * 10));
  await eventually(() => expect(writers.every((writer) => writer.acknowledged().length > 5)).toBe(true));
  for (let epoch = 1; epoch <= 10; epoch++) {
    await sleep(Math.random() * 100);
    // One writer dies at some point of its work.
    if (epoch % 3 === 0) {
      writers[epoch % writers.length]?.child.kill("SIGKILL");
      writers.push(startWriter(100 + epoch, 20));
    }
    const match = target.reach("match", { epoch });
    await source.reach("fence", { epoch });
    await match;
    const evidence = source.status().evidence;
    expect(evidence).toMatchObject({ epoch });
    expect(target.status().evidence?.digest).toBe(evidence?.digest);
    expect(source.status().problems).toEqual([]);
    const held = new Set(Object.keys(await target.contents()));
    const promised = writers
      .flatMap((writer) => writer.acknowledged())
      .filter((key) => key.includes("/red/"));
    expect(promised.filter((key) => !held.has(key))).toEqual([]);
    await source.reach("serve");
    await target.reach("follow");
  }
  expect(writers.flatMap((writer) => writer.acknowledged()).length).toBeGreaterThan(50);
  await Promise.all(children.map(end));
  await eventually(async () => expect(await target.contents()).toEqual(await source.contents()));
}, 60_000);
