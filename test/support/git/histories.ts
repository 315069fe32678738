/** Random histories of one repository: git commands of every kind that writes, and edits that no git makes. */
import { execFile } from "node:child_process";
import { appendFile, chmod, mkdir, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";
import { EMPTY_TREE, type GitPod, git } from "./pod.ts";

const run = promisify(execFile);

interface Refusal {
  readonly says: string;
  readonly undo: () => Promise<unknown>;
}

/** A step may fail, as commands do that make no sense in a moment: then nothing happened. */
type Step = (history: GitHistory) => Promise<unknown>;

const BRANCHES = ["main", "a", "b", "deep/er", "deep", "c"] as const;

export class GitHistory {
  readonly seed: number;
  readonly path: string;
  readonly pod: GitPod;
  readonly random: SeededRandom;
  /** Names of steps, for whoever reads a failure. */
  readonly done: string[] = [];
  refusal: Refusal | null = null;
  #count = 0;

  private constructor(pod: GitPod, seed: number) {
    this.pod = pod;
    this.seed = seed;
    this.path = `red/history-${seed}.git`;
    this.random = new SeededRandom(seed);
  }

  static async begin(pod: GitPod, seed: number): Promise<GitHistory> {
    const history = new GitHistory(pod, seed);
    const { folder } = history;
    const first = await pod.repository(history.path);
    const second = await pod.commit(history.path, "second", first);
    await git([
      "-C",
      folder,
      "update-ref",
      "refs/heads/main",
      await pod.commit(history.path, "third", second),
    ]);
    if (history.random.below(4) > 0) return history;
    // One that can be deepened.
    await run("mv", [folder, `${pod.folder}/origin-${seed}.git`]);
    const origin = `file://${pod.folder}/origin-${seed}.git`;
    await git(["clone", "-q", "--bare", "--depth=1", origin, folder]);
    return history;
  }

  get folder(): string {
    return this.pod.path(this.path);
  }

  git(...args: string[]): Promise<{ stdout: string; code: number | null }> {
    return git(["-C", this.folder, ...args]);
  }

  get branch(): string {
    return `refs/heads/${this.pick(BRANCHES)}`;
  }

  pick<T>(items: readonly T[]): T {
    return this.random.pick(items);
  }

  async commit(): Promise<string> {
    this.#count += 1;
    const message = `${this.seed} ${this.#count}`;
    const parent = (await this.git("rev-parse", "-q", "--verify", "main^{commit}")).stdout.trim();
    const parents = parent === "" || this.random.below(4) === 0 ? [] : ["-p", parent];
    await this.git("mktree");
    return (await this.git("commit-tree", "-m", message, ...parents, EMPTY_TREE)).stdout.trim();
  }

  async steps(count: number, { refused = true }: { readonly refused?: boolean } = {}): Promise<void> {
    const names = Object.keys(STEPS);
    for (let step = 0; step < count; step++) {
      if (refused && this.refusal === null && this.random.below(40) === 0) {
        const name = this.pick(Object.keys(REFUSED));
        this.done.push(name);
        this.refusal = (await REFUSED[name]?.(this)) ?? null;
        continue;
      }
      const name = this.pick(names);
      this.done.push(name);
      await STEPS[name]?.(this).catch(() => this.done.push("(failed)"));
    }
  }

  async undoRefusal(): Promise<void> {
    await this.refusal?.undo();
    this.refusal = null;
  }
}

const file = (history: GitHistory, name: string) => join(history.folder, name);

const STEPS: Readonly<Record<string, Step>> = {
  "update-ref": async (h) => h.git("update-ref", h.branch, await h.commit()),
  "update-ref of other names": async (h) =>
    h.git("update-ref", h.pick(["refs/pipelines/7", "refs/keep-around/x", "refs/tmp/y"]), await h.commit()),
  "update-ref --no-deref HEAD": async (h) => h.git("update-ref", "--no-deref", "HEAD", await h.commit()),
  "update-ref -d": (h) => h.git("update-ref", "-d", h.branch),
  "update-ref -d --no-deref": (h) => h.git("update-ref", "--no-deref", "-d", h.branch),
  "symbolic-ref HEAD": (h) => h.git("symbolic-ref", "HEAD", h.branch),
  "symbolic-ref": (h) => h.git("symbolic-ref", h.branch, h.branch),
  "symbolic-ref to nowhere": (h) => h.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/gone"),
  "symbolic-ref -d": (h) => h.git("symbolic-ref", "-d", h.branch),
  branch: (h) => h.git("branch", "-f", h.pick(BRANCHES), "HEAD"),
  "branch -c": (h) => h.git("branch", "-C", h.pick(BRANCHES), h.pick(BRANCHES)),
  "branch -m": (h) => h.git("branch", "-M", h.pick(BRANCHES), h.pick(BRANCHES)),
  "branch -D": (h) => h.git("branch", "-D", h.pick(BRANCHES)),
  tag: (h) => h.git("tag", "-f", "-am", "tagged", h.pick(["v1", "v2"]), "HEAD"),
  "tag -d": (h) => h.git("tag", "-d", h.pick(["v1", "v2"])),
  notes: (h) => h.git("notes", "add", "-f", "-m", "seen", "HEAD"),
  replace: async (h) => h.git("replace", "-f", "HEAD", await h.commit()),
  push: async (h) => {
    const clone = `${h.pod.folder}/clone-${h.seed}-${h.done.length}`;
    await git(["clone", "-q", h.folder, clone]);
    await git(["-C", clone, "commit", "-q", "--allow-empty", "-m", "pushed"]);
    await git(["-C", clone, "push", "-q", "-f", "origin", `HEAD:${h.branch}`]);
    await rm(clone, { recursive: true });
  },
  fetch: (h) => h.git("fetch", "-q", h.pod.path("red/lender.git"), `+refs/heads/main:refs/heads/fetched`),
  "fetch --unshallow": (h) => h.git("fetch", "-q", "--unshallow", "origin"),
  "fetch --depth": (h) => h.git("fetch", "-q", `--depth=${1 + h.random.below(3)}`, "origin"),
  gc: (h) => h.git("gc", "-q", "--prune=now"),
  "pack-refs": (h) => h.git("pack-refs", "--all", "--prune"),
  repack: (h) => h.git("repack", "-adq", "--write-bitmap-index"),
  "commit-graph": (h) => h.git("commit-graph", "write", "--reachable"),
  worktree: (h) =>
    h.git("worktree", "add", "-q", "-f", `${h.pod.folder}/work-${h.seed}-${h.done.length}`, "HEAD"),
  alternates: async (h) => {
    await writeFile(file(h, "objects/info/alternates"), `${h.pod.path("red/lender.git")}/objects\n`);
    const lent = await git(["-C", h.pod.path("red/lender.git"), "rev-parse", "main"]);
    await h.git("update-ref", "refs/heads/lent", lent.stdout.trim());
  },
  config: (h) => h.git("config", `cleave.x${h.random.below(3)}`, String(h.random.below(100))),
  "hostile config": (h) => h.git("config", "protocol.allow", "never"),
  "config.worktree": (h) => writeFile(file(h, "config.worktree"), `[cleave]\n\ty = ${h.random.below(9)}\n`),
  hook: (h) =>
    writeFile(file(h, `hooks/${h.pick(["update", "post-receive", "pre-receive"])}`), "#!/bin/sh\nexit 0\n", {
      mode: h.pick([0o755, 0o644, 0o700]),
    }),
  "earlier hook": async (h) => {
    await mkdir(file(h, "custom_hooks/update.d"), { recursive: true });
    await writeFile(file(h, "custom_hooks/update.d/a"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
  },
  "linked hook": (h) => symlink("update", file(h, "hooks/post-update")),
  "remove a hook": (h) => rm(file(h, `hooks/${h.pick(["update", "post-receive", "post-update"])}`)),
  description: (h) => writeFile(file(h, "description"), `number ${h.random.below(100)}\n`),
  "export-ok": (h) => writeFile(file(h, "git-daemon-export-ok"), ""),
  "no export-ok": (h) => unlink(file(h, "git-daemon-export-ok")),
  info: async (h) => {
    await mkdir(file(h, "info"), { recursive: true });
    await appendFile(file(h, `info/${h.pick(["attributes", "exclude"])}`), "*.x -diff\n");
  },
  "other files": async (h) => {
    await mkdir(file(h, "rr-cache/1"), { recursive: true });
    await writeFile(file(h, "rr-cache/1/preimage"), "x".repeat(h.pick([3, 100_000])));
  },
  "no other files": (h) => rm(file(h, "rr-cache"), { recursive: true }),
  chmod: (h) =>
    chmod(
      file(h, h.pick(["config", "description", "HEAD", "hooks", "refs", "objects", "info", "."])),
      h.pick([0o700, 0o750, 0o755, 0o2775]),
    ),
};

const REFUSED: Readonly<Record<string, (h: GitHistory) => Promise<Refusal>>> = {
  include: async (h) => {
    await h.git("config", "include.path", "/etc/shared");
    return { says: "includes another file", undo: () => h.git("config", "--unset-all", "include.path") };
  },
  commondir: async (h) => {
    await writeFile(file(h, "commondir"), "../lender.git\n");
    return { says: "commondir", undo: () => unlink(file(h, "commondir")) };
  },
  grafts: async (h) => {
    await mkdir(file(h, "info"), { recursive: true });
    await writeFile(file(h, "info/grafts"), "");
    return { says: "info/grafts", undo: () => unlink(file(h, "info/grafts")) };
  },
  link: async (h) => {
    await symlink("/etc/hostname", file(h, "a-link"));
    return { says: "symbolic link", undo: () => unlink(file(h, "a-link")) };
  },
};
