/** One organization's objects come to a Pod that has others' already. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { duty, ObjectPod, SOURCE, TARGET } from "../../../../support/objects/pods.ts";

const MOVE = { kind: "move" } as const;
let folder: string;
let source: ObjectPod;
let target: ObjectPod;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-objects-"));
  source = new ObjectPod(SOURCE, folder);
  target = new ObjectPod(TARGET, folder);
  await source.start();
  // A look through everything, again and again almost without a pause: what it must not touch, it meets soon.
  await target.start(source.peer(), { verifyPauseSeconds: 0.02 });
});
afterEach(async () => {
  await target.kill();
  await source.kill();
  await rm(folder, { recursive: true, force: true });
});

async function following(): Promise<void> {
  await source.reach("prepare", MOVE);
  await target.reach("seed", MOVE);
  await Promise.all([source.reach("serve", MOVE), target.reach("follow", MOVE)]);
  await eventually(() => expect(target.status()).toMatchObject({ verified: true, lag: { amount: 0 } }));
}

it("copies what the organization owns and what all share, and touches nothing that was there", async () => {
  await source.write("uploads/red/a", "1");
  await source.write("uploads/blue/a", "2");
  await source.write("lfs/ab", "shared by content");
  await source.write("lfs/cd", "both have it");
  await target.writeUnannounced("uploads/green/a", "3");
  await target.writeUnannounced("lfs/cd", "both have it");
  await target.writeUnannounced("lfs/ef", "the target's own");
  await following();
  expect(await target.contents()).toEqual({
    "uploads/red/a": "1",
    "uploads/green/a": "3",
    "lfs/ab": "shared by content",
    "lfs/cd": "both have it",
    "lfs/ef": "the target's own",
  });
  expect(target.status().problems).toEqual([]);
  // Residents go on, and what the source removes of the shared stays where others may use it.
  await target.writeUnannounced("uploads/green/a", "4");
  await source.remove("lfs/cd");
  await source.write("uploads/red/b", "5");
  await eventually(async () => expect(await target.read("uploads/red/b")).toBe("5"));
  await Promise.all([
    source.reach("fence", { ...MOVE, epoch: 1 }),
    target.reach("match", { ...MOVE, epoch: 1 }),
  ]);
  expect(target.status().evidence?.digest).toBe(source.status().evidence?.digest);
  expect(source.status().evidence?.digest).toMatch(/^2\//);
  expect(await target.read("lfs/cd")).toBe("both have it");
  expect(await target.read("uploads/green/a")).toBe("4");
});

it("what came with an earlier move is the Pod's own, whatever the source still has of it", async () => {
  await source.write("uploads/red/a", "as it came");
  await following();
  await Promise.all([
    source.reach("fence", { ...MOVE, epoch: 1 }),
    target.reach("match", { ...MOVE, epoch: 1 }),
  ]);
  await target.reach("activate", { ...MOVE, epoch: 1 });
  await target.reach("open", { ...MOVE, epoch: 1 });
  await target.write("uploads/red/a", "as it is now");
  // Another organization follows, with the inventory of the first one still in memory.
  await source.write("uploads/blue/a", "2");
  const next = (goal: "seed" | "follow" | "prepare" | "serve", pod: ObjectPod) =>
    pod.store.reach(
      {
        ...duty(pod.podId, goal, MOVE),
        migrationId: "move-2" as never,
        assignments: new Map([["blue", TARGET]]) as never,
      },
      AbortSignal.timeout(20_000),
    );
  await next("prepare", source);
  await next("seed", target);
  await Promise.all([next("serve", source), next("follow", target)]);
  await eventually(() => expect(target.store.status("move-2" as never)?.verified).toBe(true));
  for (let round = 0; round < 5; round++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await target.read("uploads/red/a")).toBe("as it is now");
  }
  expect(await target.read("uploads/blue/a")).toBe("2");
});

it("a shared object with another content is named, and not overwritten", async () => {
  await source.write("lfs/ab", "one");
  await source.write("uploads/red/a", "1");
  await target.writeUnannounced("lfs/ab", "another");
  await source.reach("prepare", MOVE);
  const seeding = target
    .reach("seed", { ...MOVE, signal: AbortSignal.timeout(3_000) })
    .catch(() => undefined);
  await eventually(() => {
    expect(
      target
        .status()
        .problems.map(({ message }) => message)
        .join(),
    ).toMatch(/lfs\/ab.* another content/);
  });
  await seeding;
  expect(await target.read("lfs/ab")).toBe("another");
});

it("objects of the organization that are there already refuse the move; others do not", async () => {
  await target.writeUnannounced("uploads/green/a", "3");
  const check = () => target.store.preflight(duty(TARGET, "seed", MOVE), "start", AbortSignal.timeout(5_000));
  expect(await check()).toEqual([]);
  await target.writeUnannounced("uploads/red/a", "dormant");
  expect((await check()).map(({ code }) => code)).toEqual(["TARGET_HOLDS_ORGANIZATION"]);
});

it("is removed after an abort, and nothing else is", async () => {
  await source.write("uploads/red/a", "1");
  await source.write("lfs/ab", "shared");
  await target.writeUnannounced("uploads/green/a", "3");
  await following();
  await target.reach("release", MOVE);
  expect(await target.contents()).toEqual({ "uploads/green/a": "3", "lfs/ab": "shared" });
});
