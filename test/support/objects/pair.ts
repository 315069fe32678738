/** A source and a target Pod per test, both started, with what most tests of the objects store do with them. */
import { randomBytes } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { eventually } from "../eventually.ts";
import { removeLive } from "../remove-live.ts";
import { ObjectPod, SOURCE, TARGET } from "./pods.ts";

export let folder: string;
export let source: ObjectPod;
export let target: ObjectPod;

/** Registers the hooks that make `source` and `target` before each test of the file and remove them after it. */
export function useObjectPair(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "cleave-objects-"));
    source = new ObjectPod(SOURCE, folder);
    target = new ObjectPod(TARGET, folder);
    await source.start();
    await target.start(source.peer());
  });

  afterEach(async () => {
    await Promise.all([source.kill(), target.kill()]);
    await removeLive(folder);
  });
}

export async function someObjects(): Promise<void> {
  for (let number = 0; number < 30; number++) {
    await source.writeUnannounced(`uploads/red/${number}/a file.txt`, `red ${number}`);
    await source.writeUnannounced(`uploads/green/${number}`, randomBytes(number * 1_000));
    await source.writeUnannounced(`lfs/${number}`, `lfs ${number}`);
  }
  await source.writeUnannounced("uploads/red/ünïcode %2f ? # & + ~/😀", "hostile, but a key");
  await source.writeUnannounced("uploads/red/empty", "");
}

export async function following(): Promise<void> {
  await source.reach("prepare");
  await target.reach("seed");
  await source.reach("serve");
  await target.reach("follow");
}

export const equal = async () => expect(await target.contents()).toEqual(await source.contents());
export const verified = () =>
  eventually(() => expect(target.status()).toMatchObject({ verified: true, problems: [] }));
