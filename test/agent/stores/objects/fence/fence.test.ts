import { mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { formatIntent } from "../../../../../agent/stores/file-fence/announcement.ts";
import { withWriteIntent } from "../../../../../agent/stores/file-fence/write-intent.ts";
import { ownView } from "../../../../../agent/stores/machine/processes.ts";
import { eventually } from "../../../../support/eventually.ts";
import {
  equal,
  following,
  someObjects,
  source,
  target,
  useObjectPair,
  verified,
} from "../../../../support/objects/pair.ts";
import { duty, MIGRATION, type ObjectPod, SOURCE, TARGET } from "../../../../support/objects/pods.ts";
import { removeLive } from "../../../../support/remove-live.ts";

useObjectPair();

describe("fence and match", () => {
  const evidenceOf = (pod: ObjectPod) => pod.status().evidence;

  test("evidence of both is equal, made of their own inventories, while neighbours write on", async () => {
    await someObjects();
    await following();
    const match = target.reach("match", { epoch: 7 });
    let writing = true;
    const neighbours = (async () => {
      for (let number = 0; writing; number++) await source.write(`uploads/green/${number % 20}`, `${number}`);
    })();
    await source.write("uploads/red/last", "last");
    await source.reach("fence", { epoch: 7 });
    await match;
    await expect(source.write("uploads/red/late", "late")).rejects.toMatchObject({
      code: "WRITE_FENCED",
      podId: SOURCE,
    });
    await expect(source.remove("uploads/red/empty")).rejects.toMatchObject({ code: "WRITE_FENCED" });
    expect(evidenceOf(source)).toMatchObject({ epoch: 7 });
    expect(evidenceOf(target)?.digest).toBe(evidenceOf(source)?.digest);
    expect(evidenceOf(source)?.digest).toMatch(/^63\/[0-9a-f]{64}$/);
    expect(await target.read("uploads/red/last")).toBe("last");

    await source.reach("yield");
    await target.reach("activate");
    await expect(target.write("uploads/red/opened", "1")).rejects.toMatchObject({
      code: "WRITE_FENCED",
      podId: TARGET,
    });
    await target.reach("open");
    await target.write("uploads/red/opened", "1");
    await expect(source.write("uploads/red/opened", "1")).rejects.toMatchObject({
      code: "WRONG_POD",
      podId: TARGET,
    });
    await expect(target.write("uploads/green/1", "1")).rejects.toMatchObject({
      code: "WRONG_POD",
      podId: SOURCE,
    });
    writing = false;
    await neighbours;
  });

  test("waits for a writer in flight, whose object is part of the evidence", async () => {
    await someObjects();
    await following();
    const writers = Array.from({ length: 20 }, (_, number) =>
      source.write(`uploads/red/race-${number}`, `${number}`),
    );
    const fenced = source.reach("fence", { epoch: 1 });
    const outcomes = await Promise.allSettled(writers);
    await fenced;
    await target.reach("match", { epoch: 1 });
    expect(evidenceOf(target)?.digest).toBe(evidenceOf(source)?.digest);
    const contents = await target.contents();
    for (const [number, { status }] of outcomes.entries())
      expect(contents[`uploads/red/race-${number}`]).toBe(status === "fulfilled" ? `${number}` : undefined);
  });

  test("a writer that asks the fence for another organization is told of before, and takes the evidence back after", async () => {
    await someObjects();
    await following();
    const wrong = (key: string) =>
      withWriteIntent({ control: source.control, store: "objects", key, organizationId: "green" }, () =>
        source.writeUnannounced(key, "1"),
      );
    await wrong("uploads/red/before");
    const told = { code: "MISMATCH", message: expect.stringContaining("uploads/red/before") };
    await eventually(() => expect(source.status().problems).toMatchObject([told]));
    await source.reach("fence", { epoch: 1 });
    expect(evidenceOf(source)).not.toBeNull();
    await wrong("uploads/red/after");
    await eventually(() => expect(evidenceOf(source)).toBeNull());
    expect(
      source
        .status()
        .problems.map(({ message }) => message)
        .join(),
    ).toContain("changed after their writers had ended");
  });

  test("a writer that nobody here sees is named where the fence waits for it, and an operator's word ends the wait", async () => {
    await someObjects();
    await following();
    const view = { ...(await ownView()), pidNamespace: "1", host: "elsewhere" };
    const inflight = join(source.control, "inflight/objects/left");
    const announced = formatIntent({ pid: 42, startTime: "1", key: "uploads/red/left", view });
    await writeFile(inflight, announced);
    const over = new AbortController();
    const fenced = source.reach("fence", { epoch: 1, signal: over.signal });
    fenced.catch(() => undefined);
    await eventually(() => {
      const [problem] = source.status().problems;
      expect(problem?.code).toBe("DRAIN_INCOMPLETE");
      for (const part of ["process 42", "elsewhere", inflight, "uploads/red/left"])
        expect(problem?.message).toContain(part);
    });
    expect(evidenceOf(source)).toBeNull();
    // The deadline.
    over.abort(new Error("the fence was lowered"));
    await expect(fenced).rejects.toThrow("the fence was lowered");
    await source.reach("serve");
    expect(source.status().problems).toEqual([]);
    // The checks before the next fence refuse it as soon as the writer has been there for as long as a fence would wait.
    const settings = { cutover: { deadlineMs: 100 } };
    const check = () =>
      source.store.preflight(duty(SOURCE, "serve", { settings }), "fence", AbortSignal.timeout(5_000));
    await eventually(async () =>
      expect(await check()).toMatchObject([{ code: "WRITER_UNSEEN", severity: "error" }]),
    );
    await source.writeUnannounced("uploads/red/left", "written before it was killed");
    await rename(inflight, join(source.control, "dirty/objects/left"));
    expect(await check()).toEqual([]);
    const match = target.reach("match", { epoch: 2 });
    await source.reach("fence", { epoch: 2 });
    await match;
    expect(evidenceOf(target)?.digest).toBe(evidenceOf(source)?.digest);
    expect(await target.read("uploads/red/left")).toBe("written before it was killed");
  });

  test("a lowered fence serves again, and the next one has its own evidence", async () => {
    await someObjects();
    await following();
    await source.reach("fence", { epoch: 1 });
    await target.reach("match", { epoch: 1 });
    const first = evidenceOf(target)?.digest;
    await source.reach("serve");
    await target.reach("follow");
    expect(evidenceOf(source)).toBeNull();
    expect(evidenceOf(target)).toBeNull();
    await source.write("uploads/red/between", "1");
    await source.write("uploads/green/between", "1");
    const match = target.reach("match", { epoch: 2 });
    await sleep(20);
    expect(evidenceOf(target)).toBeNull();
    await source.reach("fence", { epoch: 2 });
    await match;
    expect(evidenceOf(target)).toMatchObject({ epoch: 2, digest: evidenceOf(source)?.digest });
    expect(evidenceOf(target)?.digest).not.toBe(first);
    await eventually(equal);
  });

  test("both agents restart while fenced and come to the same evidence; neighbours' copies stay", async () => {
    await someObjects();
    await following();
    await source.reach("fence", { epoch: 3 });
    const digest = evidenceOf(source)?.digest;
    await source.write("uploads/green/during the fence", "1");
    await Promise.all([source.kill(), target.kill()]);
    await source.start();
    await target.start(source.peer());
    const match = target.reach("match", { epoch: 3 });
    await source.reach("fence", { epoch: 3 });
    await match;
    expect(evidenceOf(source)?.digest).toBe(digest);
    expect(evidenceOf(target)?.digest).toBe(digest);
    expect(await target.read("uploads/green/1")).toBe(await source.read("uploads/green/1"));
    await source.reach("serve");
    await target.reach("follow");
    await eventually(equal);
  });

  test("a copy that is damaged at the fence never counts as matching", async () => {
    await someObjects();
    await following();
    await verified();
    // Behind the back of the running agent, found by the restarted one.
    await target.kill();
    await writeFile(join(target.root, "uploads/red/3/a file.txt"), "damaged");
    await source.reach("fence", { epoch: 1 });
    await target.start(source.peer());
    await target.reach("match", { epoch: 1 });
    expect(evidenceOf(target)?.digest).toBe(evidenceOf(source)?.digest);
    await equal();
  });

  test("an object that cannot be read makes evidence impossible", async () => {
    await someObjects();
    await following();
    await source.write("uploads/red/bad", "1");
    await eventually(equal);
    await rm(join(source.root, "uploads/red/bad"));
    await symlink("/etc/hostname", join(source.root, "uploads/red/bad"));
    await source.write("uploads/red/other", "1");
    await writeFile(join(source.control, "dirty/objects/hint"), "1 1\nuploads/red/bad\n");
    await expect(source.reach("fence", { epoch: 1 })).rejects.toMatchObject({ code: "OBJECT_UNREADABLE" });
    expect(evidenceOf(source)).toBeNull();
    expect(source.status().problems[0]).toMatchObject({ code: "OBJECT_UNREADABLE" });
    const findings = await source.store.preflight(duty(SOURCE, "fence"), "fence", AbortSignal.timeout(5_000));
    expect(findings[0]?.code).toBe("OBJECT_UNREADABLE");
    await rm(join(source.root, "uploads/red/bad"));
    await source.reach("fence", { epoch: 1 });
    await target.reach("match", { epoch: 1 });
    expect(evidenceOf(target)?.digest).toBe(evidenceOf(source)?.digest);
  });

  test("the window is short: from the fence to equal evidence", async () => {
    await someObjects();
    await following();
    const durations: number[] = [];
    for (let epoch = 1; epoch <= 5; epoch++) {
      const match = target.reach("match", { epoch });
      await sleep(50);
      const startedAt = performance.now();
      await Promise.all([source.reach("fence", { epoch }), match]);
      durations.push(performance.now() - startedAt);
      await source.reach("serve");
      await target.reach("follow");
    }
    expect(Math.min(...durations)).toBeLessThan(100);
  });
});

describe("preflight and release", () => {
  const start = (pod: ObjectPod, goal: "prepare" | "seed") =>
    pod.store.preflight(duty(pod.podId, goal), "start", AbortSignal.timeout(10_000));

  test("a target that has anything is refused, and keeps it", async () => {
    await someObjects();
    await target.writeUnannounced("uploads/red/mine", "mine");
    expect(await start(target, "seed")).toMatchObject([{ code: "OBJECTS_NOT_EMPTY", severity: "error" }]);
    await source.reach("prepare");
    await expect(target.reach("seed")).rejects.toMatchObject({ code: "OBJECTS_NOT_EMPTY" });
    await target.reach("release");
    expect(await target.contents()).toEqual({ "uploads/red/mine": "mine" });
  });

  test("objects without an owner and what is no object are found at the source", async () => {
    await source.writeUnannounced("nobody/1", "1");
    await source.writeUnannounced("nobody/2", "1");
    await symlink("/etc/hostname", join(source.root, "link"));
    await mkdir(join(source.root, "uploads/red/.tmp"), { recursive: true });
    await writeFile(join(source.root, "uploads/red/.tmp/half"), "");
    const findings = await start(source, "prepare");
    expect(findings.map(({ code }) => code).sort()).toEqual([
      "LEFT_BEHIND",
      "OBJECT_UNREADABLE",
      "OWNER_UNKNOWN",
    ]);
    expect(findings.find(({ code }) => code === "LEFT_BEHIND")?.message).toContain("uploads/red/.tmp");
    expect(findings.find(({ code }) => code === "OWNER_UNKNOWN")?.message).toMatch(/^2 objects .*nobody\/1/);
    await source.reach("prepare");
    await expect(source.reach("fence", { epoch: 1 })).rejects.toMatchObject({ code: "OBJECT_UNREADABLE" });
    await rm(join(source.root, "link"));
    await source.kill();
    await source.start();
    await expect(source.reach("fence", { epoch: 1 })).rejects.toMatchObject({ code: "OWNER_UNKNOWN" });
  });

  test("a source that is away, unknown or of another token is named", async () => {
    await target.kill();
    await target.start(source.peer("another token"));
    expect(await start(target, "seed")).toMatchObject([{ code: "PEER_UNAUTHORIZED" }]);
    await target.kill();
    await target.start({});
    expect(await start(target, "seed")).toMatchObject([{ code: "PEER_UNREACHABLE" }]);
    await target.kill();
    await target.start({ [SOURCE]: { agentUrl: "http://127.0.0.1:1", token: "x" } });
    expect(await start(target, "seed")).toMatchObject([{ code: "PEER_UNREACHABLE" }]);
  });

  test("a root that is not there is named", async () => {
    await removeLive(source.root);
    await removeLive(target.root);
    expect(await start(source, "prepare")).toMatchObject([{ code: "FILE_PERMISSION" }]);
    expect((await start(target, "seed"))[0]).toMatchObject({ code: "FILE_PERMISSION" });
  });

  test("release removes the copies of the target and nothing of the source", async () => {
    await someObjects();
    const before = await source.contents();
    await following();
    await source.reach("fence", { epoch: 1 });
    await target.reach("match", { epoch: 1 });
    await source.reach("release");
    await target.reach("release");
    await target.reach("release");
    expect(await target.contents()).toEqual({});
    expect(await readdir(target.root)).toEqual([]);
    expect(await source.contents()).toEqual(before);
    await source.write("uploads/red/again", "1");
    await expect(target.write("uploads/red/again", "1")).rejects.toMatchObject({ code: "WRONG_POD" });
    expect(await readdir(join(source.control, "shares"))).toEqual([]);
    expect(await start(target, "seed")).toEqual([]);
    // Announced changes of an idle Pod do not pile up.
    await eventually(async () => expect(await readdir(join(source.control, "dirty/objects"))).toEqual([]));
    // And the next migration starts from nothing.
    await following();
    await equal();
  });

  test("a restarted target still knows what it may remove, and what it may not", async () => {
    await someObjects();
    await following();
    await target.kill();
    await target.start(source.peer());
    await target.reach("release");
    expect(await target.contents()).toEqual({});

    await target.reach("seed");
    await source.reach("fence", { epoch: 1 });
    await target.reach("match", { epoch: 1 });
    await target.reach("activate");
    await target.kill();
    await target.start(source.peer());
    await target.reach("open");
    await target.reach("release");
    expect(Object.keys(await target.contents())).toContain("uploads/red/empty");
    expect(target.store.status(MIGRATION)).toBeNull();
  });
});
