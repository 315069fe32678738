/** What a disk does to objects that were copied is found before they count as evidence, whenever it happens. */
import { chmod, mkdtemp, open, readFile, rm, stat, truncate, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import {
  equal,
  following,
  source,
  target,
  useObjectPair,
  verified,
} from "../../../../support/objects/pair.ts";
import type { ObjectPod } from "../../../../support/objects/pods.ts";
import { ObjectReverseReplicationPods } from "../../../../support/objects/reverse.ts";

const KEY = "uploads/red/3/a file.txt";

/** What a disk, or somebody without a write intent, may do to one object or all; nothing tells by size or time of change. */
const DAMAGE: Record<string, (pod: ObjectPod, key: string) => Promise<void>> = {
  "a flipped bit, of the same length and time": (pod, key) =>
    keepingTimes(pod, key, (bytes) => {
      bytes[0] = (bytes[0] ?? 0) ^ 1;
    }),
  "zeros, of the same length and time": (pod, key) => keepingTimes(pod, key, (bytes) => bytes.fill(0)),
  "an empty file": (pod, key) => truncate(join(pod.root, key)),
  "a missing file": (pod, key) => rm(join(pod.root, key)),
};

async function keepingTimes(pod: ObjectPod, key: string, change: (bytes: Buffer) => void): Promise<void> {
  const path = join(pod.root, key);
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  change(bytes);
  // In place: the same inode.
  const file = await open(path, "r+");
  await file.write(bytes, 0, bytes.length, 0);
  await file.close();
  await utimes(path, atime, mtime);
}

async function fewObjects(): Promise<void> {
  for (let number = 0; number < 12; number++)
    await source.writeUnannounced(`uploads/red/${number}/a file.txt`, `red ${number}`);
}

describe("a target", () => {
  useObjectPair();

  test("is not verified before everything was read back, and says how far that is", async () => {
    await fewObjects();
    await following();
    await verified();
    expect(target.status().scrub).toMatchObject({ items: 12, unread: 0, passes: 1, damaged: 0, last: null });
    expect(target.status().scrub?.passAgeMs).toBeGreaterThanOrEqual(0);
  });

  test.each(Object.keys(DAMAGE))("between ready and the fence: %s is never evidence", async (kind) => {
    await fewObjects();
    await following();
    await verified();
    await DAMAGE[kind]?.(target, KEY);
    await Promise.all([source.reach("fence", { epoch: 1 }), target.reach("match", { epoch: 1 })]);
    expect(target.status().evidence?.digest).toBe(source.status().evidence?.digest);
    await equal();
    expect(target.status().scrub).toMatchObject({ damaged: 1 });
    expect(target.status().scrub?.last).toContain(KEY);
  });

  test("a change is read back before it counts, whatever happened to it since it was written", async () => {
    await fewObjects();
    await following();
    await verified();
    await source.reach("fence", { epoch: 1 });
    // As late as can be: the source has ended its writers, and the target has the last word of all before.
    const matched = target.reach("match", { epoch: 1 });
    await DAMAGE["a missing file"]?.(target, KEY);
    await matched;
    await eventually(async () => {
      await equal();
      expect(target.status().scrub?.last).toContain(KEY);
      expect(target.status().evidence?.digest).toBe(source.status().evidence?.digest);
    });
  });

  test("after the marker: evidence is taken back when the disk changes under it", async () => {
    await fewObjects();
    await following();
    await Promise.all([source.reach("fence", { epoch: 1 }), target.reach("match", { epoch: 1 })]);
    expect(target.status().evidence).not.toBeNull();
    await DAMAGE["a flipped bit, of the same length and time"]?.(target, KEY);
    await eventually(() => {
      target.status();
      expect(target.status().scrub?.last).toContain(KEY);
    });
    await eventually(equal);
  });

  test("an agent that was restarted in the fence has read nothing, and reads everything before it says a word", async () => {
    await fewObjects();
    await following();
    await verified();
    await source.reach("fence", { epoch: 1 });
    await target.kill();
    await DAMAGE["zeros, of the same length and time"]?.(target, KEY);
    await target.start(source.peer());
    await target.reach("match", { epoch: 1 });
    await equal();
  });
});

describe("a source", () => {
  useObjectPair();

  test("finds what was rewritten with the same length and time, and copies it; a change of mode is none", async () => {
    await source.kill();
    await source.start({}, { sweepSeconds: 0.1 });
    await fewObjects();
    // A time that can be set again to the nanosecond.
    await utimes(join(source.root, KEY), 1_000_000_000, 1_000_000_000);
    await following();
    await chmod(join(source.root, "uploads/red/4/a file.txt"), 0o600);
    await DAMAGE["a flipped bit, of the same length and time"]?.(source, KEY);
    await eventually(
      () => {
        const messages = source.status().problems.map(({ message }) => message);
        expect(messages).toEqual([expect.stringContaining(KEY)]);
      },
      10_000,
      2,
    );
    await eventually(equal);
    await eventually(() => expect(source.status().problems).toEqual([]));
  });
});

describe("dormant objects", () => {
  let pods: ObjectReverseReplicationPods;
  afterEach(async () => {
    await Promise.all([pods.source.kill(), pods.target.kill()]);
    await rm(folderOfPods, { recursive: true, force: true });
  });
  let folderOfPods: string;

  test.each(Object.keys(DAMAGE))("while they are kept: %s is found, said and mended", async (kind) => {
    folderOfPods = await mkdtemp(join(tmpdir(), "cleave-objects-"));
    pods = new ObjectReverseReplicationPods(folderOfPods);
    await pods.start();
    for (let number = 0; number < 12; number++)
      await pods.source.writeUnannounced(`uploads/red/${number}/a file.txt`, `red ${number}`);
    await pods.opened();
    await pods.level();
    await DAMAGE[kind]?.(pods.source, KEY);
    let said = "";
    await eventually(
      async () => {
        // By whoever was first: the scrub, or the look for writers outside of the protocol.
        const { problems } = pods.source.status();
        said += `${pods.flow?.scrub?.last} ${problems.map(({ message }) => message)}\n`;
        expect(said).toContain(KEY);
        expect(await pods.source.read(KEY)).toBe("red 3");
      },
      20_000,
      5,
    );
    await pods.level();
  });
});
