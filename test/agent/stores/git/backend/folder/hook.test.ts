/** The hook under real git: every command that changes refs asks the fence, and none passes it unseen. */
import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fencePaths } from "../../../../../../agent/stores/file-fence/layout.ts";
import { readPhase } from "../../../../../../agent/stores/file-fence/write-intent.ts";
import {
  type Hook,
  installHook,
  isHookInForce,
  removeHook,
} from "../../../../../../agent/stores/git/backend/folder/hook-install.ts";
import type { SharePhase } from "../../../../../../protocol/cluster.ts";
import { eventually } from "../../../../../support/eventually.ts";
import {
  type Ended,
  GitPod,
  git,
  migrationId,
  mustGit,
  pod0,
  pod100,
  pod101,
  startGit,
} from "../../../../../support/git/pod.ts";

const PATH = "@hashed/aa/bb/red.git";
let pod: GitPod;
let hook: Hook;
let commit: string;
let second: string;

beforeEach(async () => {
  pod = await GitPod.create();
  hook = await pod.staged(pod0, "source");
  commit = await pod.repository(PATH, "red", hook);
  second = await pod.commit(PATH, "second", commit);
});
afterEach(() => pod.remove());

const here = (...args: string[]) => ["-C", pod.path(PATH), ...args];
const names = (folder: string) => readdir(folder);
const dirtyKeys = async () => (await pod.fence.takeDirty("git")).map((entry) => entry.key);

async function push(refspec: string, options: string[] = []): Promise<Ended> {
  const clone = join(pod.folder, "clone");
  await mkdir(clone, { recursive: true });
  await git(["clone", "-q", pod.path(PATH), clone]);
  await mustGit(["-C", clone, "commit", "-q", "--allow-empty", "-m", "pushed"]);
  return git(["-C", clone, "push", ...options, "origin", refspec]);
}

/** Each changes refs; `prepare` runs before the fence. */
const commands: [name: string, run: () => Promise<Ended>, prepare?: () => Promise<unknown>][] = [
  ["push", () => push("HEAD:refs/heads/pushed")],
  ["push of the main branch", () => push("HEAD:refs/heads/main")],
  ["atomic push", () => push("HEAD:refs/heads/pushed", ["--atomic"])],
  [
    "push of a deletion",
    () => push(":refs/heads/old"),
    () => mustGit(here("update-ref", "refs/heads/old", commit)),
  ],
  ["update-ref", () => git(here("update-ref", "refs/heads/other", second))],
  ["update-ref of a hidden ref", () => git(here("update-ref", "refs/pipelines/7", second))],
  [
    "update-ref --stdin",
    () => git(here("update-ref", "--stdin"), { input: `create refs/heads/x ${commit}\n` }),
  ],
  ["update-ref HEAD, detached", () => git(here("update-ref", "--no-deref", "HEAD", second))],
  ["branch", () => git(here("branch", "topic", "main"))],
  [
    "branch -d",
    () => git(here("branch", "-D", "old")),
    () => mustGit(here("update-ref", "refs/heads/old", commit)),
  ],
  ["branch -m", () => git(here("branch", "-m", "main", "trunk"))],
  ["tag", () => git(here("tag", "v1", "main"))],
  ["annotated tag", () => git(here("tag", "-am", "v1", "v1", "main"))],
  ["notes", () => git(here("notes", "add", "-m", "seen", commit))],
  ["replace", () => git(here("replace", "--graft", second))],
  [
    "fetch",
    () => git(here("fetch", "-q", join(pod.folder, "elsewhere.git"), "refs/heads/main:refs/heads/fetched")),
    () => mustGit(["clone", "-q", "--bare", pod.path(PATH), join(pod.folder, "elsewhere.git")]),
  ],
  [
    "fast-import",
    () =>
      git(here("fast-import", "--quiet"), {
        input: "commit refs/heads/imported\ncommitter W <w@example.com> 1700000000 +0000\ndata 1\nx\n",
      }),
  ],
  ["pack-refs", () => git(here("pack-refs", "--all"))],
  ["worktree add", () => git(here("worktree", "add", "-q", "-b", "tree", join(pod.folder, "tree")))],
  [
    "commit in a work tree",
    () => git(["-C", join(pod.folder, "tree"), "commit", "-q", "--allow-empty", "-m", "in a tree"]),
    () => mustGit(here("worktree", "add", "-q", "-b", "tree", join(pod.folder, "tree"))),
  ],
];

describe("under the fence", () => {
  it.each(commands)("%s is refused, and works again afterwards", async (name, run, prepare) => {
    await prepare?.();
    const before = await pod.refs(PATH);
    await pod.setPhase("fenced");
    const refused = await run();
    expect(refused.code, refused.stderr).not.toBe(0);
    expect(refused.stderr).toContain("this repository is read-only for a moment; push again");
    expect(await pod.refs(PATH)).toBe(before);
    await pod.setPhase("source");
    const accepted = await run();
    expect(accepted.code, accepted.stderr).toBe(0);
    if (name !== "pack-refs") expect(await pod.refs(PATH)).not.toBe(before);
    expect(await names(fencePaths(pod.control).inflight("git"))).toEqual([]);
    expect(new Set(await dirtyKeys())).toEqual(new Set([PATH]));
  });

  it("reading goes on", async () => {
    await pod.setPhase("fenced");
    await mustGit(["clone", "-q", pod.path(PATH), join(pod.folder, "copy")]);
    await mustGit(here("rev-parse", "main"));
  });
});

describe("the table of phases", () => {
  const phases: SharePhase[] = ["source", "fenced", "transferred", "opened"];
  const cells = [pod0, pod100, pod101].flatMap((self) => phases.map((phase) => [self, phase] as const));

  it.each(cells)("on %s, %s: as other writers are told", async (self, phase) => {
    const other = await GitPod.create();
    try {
      const itsHook = await other.staged(self, phase);
      const first = await other.repository(PATH, "red", itsHook);
      const expected = await readPhase(other.control, "red");
      const ended = await git(["-C", other.path(PATH), "update-ref", "refs/heads/x", first]);
      expect(ended.code === 0).toBe(expected.allowed);
      if (!expected.allowed && expected.reason === "wrong-pod")
        expect(ended.stderr).toContain(`cleave: ${expected.podId} is authoritative for this repository`);
      else if (!expected.allowed) expect(ended.stderr).toContain("read-only for a moment");
    } finally {
      await other.remove();
    }
  });

  it("an organization without a route is the default Pod's, a shared repository everybody's", async () => {
    const away = await GitPod.create();
    try {
      const itsHook = await away.staged(pod101, "fenced");
      const first = await away.repository("blue.git", "blue", itsHook);
      const wrong = await git(["-C", away.path("blue.git"), "update-ref", "refs/heads/x", first]);
      expect(wrong.stderr).toContain("pod-0 is authoritative for this repository");
      await away.fence.setOwner("blue.git", { kind: "shared" });
      await mustGit(["-C", away.path("blue.git"), "update-ref", "refs/heads/x", first]);
      await pod.setPhase("fenced");
      const here0 = await pod.repository("blue.git", "blue", hook);
      await mustGit(["-C", pod.path("blue.git"), "update-ref", "refs/heads/x", here0]);
    } finally {
      await away.remove();
    }
  });
});

describe("unknown is no", () => {
  const refused = async (text: string) => {
    const ended = await git(here("update-ref", "refs/heads/x", commit));
    expect(ended.code, "the update passed").not.toBe(0);
    expect(ended.stderr).toContain(text);
  };

  it("no state directory at all", async () => {
    await rm(join(pod.folder, "state"), { recursive: true });
    await refused("");
  });
  it("no identity", async () => {
    await rm(fencePaths(pod.control).self);
    await refused("the identity of this Pod is not established");
  });
  it("no share", async () => {
    await rm(join(pod.control, "shares", migrationId));
    await refused("its fence cannot be read");
  });
  it.each(["", "pod-100 pod-0\n", "pod-100 pod-0 open\n", "pod-1000 pod-0 source\n"])(
    "a damaged share %j",
    async (text) => {
      await writeFile(join(pod.control, "shares", migrationId), text);
      await refused("its fence cannot be read");
    },
  );
  it("a damaged route", async () => {
    const folder = fencePaths(pod.control).routes;
    const [two = ""] = await names(folder);
    const [hash = ""] = await names(join(folder, two));
    await writeFile(join(folder, two, hash), "pod-0\n");
    await refused("its route cannot be read");
  });
  it("nowhere to register", async () => {
    await rm(fencePaths(pod.control).inflight("git"), { recursive: true });
    await refused("its fence cannot be asked");
  });
});

describe("a repository that the agent does not know yet", () => {
  it("is held until its owner is known, and the agent hears of it meanwhile", async () => {
    const path = "new one's $(repository) ü.git";
    const first = await pod.repository(path);
    await installHook(pod.path(path), hook);
    const { ended } = startGit(["-C", pod.path(path), "update-ref", "refs/heads/x", first]);
    await eventually(async () => expect(await dirtyKeys()).toContain(path));
    await pod.fence.setOwner(path, { kind: "shared" });
    expect((await ended).code).toBe(0);
    expect(await pod.refs(path)).toContain("refs/heads/x");
  });

  it("is refused when nobody knows after ten seconds", async () => {
    const first = await pod.repository("nobodys.git", undefined, hook);
    const ended = await git(["-C", pod.path("nobodys.git"), "update-ref", "refs/heads/x", first]);
    expect(ended.stderr).toContain("nobody knows yet who owns it; push again");
  }, 30_000);
});

describe("an earlier hook", () => {
  const earlier = (text: string) =>
    writeFile(join(pod.path("red2.git"), "hooks", "reference-transaction"), `#!/bin/sh\n${text}\n`, {
      mode: 0o755,
    });
  const update = () => git(["-C", pod.path("red2.git"), "update-ref", "refs/heads/x", commit2]);
  let commit2: string;
  beforeEach(async () => {
    commit2 = await pod.repository("red2.git", "red");
  });

  it("is asked too, with what git says, and comes back when ours goes", async () => {
    await earlier('printf "%s %s %s\\n" "$1" "$(cat)" "$GIT_DIR" >>heard');
    await installHook(pod.path("red2.git"), hook);
    expect((await update()).code).toBe(0);
    const heard = await readFile(join(pod.path("red2.git"), "heard"), "utf8");
    expect(heard).toMatch(/^prepared 0+ [0-9a-f]{40} refs\/heads\/x \.\ncommitted 0+ /);
    await removeHook(pod.path("red2.git"));
    expect(await isHookInForce(pod.path("red2.git"), hook)).toBe(false);
    expect(await readFile(join(pod.path("red2.git"), "hooks", "reference-transaction"), "utf8")).toContain(
      "heard",
    );
    expect(await names(join(pod.path("red2.git"), "hooks"))).not.toContain(
      "reference-transaction.before-cleave",
    );
  });

  it("may still refuse", async () => {
    await earlier('[ "$1" != prepared ] || { echo "not today" >&2; exit 1; }');
    await installHook(pod.path("red2.git"), hook);
    const ended = await update();
    expect(ended.code).not.toBe(0);
    expect(ended.stderr).toContain("not today");
    expect(await names(fencePaths(pod.control).inflight("git"))).toEqual([]);
  });
});

describe("in force", () => {
  it("in all repositories again after somebody wrote into the hook of one, which is a link", async () => {
    await pod.repository("other.git", "red", hook);
    const written = join(pod.path(PATH), "hooks", "reference-transaction");
    await chmod(written, 0o755);
    await writeFile(written, "#!/bin/sh\nexit 0\n# and more, so that it is longer than ours\n".repeat(40));
    expect(await isHookInForce(pod.path("other.git"), hook)).toBe(false);
    await installHook(pod.path("other.git"), hook);
    for (const path of ["other.git", PATH]) {
      await installHook(pod.path(path), hook);
      expect(await isHookInForce(pod.path(path), hook)).toBe(true);
      // What was written for one repository is no hook of the others.
      expect(await names(join(pod.path(path), "hooks"))).not.toContain("reference-transaction.before-cleave");
    }
  });

  it("not without its run bit, as another file, or with hooks elsewhere; installing repairs the first two", async () => {
    const path = join(pod.path(PATH), "hooks", "reference-transaction");
    expect(await isHookInForce(pod.path(PATH), hook)).toBe(true);
    await rm(path);
    await writeFile(path, hook.stub, { mode: 0o644 });
    expect(await isHookInForce(pod.path(PATH), hook)).toBe(false);
    await installHook(pod.path(PATH), hook);
    expect(await isHookInForce(pod.path(PATH), hook)).toBe(true);
    await chmod(path, 0o644);
    await installHook(pod.path(PATH), hook);
    expect(await isHookInForce(pod.path(PATH), hook)).toBe(true);
    await rm(join(pod.path(PATH), "hooks"), { recursive: true });
    await mkdir(join(pod.folder, "everybodys"));
    await symlink(join(pod.folder, "everybodys"), join(pod.path(PATH), "hooks"));
    await expect(installHook(pod.path(PATH), hook)).rejects.toMatchObject({
      code: "REPOSITORY_HOOK_DISABLED",
    });
  });
});

describe("drain", () => {
  const drain = (graceMs: number) =>
    pod.fence.drain({ store: "git", migrationId, graceMs, signal: AbortSignal.timeout(20_000) });
  /** A push whose transaction stands still in `prepared`, after it passed the fence. */
  const stuckPush = async (seconds: number) => {
    await removeHook(pod.path(PATH));
    const text = `#!/bin/sh\n[ "$1" != prepared ] || { : >reached; sleep ${seconds}; }\n`;
    await writeFile(join(pod.path(PATH), "hooks", "reference-transaction"), text, { mode: 0o755 });
    await installHook(pod.path(PATH), hook);
    const pushed = push("HEAD:refs/heads/late");
    await eventually(async () => expect(await names(pod.path(PATH))).toContain("reached"));
    return pushed;
  };

  it("waits for a push that passed before, and hears of its change", async () => {
    const ended = (async () => await stuckPush(1))();
    await eventually(async () => expect(await names(pod.path(PATH))).toContain("reached"));
    await pod.setPhase("fenced");
    const { stragglers } = await drain(5_000);
    expect(stragglers).toEqual([]);
    expect(await pod.refs(PATH)).toContain("refs/heads/late");
    expect(await dirtyKeys()).toContain(PATH);
    expect((await ended).code).toBe(0);
  });

  it("ends one that takes too long, and its push failed", async () => {
    const ended = (async () => await stuckPush(6))();
    await eventually(async () => expect(await names(pod.path(PATH))).toContain("reached"));
    await pod.setPhase("fenced");
    const { stragglers } = await drain(100);
    expect(stragglers).toHaveLength(1);
    expect(stragglers[0]).toContain(PATH);
    expect((await ended).code).not.toBe(0);
    expect(await pod.refs(PATH)).not.toContain("refs/heads/late");
    expect(await names(fencePaths(pod.control).inflight("git"))).toEqual([]);
  }, 60_000);

  it("counts a git that was killed in its transaction as ended and its repository as changed", async () => {
    await removeHook(pod.path(PATH));
    const text = '#!/bin/sh\n[ "$1" != prepared ] || { : >reached; sleep 2; }\n';
    await writeFile(join(pod.path(PATH), "hooks", "reference-transaction"), text, { mode: 0o755 });
    await installHook(pod.path(PATH), hook);
    const { child, ended } = startGit(here("update-ref", "refs/heads/killed", commit));
    await eventually(async () => expect(await names(pod.path(PATH))).toContain("reached"));
    child.kill("SIGKILL");
    await ended;
    await pod.setPhase("fenced");
    await drain(5_000);
    expect(await dirtyKeys()).toContain(PATH);
    expect(await pod.refs(PATH)).not.toContain("refs/heads/killed");
  });

  it("many refs in one process, one transaction each: every one is registered and none remains", async () => {
    const input = Array.from(
      { length: 20 },
      (_, n) => `start\ncreate refs/heads/n${n} ${commit}\ncommit\n`,
    ).join("");
    expect((await git(here("update-ref", "--stdin"), { input })).code).toBe(0);
    expect(await names(fencePaths(pod.control).inflight("git"))).toEqual([]);
    expect(await dirtyKeys()).toHaveLength(20);
  });
});
