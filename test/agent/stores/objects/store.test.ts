import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { withWriteIntent } from "../../../../agent/stores/file-fence/write-intent.ts";
import { eventually } from "../../../support/eventually.ts";
import {
  equal,
  following,
  someObjects,
  source,
  target,
  useObjectPair,
  verified,
} from "../../../support/objects/pair.ts";
import { duty, SOURCE, TARGET } from "../../../support/objects/pods.ts";

useObjectPair();

describe("seed and follow", () => {
  test("copies everything, then every change, and a deletion", async () => {
    await someObjects();
    expect(
      await source.store.preflight(duty(SOURCE, "prepare"), "start", AbortSignal.timeout(5_000)),
    ).toEqual([]);
    expect(await target.store.preflight(duty(TARGET, "seed"), "start", AbortSignal.timeout(5_000))).toEqual(
      [],
    );
    await following();
    await equal();
    await verified();
    expect(target.status().lag).toEqual({ amount: 0, unit: "objects" });

    await source.write("uploads/red/new", "new");
    await source.write("uploads/green/3", "changed");
    await source.remove("uploads/red/4/a file.txt");
    await source.remove("lfs/4");
    await eventually(equal);
    expect(await readdir(join(target.root, "uploads/red"))).not.toContain("4");
    expect(await source.store.preflight(duty(SOURCE, "fence"), "fence", AbortSignal.timeout(5_000))).toEqual(
      [],
    );
    expect(await target.store.preflight(duty(TARGET, "match"), "fence", AbortSignal.timeout(5_000))).toEqual(
      [],
    );
  });

  test("copies are as open as the originals, folders too, and belong to the same owner", async () => {
    await source.write("uploads/red/private/deep/1", "secret");
    await source.write("uploads/red/private/empty", "");
    await source.write("uploads/green/1", "shared");
    const at = (root: string, key: string) => join(root, "uploads", key);
    const isRoot = process.getuid?.() === 0;
    for (const key of ["red/private/deep/1", "red/private/empty"]) await chmod(at(source.root, key), 0o600);
    for (const key of ["red/private/deep", "red/private"]) await chmod(at(source.root, key), 0o700);
    await chmod(at(source.root, "green/1"), 0o664);
    if (isRoot) await chown(at(source.root, "red/private/deep/1"), 4711, 4712);
    await following();
    await equal();
    for (const key of [
      "red/private/deep/1",
      "red/private/empty",
      "red/private/deep",
      "red/private",
      "green/1",
    ]) {
      const [theirs, own] = [await stat(at(source.root, key)), await stat(at(target.root, key))];
      expect([key, own.mode, own.uid, own.gid]).toEqual([key, theirs.mode, theirs.uid, theirs.gid]);
    }
  });

  test("an object that changes while it is copied is no problem, and what stays different is told with both values", async () => {
    await someObjects();
    await following();
    const told = new Set<string>();
    const watching = target.store.onChange(() => {
      for (const { message } of target.status().problems) told.add(message);
    });
    for (let round = 0; round < 30; round++)
      await source.write("uploads/red/growing", randomBytes(1_000 + (round % 7) * 100_000));
    await eventually(equal);
    watching();
    expect([...told]).toEqual([]);
    // A folder that is no object is in the way of one.
    await mkdir(join(target.root, "uploads/red/blocked/inner"), { recursive: true });
    await writeFile(join(target.root, "uploads/red/blocked/inner/x"), "");
    await source.write("uploads/red/blocked", "four");
    await eventually(() => {
      const messages = target.status().problems.map(({ message }) => message);
      expect(messages.join("\n")).toMatch(
        /uploads\/red\/blocked.*the source has 4 bytes \(sha256 [0-9a-f]{12}\), this Pod has none/,
      );
    });
  });

  test("a burst of changes of the same keys ends with the last of each", async () => {
    await someObjects();
    await following();
    for (let round = 0; round < 20; round++)
      await Promise.all(
        [0, 1, 2, 3, 4].map(async (number) => {
          const key = `uploads/red/burst-${number}`;
          if ((round + number) % 5 === 4) await source.remove(key).catch(() => undefined);
          else await source.write(key, `${round} ${"x".repeat(round * 500)}`);
        }),
      );
    await eventually(equal);
    await verified();
  });

  test("who announces writes of objects that are lost has announced no deletion, and who announces deletions has", async () => {
    const keys = Array.from({ length: 40 }, (_, number) => `uploads/green/lost-${number}`);
    for (const key of keys) await source.write(key, key);
    await following();
    await eventually(equal);
    const announced = (key: string, change: "write" | "delete") =>
      withWriteIntent(
        { control: source.control, store: "objects", key, organizationId: "green", change },
        () => Promise.reject(new Error("its folder is not there")),
      ).catch(() => undefined);
    for (const key of keys) await rm(join(source.root, key));
    for (const key of keys) await announced(key, "write");
    await eventually(() => expect(source.status().problems.map(({ code }) => code)).toContain("ROOT_LOSSES"));
    await eventually(async () => expect(await source.fence.takeDirty("objects")).toEqual([]));
    const kept = async () =>
      Object.keys(await target.contents()).filter((key) => key.includes("lost-")).length;
    // As many as are plausible went.
    expect(await kept()).toBeGreaterThanOrEqual(30);
    for (const key of keys) await announced(key, "delete");
    await eventually(async () => expect(await kept()).toBe(0));
    await eventually(() => expect(source.status().problems).toEqual([]));
  });

  test("a source is not answered for before its inventory is complete, and the target waits", async () => {
    await someObjects();
    const seeded = target.reach("seed");
    await eventually(() => expect(target.status().problems[0]?.code).toBe("PEER_UNREACHABLE"));
    expect(target.status().lag).toEqual({ amount: null, unit: "objects" });
    expect(await target.contents()).toEqual({});
    await source.reach("prepare");
    await seeded;
    await equal();
  });

  test("a partial copy is resumed by range after a restart", async () => {
    const big = randomBytes(4_000_000);
    await source.writeUnannounced("uploads/red/big", big);
    await source.reach("prepare");
    const settings = { rateLimits: { objectBytesPerSecond: 1_500_000 } };
    const seeded = target.reach("seed", { settings, signal: AbortSignal.timeout(700) });
    await expect(seeded).rejects.toThrow();
    await target.kill();
    const [partial] = (await readdir(join(target.root, "uploads/red"))) as [string];
    const { size } = await stat(join(target.root, "uploads/red", partial));
    expect(size).toBeGreaterThan(0);
    expect(size).toBeLessThan(big.length);
    await target.start(source.peer());
    await target.reach("seed");
    expect(source.servedContent).toEqual(["uploads/red/big", `uploads/red/big bytes=${size}-`]);
    await equal();
    expect(await readdir(join(target.root, "uploads/red"))).toEqual(["big"]);
  });

  test("restarts of both copy nothing twice, and find what happened meanwhile", async () => {
    await someObjects();
    await following();
    await verified();
    await source.kill();
    await eventually(() => expect(target.status().lag).toEqual({ amount: null, unit: "objects" }));
    // The agent is away; the Pod serves on.
    await source.write("uploads/red/while away", "1");
    await source.remove("uploads/red/5/a file.txt");
    await source.start();
    source.servedContent = [];
    await source.reach("serve");
    await eventually(equal);
    expect(source.servedContent).toEqual(["uploads/red/while away"]);

    await target.kill();
    await source.write("uploads/red/while away", "2");
    await source.remove("lfs/7");
    await target.start(source.peer());
    source.servedContent = [];
    await target.reach("follow");
    await eventually(equal);
    expect(source.servedContent).toEqual(["uploads/red/while away"]);
    expect(target.status().lag).toEqual({ amount: 0, unit: "objects" });
  });

  test("damage and loss of copies are found and repaired, and strangers are named", async () => {
    await target.kill();
    await target.start(source.peer(), { verifyPauseSeconds: 0.05 });
    await someObjects();
    await following();
    await verified();
    const path = join(target.root, "uploads/red/3/a file.txt");
    const { mtime } = await stat(path);
    await writeFile(path, "rad 3");
    await utimes(path, mtime, mtime);
    await rm(join(target.root, "lfs/9"));
    await rm(join(target.root, "lfs/10"));
    await symlink("/etc/passwd", join(target.root, "lfs/10"));
    await eventually(equal);

    await target.writeUnannounced("uploads/red/stranger", "?");
    await eventually(() => {
      expect(target.status().verified).toBe(false);
      expect(target.status().problems[0]).toMatchObject({ code: "MISMATCH" });
      expect(target.status().problems[0]?.message).toContain("stranger");
    });
    await rm(join(target.root, "uploads/red/stranger"));
    await verified();
  });

  test("a writer outside of the protocol is named, and its change is copied", async () => {
    await source.kill();
    await source.start({}, { sweepSeconds: 0.1 });
    await someObjects();
    await following();
    // Announced changes are no such thing, however often the sweep looks.
    for (let number = 0; number < 100; number++) await source.write(`uploads/red/announced-${number % 10}`);
    // Neither is one whose writer has not ended yet when the sweep sees it.
    const slow = {
      control: source.control,
      store: "objects",
      key: "uploads/red/slow",
      organizationId: "red",
    } as const;
    await withWriteIntent(slow, async () => {
      await source.writeUnannounced(slow.key, "1");
      for (let looked = 0; looked < 30; looked++) {
        await sleep(10);
        expect(source.status().problems).toEqual([]);
      }
    });
    await source.writeUnannounced("uploads/red/unannounced", "1");
    await eventually(
      () => expect(source.status().problems[0]).toMatchObject({ code: "MISMATCH" }),
      10_000,
      2,
    );
    expect(source.status().problems[0]?.message).toContain("uploads/red/unannounced");
    await eventually(equal);
    await eventually(() => expect(source.status().problems).toEqual([]));
  });
});
