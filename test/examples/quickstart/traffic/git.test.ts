import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeCommit } from "../../../../examples/quickstart/traffic/git-objects.ts";
import { parseAdvertisement } from "../../../../examples/quickstart/traffic/git-refs.ts";

let folder: string;
const git = (...args: string[]) => execFileSync("git", args, { cwd: folder });
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cleave-git-client-"));
  git("init", "--quiet", "--bare", ".");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

test("the commits that traffic makes are what git itself would make", () => {
  const first = writeCommit(folder, {
    parent: null,
    content: "one\n",
    message: "First",
    seconds: 1_700_000_000,
  });
  const second = writeCommit(folder, {
    parent: first,
    content: "two\n",
    message: "Second",
    seconds: 1_700_000_001,
  });
  git("update-ref", "refs/heads/main", second);
  git("fsck", "--strict", "--no-dangling");
  expect(git("log", "--format=%H %s", "main").toString()).toBe(`${second} Second\n${first} First\n`);
  expect(git("show", `${second}:traffic.txt`).toString()).toBe("two\n");
});

test("refs are read from git's own advertisement, peeled tags and capabilities left out", () => {
  const commit = writeCommit(folder, { parent: null, content: "x", message: "x", seconds: 1 });
  git("update-ref", "refs/heads/traffic/a", commit);
  git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "t", "v1", commit);
  const tag = git("rev-parse", "refs/tags/v1").toString().trim();
  const body = git("upload-pack", "--http-backend-info-refs", ".");
  const refs = parseAdvertisement(body);
  expect(refs?.get("refs/heads/traffic/a")).toBe(commit);
  expect(refs?.get("refs/tags/v1")).toBe(tag);
  expect([...(refs?.keys() ?? [])].filter((name) => name.includes("^") || name.includes("cap"))).toEqual([]);
});

test("an empty repository has no refs, and what is no advertisement is none", () => {
  expect(parseAdvertisement(git("upload-pack", "--http-backend-info-refs", "."))?.size).toBe(0);
  expect(parseAdvertisement(Buffer.from("<html>"))).toBeNull();
});
