/** One organization's repositories come to a Pod that has others' already. */
import { access, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { git, mustGit } from "../../../../support/git/pod.ts";
import { GitSplit } from "../../../../support/git/split.ts";

let split: GitSplit;
beforeEach(async () => {
  split = await GitSplit.create();
  split.kind = "move";
});
afterEach(() => split.remove());

const at = (path: string) => split.source.pod.path(path);
const copy = (path: string) => split.target.pod.path(path);
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

it("copies what the organization owns, and touches nothing that was there", async () => {
  const first = await split.source.pod.repository("red/one.git");
  await split.source.pod.repository("blue/one.git");
  const resident = await split.target.pod.repository("green/one.git");
  await split.seeded();
  expect(await split.target.pod.refs("red/one.git")).toBe(await split.source.pod.refs("red/one.git"));
  expect(await exists(copy("blue/one.git"))).toBe(false);

  // Of others' changes nothing arrives; a repository that comes later does.
  await mustGit(["-C", at("blue/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
  await split.source.pod.repository("red/new/later.git");
  await eventually(async () => expect(await exists(copy("red/new/later.git"))).toBe(true));
  const [source, target] = await split.matched(1);
  expect(target).toBe(source);
  expect(source).toMatch(/^2\//);
  await split.reach(split.target, "activate", "transferred", 1);
  await split.reach(split.target, "open", "opened", 1);
  await mustGit(["-C", copy("red/one.git"), "update-ref", "refs/heads/x", first]);
  expect(await exists(copy("blue/one.git"))).toBe(false);
  expect(await mustGit(["-C", copy("green/one.git"), "rev-parse", "main"])).toBe(resident);
});

it("a fork that borrows from a pool arrives with objects of its own", async () => {
  const first = await split.source.pod.repository("blue/pool.git");
  await mustGit(["clone", "-q", "--bare", "--shared", at("blue/pool.git"), at("red/fork.git")]);
  expect(await readFile(join(at("red/fork.git"), "objects/info/alternates"), "utf8")).toContain("pool.git");
  await split.seeded();
  expect(await exists(join(copy("red/fork.git"), "objects/info/alternates"))).toBe(false);
  const { code, stdout } = await git(["-C", copy("red/fork.git"), "cat-file", "-t", first]);
  expect({ code, type: stdout.trim() }).toEqual({ code: 0, type: "commit" });
  await mustGit(["-C", copy("red/fork.git"), "fsck", "--connectivity-only"]);
  const [source, target] = await split.matched(1);
  expect(target).toBe(source);
});

it("a repository that is at the same place already is never replaced", async () => {
  await split.source.pod.repository("red/one.git");
  const resident = await split.target.pod.repository("red/one.git");
  await split.reach(split.source, "prepare", "source");
  const seeding = split.reach(split.target, "seed", "source", null, 3_000).catch((error: unknown) => error);
  await eventually(() => {
    const codes = split.status(split.target).problems.map(({ code }) => code);
    expect(codes).toContain("GIT_NOT_EMPTY");
  });
  expect(split.status(split.target).reached).toBe(false);
  await seeding;
  expect(await mustGit(["-C", copy("red/one.git"), "rev-parse", "main"])).toBe(resident);
});

it("is removed after an abort, and nothing else is", async () => {
  await split.source.pod.repository("red/one.git");
  await split.source.pod.repository("@hashed/aa/bb/red-two.git");
  const resident = await split.target.pod.repository("@hashed/aa/bb/green-one.git");
  await writeFile(join(split.target.pod.root, "notes.txt"), "somebody's");
  await split.seeded();
  await split.reach(split.target, "release", "source");
  expect(await exists(copy("red/one.git"))).toBe(false);
  expect(await exists(copy("red"))).toBe(false);
  expect(await exists(copy("@hashed/aa/bb/red-two.git"))).toBe(false);
  expect(await mustGit(["-C", copy("@hashed/aa/bb/green-one.git"), "rev-parse", "main"])).toBe(resident);
  expect(await exists(join(split.target.pod.root, "notes.txt"))).toBe(true);
});
