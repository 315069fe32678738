/**
 * What may become of the volume that a target copies to: it is new, read-only, or full. Nothing is deleted for it, the reason
 * is said with its code, and all goes on by itself when the cause is gone.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { codesOf, type FilePods, filePods, KINDS, says } from "../../../../support/stores/file-pods.ts";
import { mayMount } from "../../../../support/stores/root-states.ts";

const run = promisify(execFile);
const VOLUME_BYTES = 8_000_000;
const scratch = await mkdtemp(join(tmpdir(), "cleave-mounts-"));
const mountable = await mayMount(scratch);
afterAll(() => rm(scratch, { recursive: true }));

describe.each(KINDS)("%s: a target's volume", { skip: !mountable }, (kind) => {
  let pods: FilePods;
  let volume: string;
  beforeAll(async () => {
    pods = await filePods(kind, 2);
    volume = pods.root.target;
    await run("mount", ["-t", "tmpfs", "-o", `size=${VOLUME_BYTES}`, "none", volume]);
    await mkdir(join(volume, "lost+found"));
  }, 60_000);
  afterAll(async () => {
    await run("umount", ["--lazy", volume]);
    await pods.remove();
  });

  /** The source has one more, which cannot be copied for a reason that is said; then it can. */
  async function holdsUp(
    name: string,
    code: string,
    enter: () => Promise<unknown>,
    leave: () => Promise<unknown>,
  ) {
    const before = await pods.items("target");
    await enter();
    try {
      await pods.write("source", name);
      await says(pods, "target", code);
      expect(await pods.items("target")).toEqual(before);
    } finally {
      await leave();
    }
    await eventually(async () => expect(await pods.items("target")).toHaveLength(before.length + 1), 20_000);
    await eventually(() => expect(codesOf(pods.status("target").problems)).toEqual([]), 20_000);
    expect(await pods.items("source")).toEqual(await pods.items("target"));
  }

  it("that is new is empty, whatever its file system has put there", async () => {
    const found = await pods.preflight("target", "start");
    expect(codesOf(found)).not.toContain(kind === "git" ? "GIT_NOT_EMPTY" : "OBJECTS_NOT_EMPTY");
    await pods.reach("source", "prepare", "source");
    await pods.reach("target", "seed", "source");
    await pods.reach("source", "serve", "source");
    await pods.reach("target", "follow", "source");
    expect(await pods.items("target")).toHaveLength(2);
    expect(await readdir(volume)).toContain("lost+found");
  }, 60_000);

  it("that becomes read-only is said to be, and waited for", async () => {
    const remount = (mode: string) => run("mount", ["-o", `remount,${mode}`, volume]);
    await holdsUp(
      "while read-only",
      "FILE_PERMISSION",
      () => remount("ro"),
      () => remount("rw"),
    );
  }, 60_000);

  it("that is full is said to be, and waited for", async () => {
    const ballast = join(volume, "lost+found", "ballast");
    const fill = async () => {
      await writeFile(ballast, Buffer.alloc(VOLUME_BYTES)).catch(() => undefined);
    };
    await holdsUp("while full", "DISK_FULL", fill, () => rm(ballast));
  }, 60_000);

  it("has evidence after all of that", async () => {
    await Promise.all([pods.reach("source", "fence", "fenced"), pods.reach("target", "match", "fenced")]);
    const { evidence } = pods.status("target");
    expect(evidence?.digest).toBe(pods.status("source").evidence?.digest);
  }, 60_000);
});
