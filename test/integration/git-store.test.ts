/** The Git store of a source and a target, from the first copy to serving on the target, on real repositories. */
import { access, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { repositoryChecksum } from "../../agent/stores/git/checksum.ts";
import { eventually } from "../support/eventually.ts";
import { git, mustGit, startGit } from "../support/git-pod.ts";
import { GitSplit, type Side } from "../support/git-split.ts";

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

describe("a split", () => {
  it("copies, follows, fences, matches, and serves on the target alone", async () => {
    const first = await someRepositories();
    await split.seeded();
    expect(split.status(split.target)).toMatchObject({
      reached: true,
      lag: { amount: 0 },
      verified: true,
      problems: [],
    });
    for (const path of ["red/one.git", "@hashed/aa/bb/red-two.git", "blue/one.git"]) await sameRefs(path);

    const second = await split.source.pod.commit("red/one.git", "second", first);
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/main", second]);
    await eventually(() => sameRefs("red/one.git"));

    const [source, target] = await split.matched(1);
    expect(source).toMatch(/^2\/[0-9a-f]{64}$/);
    expect(target).toBe(source);
    for (const side of [split.source, split.target]) {
      const refused = await git(["-C", side.pod.path("red/one.git"), "update-ref", "refs/heads/x", first]);
      expect(refused.code).not.toBe(0);
    }
    // Neighbours see nothing of it.
    await mustGit(["-C", at("blue/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]);

    await Promise.all([
      split.reach(split.source, "yield", "transferred", 1),
      split.reach(split.target, "activate", "transferred", 1),
    ]);
    const early = await git(["-C", copy("red/one.git"), "update-ref", "refs/heads/x", first]);
    expect(early.stderr).toContain("while this Pod opens it");
    await Promise.all([
      split.reach(split.source, "yield", "opened", 1),
      split.reach(split.target, "open", "opened", 1),
    ]);
    await mustGit(["-C", copy("red/one.git"), "update-ref", "refs/heads/x", first]);
    const late = await git(["-C", at("red/one.git"), "update-ref", "refs/heads/x", first]);
    expect(late.stderr).toContain("pod-100 is authoritative for this repository");
    const neighbour = await git([
      "-C",
      copy("blue/one.git"),
      "update-ref",
      "refs/heads/y",
      "refs/heads/main",
    ]);
    expect(neighbour.stderr).toContain("pod-0 is authoritative for this repository");
  });

  it("equals under pushes from all sides, and no acknowledged one is missing", async () => {
    const first = await someRepositories();
    await split.seeded();
    const acknowledged: string[] = [];
    let going = true;
    const writer = async (name: string) => {
      for (let n = 0; going; n++) {
        const ref = `refs/heads/${name}-${n}`;
        const ended = await git(["-C", at("red/one.git"), "update-ref", ref, first]);
        if (ended.code === 0) acknowledged.push(ref);
      }
    };
    const writers = ["a", "b", "c"].map(writer);
    await eventually(() => expect(acknowledged.length).toBeGreaterThan(20));
    const [source, target] = await split.matched(1);
    going = false;
    await Promise.all(writers);
    expect(target).toBe(source);
    expect(target).toBeDefined();
    const refs = await split.target.pod.refs("red/one.git");
    for (const ref of acknowledged) expect(refs).toContain(`${ref}\n`);
    expect(refs.match(/refs\/heads\/[abc]-/g)).toHaveLength(acknowledged.length);
  });

  it("evidence is final in the moment it is given, on both sides, whatever came just before the fence", async () => {
    const paths = Array.from({ length: 10 }, (_, n) => `red/r${n}.git`);
    for (const path of paths) await split.source.pod.repository(path);
    await split.seeded();
    await Promise.all(
      paths.map((path) => mustGit(["-C", at(path), "update-ref", "refs/heads/x", "refs/heads/main"])),
    );
    const digestOf = (side: Side) => split.status(side).evidence?.digest;
    const [source, target] = await Promise.all([
      split.reach(split.source, "fence", "fenced", 1).then(() => digestOf(split.source)),
      split.reach(split.target, "match", "fenced", 1).then(() => digestOf(split.target)),
    ]);
    expect(source).toBeDefined();
    expect(target).toBe(source);
    for (const path of paths) expect(await split.target.pod.refs(path)).toContain("refs/heads/x\n");
    // A sweep of both sides later it still says the same.
    await sleep(2_500);
    expect([digestOf(split.source), digestOf(split.target)]).toEqual([source, source]);
  });

  /** A writer that passed the fence and stands still in its transaction. */
  const stuckWriter = async (path: string, seconds: number) => {
    const script = `#!/bin/sh\n[ "$1" != prepared ] || [ ! -e slow ] || { : >reached; exec sleep ${seconds}; }\n`;
    await writeFile(join(at(path), "hooks", "reference-transaction"), script, { mode: 0o755 });
    return async () => {
      await writeFile(join(at(path), "slow"), "");
      const { ended } = startGit(["-C", at(path), "update-ref", "refs/heads/late", "refs/heads/main"]);
      await eventually(async () => expect(await there(join(at(path), "reached"))).toBe(true));
      return ended;
    };
  };

  it("waits for a writer in its transaction, and nobody has matched before", async () => {
    split.settings = { ...split.settings, cutover: { ...split.settings.cutover, drainGraceMs: 10_000 } };
    await someRepositories();
    const start = await stuckWriter("red/one.git", 1);
    await split.seeded();
    const ended = start();
    await eventually(async () => expect(await there(join(at("red/one.git"), "reached"))).toBe(true));
    const [source, target] = await split.matched(1);
    expect(target).toBe(source);
    expect(target).toBeDefined();
    expect((await ended).code).toBe(0);
    expect(await split.target.pod.refs("red/one.git")).toContain("refs/heads/late\n");
    expect(split.status(split.source).stragglers).toEqual([]);
  });

  it("ends a writer that takes too long, and names it", async () => {
    await someRepositories();
    const start = await stuckWriter("red/one.git", 5);
    await split.seeded();
    const ended = start();
    await eventually(async () => expect(await there(join(at("red/one.git"), "reached"))).toBe(true));
    const [source, target] = await split.matched(1);
    expect(target).toBe(source);
    expect(target).toBeDefined();
    expect(split.status(split.source).stragglers).toMatchObject([expect.stringContaining("in red/one.git")]);
    expect(await split.target.pod.refs("red/one.git")).not.toContain("refs/heads/late");
    expect((await ended).code).not.toBe(0);
  });

  it("the fence takes milliseconds when nothing is in flight, and lowering it lets everything work again", async () => {
    const first = await someRepositories();
    await split.seeded();
    await split.reach(split.source, "fence", "fenced", 1);
    await split.reach(split.source, "serve", "source");
    const startedAt = performance.now();
    await split.reach(split.source, "fence", "fenced", 2);
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeLessThan(250);
    const moved = await git(["-C", at("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/other"]);
    expect(moved.stderr).toContain("HEAD.lock");
    const other = await git(["-C", at("blue/one.git"), "symbolic-ref", "HEAD", "refs/heads/other"]);
    expect(other.code).toBe(0);
    await split.reach(split.source, "serve", "source");
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/x", first]);
    await mustGit(["-C", at("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/x"]);
    expect(await there(join(at("red/one.git"), "HEAD.lock"))).toBe(false);
    const [source, target] = await split.matched(3);
    expect(target).toBe(source);
  });
});

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
    await rm(at("@hashed/aa/bb/red-two.git"), { recursive: true });
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
    await split.source.pod.repository("red/last.git");
    const [source, target] = await split.matched(1);
    expect(source).toMatch(/^3\//);
    expect(target).toBe(source);
    await sameRefs("red/last.git");
  });

  it("borrowed objects come along", async () => {
    const commit = await split.source.pod.repository("red/origin.git");
    await mustGit(["clone", "-q", "--bare", "--shared", at("red/origin.git"), at("red/fork.git")]);
    await split.seeded();
    expect(await there(join(copy("red/fork.git"), "objects", "info", "alternates"))).toBe(false);
    await rm(copy("red/origin.git"), { recursive: true });
    expect(await mustGit(["-C", copy("red/fork.git"), "cat-file", "-t", commit])).toBe("commit");
    await mustGit(["-C", copy("red/fork.git"), "fsck", "--full"]);
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

describe("unreadable is never equal", () => {
  const corrupt = (path: string) =>
    writeFile(join(at(path), "refs", "heads", "broken"), `${"1".repeat(40)}\n`);

  it("a corrupt repository: no evidence, a problem that names it, and the source serves on", async () => {
    const first = await someRepositories();
    await split.seeded();
    await corrupt("red/one.git");
    await eventually(() =>
      expect(split.status(split.source).problems).toMatchObject([{ code: "REPOSITORY_UNREADABLE" }]),
    );
    await expect(split.reach(split.source, "fence", "fenced", 1)).rejects.toMatchObject({
      code: "REPOSITORY_UNREADABLE",
      message: expect.stringContaining("red/one.git"),
    });
    expect(split.status(split.source).evidence).toBeNull();
    await expect(split.reach(split.target, "match", "fenced", 1, 500)).rejects.toBeDefined();
    expect(split.status(split.target).evidence).toBeNull();
    await split.reach(split.source, "serve", "source");
    await rm(join(at("red/one.git"), "refs", "heads", "broken"));
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/x", first]);
    await split.reach(split.target, "follow", "source");
    const [source, target] = await split.matched(2);
    expect(target).toBe(source);
    expect(target).toBeDefined();
  });

  it("two that are unreadable in the same way are not equal either", async () => {
    await someRepositories();
    await split.seeded();
    for (const folder of [at("red/one.git"), copy("red/one.git")])
      await writeFile(join(folder, "refs", "heads", "broken"), `${"1".repeat(40)}\n`);
    await eventually(() => expect(split.status(split.source).problems).toHaveLength(1));
    await expect(split.reach(split.source, "fence", "fenced", 1)).rejects.toMatchObject({
      code: "REPOSITORY_UNREADABLE",
    });
    await expect(split.reach(split.target, "match", "fenced", 1, 500)).rejects.toBeDefined();
    expect(split.status(split.source).evidence).toBeNull();
    expect(split.status(split.target).evidence).toBeNull();
  });
});

describe("restarts", () => {
  it("of the target in the middle of the first copy: goes on with what it has", async () => {
    for (let n = 0; n < 12; n++) await split.source.pod.repository(`red/r${n}.git`);
    split.settings = { ...split.settings, rateLimits: { ...split.settings.rateLimits, gitConcurrency: 1 } };
    await split.reach(split.source, "prepare", "source");
    const abort = new AbortController();
    const seeding = split.target.store.reach(split.duty(split.target, "seed", "source"), abort.signal);
    seeding.catch(() => undefined);
    await eventually(async () =>
      expect((await readdir(join(split.target.pod.root, "red")).catch(() => [])).length).toBeGreaterThan(2),
    );
    abort.abort(new Error("killed"));
    await expect(seeding).rejects.toThrow("killed");
    await split.stop(split.target);
    const before = (await readdir(join(split.target.pod.root, "red"))).length;
    expect(before).toBeLessThan(12);
    await mkdir(join(split.target.pod.root, "+cleave", "half.git"), { recursive: true });
    await split.start(split.target);
    await split.reach(split.target, "seed", "source");
    expect(await readdir(join(split.target.pod.root, "red"))).toHaveLength(12);
    expect(await readdir(join(split.target.pod.root, "+cleave")).catch(() => [])).toEqual([]);
    const [source, target] = await split.matched(1);
    expect(target).toBe(source);
  });

  it("of both while fenced: the fence holds, and its end is found again", async () => {
    const first = await someRepositories();
    await split.seeded();
    const before = await split.matched(1);
    const port = Number(new URL(split.source.url).port);
    await split.stop(split.target);
    await split.stop(split.source);
    const refused = await git(["-C", at("red/one.git"), "update-ref", "refs/heads/x", first]);
    expect(refused.code).not.toBe(0);
    await split.start(split.source, port);
    await split.start(split.target);
    expect(await split.matched(1)).toEqual(before);
    await split.reach(split.source, "serve", "source");
    expect(await there(join(at("red/one.git"), "HEAD.lock"))).toBe(false);
    await mustGit(["-C", at("red/one.git"), "update-ref", "refs/heads/main", first]);
  });

  it("a source that is away: lag unknown, a problem, and on it goes when it is back", async () => {
    await someRepositories();
    await split.seeded();
    const port = Number(new URL(split.source.url).port);
    await split.stop(split.source);
    await eventually(() => expect(split.status(split.target).lag?.amount).toBeNull());
    expect(split.status(split.target).problems).toMatchObject([{ code: "PEER_UNREACHABLE" }]);
    await split.start(split.source, port);
    await split.reach(split.source, "serve", "source");
    await eventually(() =>
      expect(split.status(split.target)).toMatchObject({ lag: { amount: 0 }, problems: [] }),
    );
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
  const codes = async (side: "source" | "target", stage: "start" | "fence" = "start") => {
    const duty = split.duty(split[side], side === "source" ? "prepare" : "seed", "source");
    const findings = await split[side].store.preflight(duty, stage, AbortSignal.timeout(10_000));
    return findings.map((finding) => finding.code).sort();
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
