/** A target's disk that is full, then read-only, while repositories follow: named as what it is, and all goes on after it. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { independentlyOf } from "../../../../support/git/independent.ts";
import { mustGit } from "../../../../support/git/pod.ts";
import { GitSplit } from "../../../../support/git/split.ts";

const run = promisify(execFile);
const OLD = "red/old.git";
const NEW = "red/new.git";
const SECONDS = 30_000;

let pods: GitSplit;
let mounted = false;
beforeEach(async () => {
  pods = await GitSplit.create();
  // Only whoever may mount has such a disk; elsewhere the test is left out.
  const mounting = run("mount", ["-t", "tmpfs", "-o", "size=500k", "none", pods.target.pod.root]);
  mounted = await mounting.then(
    () => true,
    () => false,
  );
});
afterEach(async () => {
  await Promise.all([pods.stop(pods.target), pods.stop(pods.source)]);
  if (mounted) await run("umount", ["-l", pods.target.pod.root]);
  await pods.remove();
});

const remount = (option: string) => run("mount", ["-o", `remount,${option}`, pods.target.pod.root]);

async function grow(path: string, bytes: number): Promise<void> {
  const { pod } = pods.source;
  const options = { input: randomBytes(bytes) };
  const blob = await mustGit(["-C", pod.path(path), "hash-object", "-w", "--stdin"], options);
  await mustGit(["-C", pod.path(path), "update-ref", `refs/tags/of-${bytes}`, blob]);
}

/** Each of both repositories says it of itself, and no other code is said. */
const both = (code: string) =>
  eventually(() => {
    const { problems } = pods.status(pods.target);
    for (const path of [OLD, NEW])
      expect(problems).toContainEqual({ code, message: expect.stringContaining(path) });
    expect(new Set(problems.map((problem) => problem.code))).toEqual(new Set([code]));
  }, SECONDS);

const level = () =>
  eventually(async () => {
    expect(pods.status(pods.target).problems).toEqual([]);
    for (const path of [OLD, NEW])
      expect(await independentlyOf(pods.target.pod.path(path))).toEqual(
        await independentlyOf(pods.source.pod.path(path)),
      );
  }, SECONDS);

it("is named for what it is, of copies that are there and of new ones, and nothing is left of it", async (test) => {
  if (!mounted) return test.skip();
  const { pod } = pods.source;
  await pod.repository(OLD);
  await pods.seeded();
  await grow(OLD, 600_000);
  await pod.repository(NEW);
  await grow(NEW, 610_000);
  await both("DISK_FULL");
  await remount("size=20m");
  await level();
  await remount("ro");
  await grow(OLD, 1_000);
  await grow(NEW, 1_010);
  await both("FILE_PERMISSION");
  await remount("rw");
  await level();
}, 120_000);
