/**
 * Brings refs and objects of another Pod's repository into a copy. Git runs in a view of the copy that has a
 * configuration of the agent's own: the copy's is the users' data, may forbid or redirect anything, and is never read.
 */

import { randomUUID } from "node:crypto";
import { lstat, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { codeOfWords } from "../../../common/file-error.ts";
import type { GitAccess, WantedRefs } from "../backend.ts";
import { beginWriting, endWriting } from "./own-locks.ts";
import { isNatural, permissionsOf } from "./permissions.ts";
import { objectFormatOf } from "./repository-files.ts";
import { type GitOptions, type GitResult, mustRunGit, runGit } from "./run-git.ts";
import { removeOtherSymbolicRefs, writeSymbolicRefs } from "./symbolic-refs.ts";

const FETCH_MS = 24 * 3_600_000;

const FETCH_CONFIG = [
  ["core.hooksPath", "/dev/null"],
  // From 2.36 on; what git leaves is synced by whoever fetches.
  ["core.fsync", "all"],
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

export interface FetchOptions {
  /** Of the copy. */
  readonly directory: string;
  /** Where views are made: a folder of the agent's own on the same file system. */
  readonly workspace: string;
  /** A repository's path, for messages. */
  readonly path: string;
  readonly git: GitOptions;
  readonly signal: AbortSignal;
}

/** Refs and symbolic refs become what `wanted` says; the commit of a detached HEAD comes along. */
export async function fetchInto(
  { url, header }: GitAccess,
  wanted: WantedRefs,
  options: FetchOptions,
): Promise<void> {
  const { directory, path, git, signal } = options;
  await beginWriting(directory);
  const view = await makeView(options);
  try {
    await removeOtherSymbolicRefs(directory, wanted.symbolicRefs);
    const run = {
      ...git,
      signal,
      timeoutMs: FETCH_MS,
      environment: { ...git.environment, GIT_OBJECT_DIRECTORY: join(directory, "objects") },
      config: [...(git.config ?? []), ...FETCH_CONFIG, ["http.extraHeader", header] as const],
      onStart: (pid: number) => beginWriting(directory, pid),
    };
    const args = (atomic: boolean) => [
      `--git-dir=${view}`,
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
      "--stdin",
      "--",
      url,
    ];
    const input = refspecs(wanted);
    const first = await runGit(args(true), { ...run, input });
    // A branch `a` that became `a/b` cannot change in one transaction: deleted first, then made.
    const last = isAboutNames(first) ? await runGit(args(false), { ...run, input }) : first;
    if (last.code !== 0) {
      const words = last.stderr.slice(-800) || `exit code ${last.code}`;
      throw new CleaveError(
        codeOfWords(words) ?? "REPOSITORY_UNREADABLE",
        `${path} cannot be fetched: ${words}`,
      );
    }
    if (wanted.symbolicRefs.length > 0) {
      // What was an ordinary ref until now would be there again when the symbolic one goes.
      const deletions = wanted.symbolicRefs.map(({ name }) => `delete ${name}\0\0`).join("");
      const input = Buffer.from(deletions, "latin1");
      await mustRunGit([`--git-dir=${view}`, "update-ref", "--no-deref", "--stdin", "-z"], { ...run, input });
      await writeSymbolicRefs(directory, wanted.symbolicRefs);
    }
    await endWriting(directory);
  } finally {
    await rm(view, { recursive: true, force: true });
  }
}

/** Whatever else failed would fail once more, after fetching everything once more. */
function isAboutNames({ code, stderr }: GitResult): boolean {
  return (
    code !== 0 &&
    /cannot lock ref|could not be updated|exists; cannot create|file\/directory conflict/.test(stderr)
  );
}

/** All refs but those that follow others, which are not fetched but made. */
function refspecs({ head, symbolicRefs }: WantedRefs): Buffer {
  const lines = ["+refs/*:refs/*", ...symbolicRefs.map(({ name }) => `^${name}`)];
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(head)) lines.push(head);
  return Buffer.from(`${lines.join("\n")}\n`, "latin1");
}

/** A git directory with the copy's refs and the agent's configuration. */
async function makeView({ directory, workspace }: FetchOptions): Promise<string> {
  const view = join(workspace, `view-${randomUUID()}`);
  await mkdir(view, { recursive: true });
  // What is behind a link would be changed instead.
  if (!(await lstat(join(directory, "refs"))).isDirectory())
    throw new CleaveError("REPOSITORY_UNREADABLE", `${directory}/refs is no folder`);
  for (const name of ["refs", "packed-refs", "shallow"])
    await symlink(join(directory, name), join(view, name));
  await writeFile(join(view, "HEAD"), await readFile(join(directory, "HEAD")));
  const permissions = await permissionsOf(directory);
  const sha256 = (await objectFormatOf(directory)) === "sha256";
  const lines = [
    "[core]",
    `\trepositoryFormatVersion = ${sha256 ? 1 : 0}`,
    "\tbare = true",
    ...(isNatural(permissions) ? [] : [`\tsharedRepository = 0${permissions.toString(8)}`]),
    ...(sha256 ? ["[extensions]", "\tobjectFormat = sha256"] : []),
  ];
  await writeFile(join(view, "config"), `${lines.join("\n")}\n`);
  return view;
}
