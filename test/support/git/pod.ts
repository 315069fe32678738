/** A Pod's Git side in a folder of its own: root, fence, hook, and git commands as users run them. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { FileFence } from "../../../agent/stores/file-fence/file-fence.ts";
import { type Hook, installHook, writeHook } from "../../../agent/stores/git/backend/folder/hook-install.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { CleaveError } from "../../../protocol/errors.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import { forgetShares } from "../file-fence/fence-files.ts";
import { removeLive } from "../remove-live.ts";

export const pod0 = "pod-0" as PodId;
export const pod100 = "pod-100" as PodId;
export const pod101 = "pod-101" as PodId;
export const migrationId = "split-1" as MigrationId;
export const EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const environment = {
  PATH: process.env["PATH"] ?? "",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_AUTHOR_NAME: "Writer",
  GIT_AUTHOR_EMAIL: "writer@example.com",
  GIT_COMMITTER_NAME: "Writer",
  GIT_COMMITTER_EMAIL: "writer@example.com",
};

/** Git as a user runs it; `args` are never seen by a shell. */
export function git(
  args: readonly string[],
  options: { cwd?: string; input?: string | Buffer } = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      "git",
      args,
      { env: environment, encoding: "latin1", ...(options.cwd ? { cwd: options.cwd } : {}) },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input ?? "");
  });
}

export async function mustGit(
  args: readonly string[],
  options: { cwd?: string; input?: string | Buffer } = {},
) {
  const ended = await git(args, options);
  if (ended.code !== 0) throw new Error(`git ${args.join(" ")}: ${ended.stderr}`);
  return ended.stdout.trim();
}

/** Starts git and leaves it running; `ended` resolves with its end. */
export function startGit(
  args: readonly string[],
  cwd?: string,
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn("git", args, {
    env: environment,
    stdio: ["pipe", "pipe", "pipe"],
    ...(cwd ? { cwd } : {}),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve) =>
    child.once("close", (code) => resolve({ code, stdout, stderr })),
  );
  return { child, ended };
}

export class GitPod {
  readonly folder: string;
  readonly root: string;
  readonly control: string;
  readonly fence: FileFence;

  private constructor(folder: string) {
    this.folder = folder;
    this.root = join(folder, "repositories");
    this.control = join(folder, "state", "control");
    this.fence = new FileFence({ directory: this.control, clock: systemClock });
  }

  static async create(): Promise<GitPod> {
    const pod = new GitPod(await mkdtemp(join(tmpdir(), "cleave-git-")));
    await mkdir(pod.root, { recursive: true });
    await mkdir(pod.control, { recursive: true });
    return pod;
  }

  /** Identity, one organization `red` assigned to pod-100, and the hook's files. */
  async staged(self: PodId, phase: SharePhase): Promise<Hook> {
    await this.fence.initialise(self, pod0);
    await this.setPhase(phase);
    await this.fence.stageRoutes({
      migrationId,
      sourcePodId: pod0,
      assignments: new Map([["red" as OrganizationId, pod100]]),
    });
    return writeHook(this.root, this.control);
  }

  /** Also back, which no log leads to: then as if nothing had been before. */
  async setPhase(phase: SharePhase): Promise<void> {
    const set = () =>
      this.fence.setShares(migrationId, pod0, { [pod100]: phase } as Record<PodId, SharePhase>);
    await set().catch(async (error: CleaveError) => {
      if (error.code !== "AGENT_BEHIND") throw error;
      await forgetShares(this.control, migrationId);
      await set();
    });
  }

  path(repository: string): string {
    return join(this.root, repository);
  }

  /** A bare repository with one commit on main; returns the commit. */
  async repository(path: string, owner?: string, hook?: Hook): Promise<string> {
    const folder = this.path(path);
    await mkdir(dirname(folder), { recursive: true });
    await mustGit(["init", "-q", "--bare", "-b", "main", folder]);
    const commit = await this.commit(path, `first of ${path}`);
    await mustGit(["-C", folder, "update-ref", "refs/heads/main", commit]);
    if (owner !== undefined)
      await this.fence.setOwner(path, { kind: "organization", organizationId: owner as OrganizationId });
    if (hook) await installHook(folder, hook);
    return commit;
  }

  async commit(path: string, message: string, parent?: string): Promise<string> {
    const folder = this.path(path);
    await mustGit(["-C", folder, "mktree"]);
    const parents = parent === undefined ? [] : ["-p", parent];
    return mustGit(["-C", folder, "commit-tree", "-m", message, ...parents, EMPTY_TREE]);
  }

  /** As users see it: every ref and HEAD. */
  async refs(path: string): Promise<string> {
    const shown = await git([`--git-dir=${this.path(path)}`, "show-ref", "--head"]);
    return `${shown.stdout}${await mustGit([`--git-dir=${this.path(path)}`, "rev-parse", "--symbolic-full-name", "HEAD"]).catch(() => "")}`;
  }

  async remove(): Promise<void> {
    await removeLive(this.folder);
  }
}
