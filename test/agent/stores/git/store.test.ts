/** What the Git store copies, checks before, serves to others and removes, on real repositories. */

import { renameSync } from "node:fs";
import { access, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { repositoryChecksum } from "../../../../agent/stores/git/backend/folder/checksum.ts";
import type { CheckStage } from "../../../../protocol/evidence.ts";
import { eventually } from "../../../support/eventually.ts";
import { git, mustGit } from "../../../support/git/pod.ts";
import { GitSplit } from "../../../support/git/split.ts";
import { removeLive } from "../../../support/remove-live.ts";

let split: GitSplit;
beforeEach(async () => {
  split = await GitSplit.create();
});
afterEach(() => split.remove());

const at = (path: string) => split.source.pod.path(path);
const copy = (path: string) => split.target.pod.path(path);
const there = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
const sameRefs = async (path: string) =>
  expect(await split.target.pod.refs(path)).toBe(await split.source.pod.refs(path));

async function someRepositories(): Promise<string> {
  const { pod } = split.source;
  const commit = await pod.repository("red/one.git");
  await pod.repository("@hashed/aa/bb/red-two.git");
  await pod.repository("blue/one.git");
  return commit;
}

describe("what is mirrored", () => {
  it("hidden refs, names that are no text, tags, notes, HEAD in all its forms, config, attributes, hooks", async () => {
    const { pod } = split.source;
    const commit = await pod.repository("red/one.git");
    const one = (...args: string[]) => mustGit(["-C", at("red/one.git"), ...args]);
    await one("config", "transfer.hideRefs", "refs/pipelines");
    await one("update-ref", "refs/pipelines/7", commit);
    await one("update-ref", "refs/keep-around/x", commit);
    await one("tag", "-am", "v1", "v1", commit);
    await one("notes", "add", "-m", "seen", commit);
    await mustGit(["-C", at("red/one.git"), "update-ref", "--stdin"], {
      input: Buffer.concat([
        Buffer.from("create refs/heads/caf"),
        Buffer.from([0xe9]),
        Buffer.from(` ${commit}\n`),
      ]),
    });
    await mkdir(join(at("red/one.git"), "info"), { recursive: true });
    await writeFile(join(at("red/one.git"), "info", "attributes"), "*.bin -diff\n");
    await writeFile(join(at("red/one.git"), "hooks", "update"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    await writeFile(join(at("red/one.git"), "hooks", "reference-transaction"), "#!/bin/sh\nexit 0\n", {
      mode: 0o755,
    });
    await mkdir(join(at("red/one.git"), "custom_hooks", "pre-receive.d"), { recursive: true });
    await writeFile(join(at("red/one.git"), "custom_hooks", "pre-receive.d", "a"), "#!/bin/sh\n", {
      mode: 0o755,
    });
    await symlink("update", join(at("red/one.git"), "hooks", "post-update"));
    await pod.repository("red/detached.git");
    await mustGit(["-C", at("red/detached.git"), "update-ref", "--no-deref", "HEAD", "refs/heads/main"]);
    await pod.repository("red/unborn.git");
    await mustGit(["-C", at("red/unborn.git"), "symbolic-ref", "HEAD", "refs/heads/nope"]);
    await mustGit(["init", "-q", "--bare", at("red/empty.git")]);

    await split.seeded();
    for (const path of ["red/one.git", "red/detached.git", "red/unborn.git", "red/empty.git"]) {
      expect(await repositoryChecksum(copy(path))).toEqual(await repositoryChecksum(at(path)));
      expect(await readFile(join(copy(path), "HEAD"), "utf8")).toBe(
        await readFile(join(at(path), "HEAD"), "utf8"),
      );
      expect(await readFile(join(copy(path), "config"))).toEqual(await readFile(join(at(path), "config")));
    }
    const here = (path: string) => readFile(join(copy("red/one.git"), path), "utf8");
    expect(await here("info/attributes")).toBe("*.bin -diff\n");
    expect(await here("custom_hooks/pre-receive.d/a")).toBe("#!/bin/sh\n");
    expect(await here("hooks/post-update")).toContain("exit 0");
    expect(await here("hooks/reference-transaction.before-cleave")).toContain("exit 0");
    expect(await here("hooks/reference-transaction")).toContain("Cleave");
    const [source, target] = await split.matched(1);
    expect(source).toMatch(/^4\//);
    expect(target).toBe(source);
  });

  it("while following: deletions, new repositories, HEAD, config, hooks, and a branch that became a folder", async () => {
    const commit = await someRepositories();
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/a", commit]);
    await split.seeded();
    await mustGit(["-C", at("red/one.git"), "update-ref", "-d", "refs/heads/a"]);
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/a/b", commit]);
    await mustGit(["-C", at("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/a/b"]);
    await mustGit(["-C", at("red/one.git"), "config", "cleave.test", "yes"]);
    await writeFile(join(at("red/one.git"), "hooks", "post-receive"), "#!/bin/sh\n", { mode: 0o755 });
    await removeLive(at("@hashed/aa/bb/red-two.git"));
    await split.source.pod.repository("red/new/deep.git");
    await eventually(async () => {
      await sameRefs("red/one.git");
      await sameRefs("red/new/deep.git");
      expect(await readFile(join(copy("red/one.git"), "HEAD"), "utf8")).toBe("ref: refs/heads/a/b\n");
      expect(await readFile(join(copy("red/one.git"), "config"), "utf8")).toContain("[cleave]");
      expect(await there(join(copy("red/one.git"), "hooks", "post-receive"))).toBe(true);
      expect(await there(copy("@hashed/aa/bb/red-two.git"))).toBe(false);
    }, 20_000);
    const [source, target] = await split.matched(1);
    expect(source).toMatch(/^2\//);
    expect(target).toBe(source);
  });

  it("a repository made in the moment before the fence is found, hooked and copied", async () => {
    await someRepositories();
    await split.seeded();
    await split.source.pod.repository("../made-elsewhere.git");
    renameSync(at("../made-elsewhere.git"), at("red/last.git"));
    const fenced = split
      .reach(split.source, "fence", "fenced", 1)
      .then(() => split.status(split.source).evidence);
    const matched = split.reach(split.target, "match", "fenced", 1);
    expect((await fenced)?.digest).toMatch(/^3\//);
    await matched;
    await sameRefs("red/last.git");
    expect(split.status(split.target).evidence?.digest).toBe((await fenced)?.digest);
    const refused = await git(["-C", at("red/last.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
    expect(refused.stderr).toContain("read-only for a moment");
  });

  it("borrowed objects come along", async () => {
    const commit = await split.source.pod.repository("red/origin.git");
    await mustGit(["clone", "-q", "--bare", "--shared", at("red/origin.git"), at("red/fork.git")]);
    await split.seeded();
    expect(await there(join(copy("red/fork.git"), "objects", "info", "alternates"))).toBe(false);
    await removeLive(copy("red/origin.git"));
    expect(await mustGit(["-C", copy("red/fork.git"), "cat-file", "-t", commit])).toBe("commit");
    await mustGit(["-C", copy("red/fork.git"), "fsck", "--full"]);
  });

  it("SHA-256 and shallow repositories, symbolic references among the refs, and what bypassed the hook", async () => {
    const first = await split.source.pod.repository("red/full.git");
    const next = await split.source.pod.commit("red/full.git", "two", first);
    await mustGit(["-C", at("red/full.git"), "update-ref", "refs/heads/main", next]);
    await mustGit(["-C", at("red/full.git"), "symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/main"]);
    await mustGit([
      "clone",
      "-q",
      "--bare",
      "--depth=1",
      `file://${at("red/full.git")}`,
      at("red/shallow.git"),
    ]);
    await mustGit(["init", "-q", "--bare", "--object-format=sha256", "-b", "main", at("red/long.git")]);
    const tree = await mustGit(["-C", at("red/long.git"), "mktree"]);
    const commit = await mustGit(["-C", at("red/long.git"), "commit-tree", "-m", "long", tree]);
    await mustGit(["-C", at("red/long.git"), "update-ref", "refs/heads/main", commit]);
    await split.seeded();
    for (const path of ["red/full.git", "red/shallow.git", "red/long.git"]) {
      expect(await repositoryChecksum(copy(path))).toEqual(await repositoryChecksum(at(path)));
      expect((await git(["-C", copy(path), "fsck", "--full"])).code).toBe(0);
    }
    await mustGit(["-C", at("red/full.git"), "branch", "-c", "main", "unseen"]);
    await eventually(() => sameRefs("red/full.git"));
    expect(await split.target.pod.refs("red/full.git")).toContain("refs/heads/unseen");
  });

  it("a hostile configuration does not lead the copy astray", async () => {
    await split.source.pod.repository("red/one.git");
    const set = (key: string, value: string) => mustGit(["-C", at("red/one.git"), "config", key, value]);
    await set("url.http://127.0.0.1:1/.insteadOf", "http://127.0.0.1");
    await set("http.proxy", "http://127.0.0.1:1");
    await set("transfer.fsckObjects", "true");
    await split.seeded();
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
    await eventually(() => sameRefs("red/one.git"));
  });
});

describe("an aborted migration", () => {
  it("leaves the source as it was and the target empty", async () => {
    await split.source.pod.repository("red/one.git");
    const hooks = join(at("red/one.git"), "hooks");
    await writeFile(join(hooks, "reference-transaction"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    const before = await readdir(hooks);
    await split.seeded();
    await split.reach(split.source, "release", "source");
    await split.reach(split.target, "release", "source");
    expect(await readdir(hooks)).toEqual(before);
    expect(await readFile(join(hooks, "reference-transaction"), "utf8")).toBe("#!/bin/sh\nexit 0\n");
    expect(await readdir(split.target.pod.root)).toEqual([]);
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);
    expect(split.source.store.status(split.duty(split.source, "release", "source").migrationId)).toBeNull();
  });

  it("never touches what the target had before", async () => {
    await someRepositories();
    await split.reach(split.source, "prepare", "source");
    await split.target.pod.repository("old.git");
    await expect(split.reach(split.target, "seed", "source")).rejects.toMatchObject({
      code: "GIT_NOT_EMPTY",
    });
    await split.reach(split.target, "release", "source");
    expect(await there(copy("old.git"))).toBe(true);
  });
});

describe("checks before", () => {
  const codes = async (side: "source" | "target", stage: CheckStage = "start") => {
    const duty = split.duty(split[side], side === "source" ? "prepare" : "seed", "source");
    const findings = await split[side].store.preflight(duty, stage, AbortSignal.timeout(10_000));
    return findings
      .filter(({ severity }) => severity !== "info")
      .map((finding) => finding.code)
      .sort();
  };

  it("find nothing in good order, and say what is not", async () => {
    await someRepositories();
    expect(await codes("source")).toEqual([]);
    expect(await codes("target")).toEqual([]);
    await split.source.pod.repository("nobody.git");
    await mustGit(["-C", at("red/one.git"), "config", "core.hooksPath", "/elsewhere"]);
    await writeFile(join(at("blue/one.git"), "refs", "heads", "broken"), "");
    await symlink("/tmp", join(split.source.pod.root, "link"));
    expect(await codes("source")).toEqual([
      "OWNER_UNKNOWN",
      "REPOSITORY_HOOK_DISABLED",
      "REPOSITORY_UNREADABLE",
      "REPOSITORY_UNREADABLE",
    ]);
    await split.target.pod.repository("old.git");
    await split.source.server.close();
    expect(await codes("target")).toEqual(["GIT_NOT_EMPTY", "PEER_UNREACHABLE"]);
  });

  it("before the fence, every hook is in force", async () => {
    await split.remove();
    split = await GitSplit.create({ sweepSeconds: 3_600 });
    await someRepositories();
    expect(await codes("source", "fence")).toEqual(["COMMAND_NOT_POSSIBLE"]);
    await split.seeded();
    expect(await codes("source", "fence")).toEqual([]);
    await rm(join(at("red/one.git"), "hooks", "reference-transaction"));
    expect(await codes("source", "fence")).toEqual(["REPOSITORY_HOOK_DISABLED"]);
  });
});

describe("the peer endpoint", () => {
  it("serves no one without the token, and nothing outside of the inventory", async () => {
    await someRepositories();
    await split.seeded();
    const { url } = split.source;
    const get = (path: string, authorization = "Bearer a token of enough characters") =>
      fetch(`${url}${path}`, { headers: { authorization } }).then((answer) => answer.status);
    expect(await get("/git/repositories/red%2Fone.git/files")).toBe(200);
    expect(await get("/git/repositories/red%2Fone.git/files", "Bearer wrong")).toBe(401);
    await mustGit(["init", "-q", "--bare", join(split.source.pod.folder, "outside.git")]);
    for (const path of [
      "..%2Foutside.git/files",
      "red%2F..%2F..%2Foutside.git/files",
      "%2Fetc%2Fpasswd.git/files",
      "red%2Fnone.git/info/refs?service=git-upload-pack",
      "red%2Fone.git/info/refs?service=git-receive-pack",
      "red%2Fone.git/config",
    ])
      expect([path, await get(`/git/repositories/${path}`)]).toEqual([path, 404]);
    expect(await get("/git/repositories/%ZZ/files")).toBe(400);
    expect(await get("/git/changes?migration=../x")).toBe(400);
  });
});
