/** What must be true of the root, of git and of each repository before anything is copied. Changes nothing. */
import { access, constants, readdir, readFile, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { type CleaveError, toCleaveError } from "../../../../../protocol/errors.ts";
import type { Finding } from "../../../../../protocol/evidence.ts";
import { isNoItem } from "../../../common/root/volume-entries.ts";
import { finding } from "../finding.ts";
import { repositoryChecksum } from "./checksum.ts";
import { gitVersion, isOlder, OLDEST_GIT } from "./git-version.ts";
import { fileExists } from "./list.ts";
import { requireCarried } from "./refused.ts";
import { type FileHashes, readContents } from "./repository-files.ts";
import { type GitOptions, runGit } from "./run-git.ts";

/** Less than this is full for all purposes. */
const MIN_FREE_BYTES = 256 * 1024 * 1024;

async function checkGit(git: GitOptions): Promise<Finding[]> {
  const version = await gitVersion(git).catch((error: unknown) => toCleaveError(error));
  if (version === null || version instanceof Error)
    return [finding("CONFIG_INVALID", `git: ${version?.message ?? "its version is not known"}`)];
  if (!isOlder(version, OLDEST_GIT)) return [];
  return [finding("CONFIG_INVALID", `git ${version.join(".")} is older than ${OLDEST_GIT.join(".")}`)];
}

export async function checkSource(git: GitOptions): Promise<Finding[]> {
  const findings = await checkGit(git);
  const global = await runGit(["config", "--system", "--get", "core.hooksPath"], {
    ...git,
    environment: { GIT_CONFIG_NOSYSTEM: "0" },
  });
  if (global.stdout.length > 0)
    findings.push(finding("REPOSITORY_HOOK_DISABLED", "core.hooksPath is set for the whole system"));
  return findings;
}

export async function checkTarget(root: string, git: GitOptions, mustBeEmpty: boolean): Promise<Finding[]> {
  const findings = await checkGit(git);
  try {
    const entries = await readdir(root).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      // It will be made: what counts is whether it can be.
      await access(dirname(root), constants.W_OK | constants.X_OK);
      return [];
    });
    const first = entries.find((name) => !isNoItem(name));
    if (first !== undefined && mustBeEmpty)
      findings.push(finding("GIT_NOT_EMPTY", `${root} is not empty: it has ${JSON.stringify(first)}`));
    const place = (await fileExists(root)) ? root : dirname(root);
    await access(place, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = await statfs(place);
    if (bavail * bsize < MIN_FREE_BYTES)
      findings.push(
        finding("DISK_FULL", `${place} has only ${Math.round((bavail * bsize) / 2 ** 20)} MiB free`),
      );
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    findings.push(finding("FILE_PERMISSION", `${root}: ${message}`));
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
