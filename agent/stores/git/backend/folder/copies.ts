/**
 * Makes one repository equal to another Pod's: refs and objects by git's own fetch, everything else byte by byte. A new
 * one grows in a folder of the agent's and gets its name when it is whole.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CleaveError } from "../../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import type { GitAccess, NewRepository } from "../backend.ts";
import type { RepositoryFiles } from "../repository-files.ts";
import { type Hook, installHook } from "./hook-install.ts";
import { INCOMING } from "./list.ts";
import { writeAttributes, writeConfig, writeHead, writeHooks } from "./repository-files.ts";
import { type GitOptions, mustRunGit, runGit } from "./run-git.ts";

/** In each repository that was made here: for which migration. Only those are removed when it is given up. */
const MARKER = "cleave-mirror";
const FETCH_MS = 24 * 3_600_000;

/** Settings that a repository's own configuration must not change for the agent's fetch. */
const FETCH_CONFIG = [
  ["core.hooksPath", "/dev/null"],
  ["core.bare", "true"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["transfer.fsckObjects", "false"],
  ["fetch.fsckObjects", "false"],
  ["fetch.recurseSubmodules", "false"],
  ["fetch.writeCommitGraph", "false"],
  ["fetch.unpackLimit", "100"],
  ["protocol.version", "2"],
  ["http.followRedirects", "false"],
  ["http.proxy", ""],
  // A stalled connection; a source that is still counting objects sends a sign of life every few seconds.
  ["http.lowSpeedLimit", "1"],
  ["http.lowSpeedTime", "60"],
] as const;

export interface CopyOptions {
  readonly root: string;
  /** A repository's path, which has been checked. */
  readonly path: string;
  readonly git: GitOptions;
  readonly signal: AbortSignal;
}

export async function copyRepository(copy: NewRepository, hook: Hook, options: CopyOptions): Promise<void> {
  const { root, path, git, signal } = options;
  const { files, from, name, mark, replaces } = copy;
  const directory = await incoming(root, name);
  try {
    const format = /^\s*objectformat\s*=\s*"?sha256/im.test(
      Buffer.from(files.config, "base64").toString("latin1"),
    )
      ? ["--object-format=sha256"]
      : [];
    const args = ["init", "--quiet", "--bare", "--template=", ...format, directory];
    await mustRunGit(args, { ...git, signal });
    await fetchInto(directory, from, options);
    await applyFiles(directory, files, { keepHead: false });
    if (mark !== null) await writeFile(join(directory, MARKER), `${mark}\n`);
    await installHook(directory, hook);
    const target = join(root, path);
    await mkdir(dirname(target), { recursive: true });
    // What is there instead is broken: nothing of it can be used. What came meanwhile refuses the name.
    if (replaces) await discard(root, path, name);
    await rename(directory, target);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function incoming(root: string, name: string): Promise<string> {
  const folder = join(root, INCOMING);
  await mkdir(folder, { recursive: true });
  return join(folder, `${name}+${randomUUID()}`);
}

export async function fetchInto(
  directory: string,
  { url, header }: GitAccess,
  { path, git, signal }: Omit<CopyOptions, "root">,
): Promise<void> {
  const run = {
    ...git,
    signal,
    timeoutMs: FETCH_MS,
    config: [
      ...(git.config ?? []),
      ...FETCH_CONFIG,
      // A longer match than any rewriting of addresses in the repository's own configuration.
      [`url.${url}.insteadOf`, url] as const,
      ["http.extraHeader", header] as const,
    ],
  };
  const args = (atomic: boolean) => [
    `--git-dir=${directory}`,
    "fetch",
    "--quiet",
    "--prune",
    "--no-tags",
    ...(atomic ? ["--atomic"] : []),
    "--force",
    "--update-shallow",
    "--update-head-ok",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
    "--",
    url,
    "+refs/*:refs/*",
  ];
  const atomic = await runGit(args(true), run);
  if (atomic.code === 0) return;
  // A branch `a` that became `a/b` cannot change in one transaction: deleted first, then made.
  const second = await runGit(args(false), run);
  if (second.code === 0) return;
  const words = second.stderr.slice(-800) || `exit code ${second.code}`;
  const full = /No space left on device|Disk quota exceeded/.test(words);
  throw new CleaveError(full ? "DISK_FULL" : "REPOSITORY_UNREADABLE", `${path} cannot be fetched: ${words}`);
}

export async function applyFiles(
  directory: string,
  files: RepositoryFiles,
  { keepHead }: { readonly keepHead: boolean },
): Promise<void> {
  if (!keepHead) await writeHead(directory, files.head);
  await writeConfig(directory, files.config);
  await writeAttributes(directory, files.attributes);
  await writeHooks(directory, files.hooks);
}

export async function discard(root: string, path: string, name: string): Promise<void> {
  // Out of sight at once, whatever its size.
  const trash = await incoming(root, name);
  await rename(join(root, path), trash).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rm(trash, { recursive: true, force: true });
}

/** Only what a mirror of that name made. */
export async function removeUnfinished(root: string, name: string): Promise<void> {
  const folder = join(root, INCOMING);
  // As an earlier version named them: whosever they were, nobody makes them any more.
  for (const entry of await readdir(folder).catch(() => []))
    if (entry.startsWith(`${name}+`) || entry.endsWith(".git"))
      await rm(join(folder, entry), { recursive: true, force: true });
  await rmdir(folder).catch(() => undefined);
}

/** It is this Pod's own from now on. */
export async function removeMark(directory: string): Promise<void> {
  await rm(join(directory, MARKER), { force: true });
}

export async function isMadeFor(directory: string, migrationId: MigrationId): Promise<boolean> {
  const text = await readFile(join(directory, MARKER), "utf8").catch(() => "");
  return text.trimEnd() === migrationId;
}
