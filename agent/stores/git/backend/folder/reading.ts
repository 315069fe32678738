/** Reads all that two Pods compare of a repository. */
import type { RepositoryReading } from "../backend.ts";
import { digestFiles } from "../repository-files.ts";
import { repositoryChecksum } from "./checksum.ts";
import { fingerprint, headFingerprint } from "./fingerprint.ts";
import { folderExists } from "./list.ts";
import { readRepositoryFiles } from "./repository-files.ts";
import type { GitOptions } from "./run-git.ts";

/**
 * Null when there is no folder. @param now milliseconds since 1970: see `fingerprint`
 * @throws CleaveError REPOSITORY_UNREADABLE when it is no repository; errors of the file system.
 */
export async function readRepository(
  gitDirectory: string,
  git: GitOptions,
  now: () => number,
): Promise<RepositoryReading | null> {
  if (!(await folderExists(gitDirectory))) return null;
  const headVersion = headFingerprint(gitDirectory);
  const print = await fingerprint(gitDirectory, now());
  const files = digestFiles(await readRepositoryFiles(gitDirectory));
  const { reason, checksum, refsDigest, detail } = await repositoryChecksum(gitDirectory, git);
  return {
    state: { reason, checksum, refs: refsDigest, detail, ...files },
    version: print.racy ? null : print.digest,
    headVersion,
    locks: print.locks,
  };
}
