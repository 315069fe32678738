/** What must be true of the root, of git and of each repository before anything is copied. Changes nothing. */
import { access, readdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { type CleaveError, toCleaveError } from "../../../../../protocol/errors.ts";
import type { Finding } from "../../../../../protocol/evidence.ts";
import { isNoItem } from "../../../common/root/volume-entries.ts";
import { spaceIn } from "../../../machine/space.ts";
import { finding } from "../../finding.ts";
import { repositoryChecksum } from "./checksum.ts";
import { gitVersion, isOlder, OLDEST_GIT } from "./git-version.ts";
import { requireCarried } from "./refused.ts";
import { type FileHashes, readContents } from "./repository-files.ts";
import { type GitOptions, runGit } from "./run-git.ts";

/** Less than this is full for all purposes. */
const MIN_FREE_BYTES = 256 * 1024 * 1024;

export async function checkProgram(git: GitOptions): Promise<Finding[]> {
  const version = await gitVersion(git).catch((error: unknown) => toCleaveError(error));
  if (version === null || version instanceof Error)
    return [finding("CONFIG_INVALID", `git: ${version?.message ?? "its version is not known"}`)];
  if (!isOlder(version, OLDEST_GIT)) return [];
  return [finding("CONFIG_INVALID", `git ${version.join(".")} is older than ${OLDEST_GIT.join(".")}`)];
}

export async function checkSource(git: GitOptions): Promise<Finding[]> {
  const findings = await checkProgram(git);
  const global = await runGit(["config", "--system", "--get", "core.hooksPath"], {
    ...git,
    environment: { GIT_CONFIG_NOSYSTEM: "0" },
  });
  if (global.stdout.length > 0)
    findings.push(finding("REPOSITORY_HOOK_DISABLED", "core.hooksPath is set for the whole system"));
  return findings;
}

export async function checkTarget(root: string, git: GitOptions, mustBeEmpty: boolean): Promise<Finding[]> {
  const findings = await checkProgram(git);
  try {
    const entries = await readdir(root).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      // It will be made: what counts is whether it can be, in a folder that is there.
      await access(dirname(root));
      return [];
    });
    const first = entries.find((name) => !isNoItem(name));
    if (first !== undefined && mustBeEmpty)
      findings.push(finding("GIT_NOT_EMPTY", `${root} is not empty: it has ${JSON.stringify(first)}`));
    const { freeBytes } = await spaceIn(root, { writable: true });
    if (freeBytes < MIN_FREE_BYTES)
      findings.push(finding("DISK_FULL", `${root} has only ${Math.round(freeBytes / 2 ** 20)} MiB free`));
  } catch (thrown) {
    const { message } = toCleaveError(thrown, "FILE_PERMISSION");
    findings.push(finding("FILE_PERMISSION", message.startsWith(root) ? message : `${root}: ${message}`));
  }
  return findings;
}

/** @param path as messages name it */
export async function checkRepository(
  directory: string,
  path: string,
  git: GitOptions,
  hashes: FileHashes,
): Promise<Finding[]> {
  try {
    const { files } = await readContents(directory, hashes, { content: false });
    await requireCarried(directory, files, git);
    const sum = await repositoryChecksum(directory, git);
    if (sum.reason === "unreadable") return [finding("REPOSITORY_UNREADABLE", `${path}: ${sum.detail}`)];
    const config = await readFile(`${directory}/config`, "latin1").catch(() => "");
    const worktree = await readFile(`${directory}/config.worktree`, "latin1").catch(() => "");
    if (!/hookspath/i.test(`${config}${worktree}`)) return [];
    const hooks = await runGit([`--git-dir=${directory}`, "config", "--get", "core.hooksPath"], git);
    if (hooks.code !== 0) return [];
    return [finding("REPOSITORY_HOOK_DISABLED", `${path} has core.hooksPath: no hook of its own is run`)];
  } catch (thrown) {
    const error: CleaveError = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
    return [finding(error.code, `${path}: ${error.message}`)];
  }
}
