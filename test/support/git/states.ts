/** States of a repository that a copy has to have as well, or that are refused or named: each made by git or by hand. */
import { execFile } from "node:child_process";
import { chmod, cp, mkdir, rm, stat, symlink, unlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type GitPod, mustGit } from "./pod.ts";

const run = promisify(execFile);

export interface Used {
  readonly pod: GitPod;
  /** The repository's folder. */
  readonly folder: string;
  /** Its path. */
  readonly path: string;
  git(...args: string[]): Promise<string>;
  /** A commit that no ref has. */
  commit(message: string): Promise<string>;
}

export function used(pod: GitPod, path: string): Used {
  const folder = pod.path(path);
  const of = (...args: string[]) => mustGit(["-C", folder, ...args]);
  return { pod, folder, path, git: of, commit: (message) => pod.commit(path, message) };
}

export interface State {
  readonly name: string;
  /** Instead of a repository with three commits on main. */
  readonly begin?: (repository: Used, origin: string) => Promise<unknown>;
  readonly make: (repository: Used) => Promise<unknown>;
  /** What is said of it; without one it is carried. */
  readonly refused?: string;
  readonly left?: string;
  /** Of what is refused. */
  readonly undo?: (repository: Used) => Promise<unknown>;
}

const shallowClone = async ({ folder }: Used, origin: string) => {
  await mustGit(["clone", "-q", "--bare", "--depth=1", `file://${origin}`, folder]);
};
const fetchFrom = ({ git }: Used, ...options: string[]) =>
  git("fetch", "-q", "--update-head-ok", ...options, "origin", "+refs/heads/*:refs/heads/*");

export const STATES: readonly State[] = [
  { name: "unshallowed", begin: shallowClone, make: (r) => fetchFrom(r, "--unshallow") },
  {
    // What git noted then of what its commits reach is wrong from then on, and git itself goes by it.
    name: "unshallowed-with-bitmaps",
    begin: async (r, origin) => {
      await shallowClone(r, origin);
      await r.git("repack", "-adq", "--write-bitmap-index");
    },
    make: (r) => fetchFrom(r, "--unshallow"),
  },
  { name: "deepened", begin: shallowClone, make: (r) => fetchFrom(r, "--depth=2") },
  {
    name: "made-shallow",
    begin: ({ folder }, origin) => mustGit(["clone", "-q", "--bare", `file://${origin}`, folder]),
    make: (r) => fetchFrom(r, "--depth=1"),
  },
  {
    name: "symbolic-refs",
    begin: async (r) => {
      await r.pod.repository(r.path);
      await r.git("branch", "was-a-branch");
      await r.git("symbolic-ref", "refs/heads/was-symbolic", "refs/heads/main");
      await r.git("symbolic-ref", "refs/heads/deep/er", "refs/heads/main");
    },
    make: async (r) => {
      await r.git("symbolic-ref", "refs/heads/master", "refs/heads/main");
      await r.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/gone");
      await r.git("symbolic-ref", "-d", "refs/heads/was-symbolic");
      await r.git("update-ref", "refs/heads/was-symbolic", await r.commit("ordinary now"));
      await r.git("pack-refs", "--all");
      await r.git("symbolic-ref", "refs/heads/was-a-branch", "refs/heads/main");
      await r.git("symbolic-ref", "-d", "refs/heads/deep/er");
      await r.git("symbolic-ref", "refs/heads/deep", "refs/heads/main");
    },
  },
  {
    name: "detached",
    make: async ({ git, commit }) => git("update-ref", "--no-deref", "HEAD", await commit("no ref has it")),
  },
  {
    name: "files",
    make: async ({ git, folder }) => {
      await git("config", "extensions.worktreeConfig", "true");
      await writeFile(join(folder, "config.worktree"), "[cleave]\n\tx = 1\n");
      await writeFile(join(folder, "description"), "another\n");
      await writeFile(join(folder, "git-daemon-export-ok"), "");
      await writeFile(join(folder, "composer.lock"), "no lock of git's\n");
      await symlink("itself", join(folder, "hooks", "itself"));
      await symlink("/usr/bin", join(folder, "hooks", "folder"));
      await mkdir(join(folder, "info"), { recursive: true });
      await writeFile(join(folder, "info", "exclude"), "*.o\n");
      await mkdir(join(folder, "rr-cache", "1234"), { recursive: true });
      await writeFile(join(folder, "rr-cache", "1234", "preimage"), "<<<<\n");
      await writeFile(join(folder, "cloned.bundle"), Buffer.alloc(9 * 1024 * 1024, 7));
      await writeFile(join(folder, "hooks", "post-receive"), Buffer.alloc(8 * 1024 * 1024 + 1, 35), {
        mode: 0o755,
      });
    },
  },
  { name: "no-config", make: ({ folder }) => rm(join(folder, "config")) },
  {
    name: "modes",
    make: async ({ folder }) => {
      await chmod(join(folder, "config"), 0o600);
      await writeFile(join(folder, "hooks", "update"), "#!/bin/sh\n", { mode: 0o750 });
      await chmod(join(folder, "objects"), 0o700);
      await chmod(join(folder, "refs"), 0o750);
      await chmod(folder, 0o700);
    },
  },
  {
    name: "shared",
    begin: async ({ pod, path, folder }) => {
      await pod.repository(path);
      await mustGit(["init", "-q", "--bare", "--shared=group", folder]);
    },
    make: async (r) => {
      const objects = await run("find", [r.folder, "-type", "d", "-exec", "chmod", "g+ws", "{}", "+"]);
      await r.git("update-ref", "refs/heads/shared", await r.commit("shared"));
      return objects;
    },
  },
  {
    name: "hostile-config",
    make: async ({ git }) => {
      await git("config", "protocol.allow", "never");
      await git("config", "protocol.http.allow", "never");
      await git("config", "http.proxy", "http://127.0.0.1:1");
      await git("config", "url.ext::false.insteadOf", "http://");
      await git("config", "transfer.unpackLimit", "1");
      await git("update-ref", "refs/heads/after", "refs/heads/main");
    },
  },
  {
    name: "notes-and-replacements",
    make: async ({ git, commit }) => {
      await git("notes", "add", "-m", "seen", "main");
      await git("replace", "-f", await git("rev-parse", "main"), await commit("instead"));
    },
  },
  {
    name: "worktree",
    make: ({ git, pod }) => git("worktree", "add", "-q", "-b", "work", join(pod.folder, "work")),
    left: "linked work trees",
  },
  {
    name: "reflogs",
    make: async ({ git, commit }) => {
      await git("config", "core.logAllRefUpdates", "always");
      await git("update-ref", "refs/heads/logged", await commit("logged"));
    },
    left: "reflogs",
  },
  {
    name: "include",
    make: ({ git }) => git("config", "include.path", "/etc/shared.gitconfig"),
    refused: "includes another file",
    undo: ({ git }) => git("config", "--unset", "include.path"),
  },
  ...(
    [
      ["commondir", "../other.git\n", "commondir"],
      ["info/grafts", "", "info/grafts"],
      ["objects/pack/pack-1.promisor", "", "partial clone"],
    ] as const
  ).map(
    ([name, text, refused]): State => ({
      name: `has ${name}`.replaceAll(/[ /]/g, "-"),
      make: async ({ folder }) => {
        await mkdir(join(folder, "info"), { recursive: true });
        await writeFile(join(folder, name), text);
      },
      refused,
      undo: ({ folder }) => rm(join(folder, name)),
    }),
  ),
  {
    name: "repository-inside",
    make: ({ folder, pod }) =>
      cp(pod.path("red/origin.git"), join(folder, "modules-of", "x"), { recursive: true }),
    refused: "another repository inside",
    undo: ({ folder }) => rm(join(folder, "modules-of"), { recursive: true }),
  },
  {
    name: "link",
    make: ({ folder }) => symlink("/etc/hostname", join(folder, "info-link")),
    refused: "symbolic link",
    undo: ({ folder }) => unlink(join(folder, "info-link")),
  },
  {
    name: "other-format",
    make: async ({ folder, git }) => {
      await rm(folder, { recursive: true });
      await mustGit(["init", "-q", "--bare", "--object-format=sha256", "-b", "main", folder]);
      await git("update-ref", "refs/heads/main", await git("commit-tree", "-m", "anew", await git("mktree")));
    },
  },
  {
    name: "times-set-back",
    make: async (r) => {
      const after = await r.commit("in place");
      const ref = join(r.folder, "refs", "heads", "main");
      const { atime, mtime } = await stat(ref);
      await writeFile(ref, `${after}\n`);
      await utimes(ref, atime, mtime);
    },
  },
  // Whoever opens a pipe waits for ever, and with it all others.
  ...["pipe", "refs/pipe", "packed-refs", "objects/info/alternates"].map(
    (name): State => ({
      name: `pipe-${name.replaceAll("/", "-")}`,
      make: ({ folder }) => run("mkfifo", [join(folder, name)]),
      refused: "a pipe",
      undo: ({ folder }) => unlink(join(folder, name)),
    }),
  ),
];

/** A repository for each state, as it is before `make`; and `red/origin.git`, from which some were cloned. */
export async function beginAll(pod: GitPod): Promise<readonly { state: State; repository: Used }[]> {
  const first = await pod.repository("red/origin.git");
  const second = await pod.commit("red/origin.git", "two", first);
  const third = await pod.commit("red/origin.git", "three", second);
  await mustGit(["-C", pod.path("red/origin.git"), "update-ref", "refs/heads/main", third]);
  return Promise.all(
    STATES.map(async (state) => {
      const repository = used(pod, `red/${state.name}.git`);
      await (state.begin ?? (() => pod.repository(repository.path)))(repository, pod.path("red/origin.git"));
      return { state, repository };
    }),
  );
}
