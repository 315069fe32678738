/** Reads all that two Pods compare of a repository. */
import type { RepositoryReading } from "../backend.ts";
import { digestFiles } from "../repository-files.ts";
import { repositoryChecksum } from "./checksum.ts";
import { fingerprint, headFingerprint } from "./fingerprint.ts";
import type { Glances } from "./glance.ts";
import { folderExists } from "./list.ts";
import { requireCarried } from "./refused.ts";
import { type FileHashes, readContents } from "./repository-files.ts";
import type { GitOptions } from "./run-git.ts";

export interface ReadingTools {
  readonly git: GitOptions;
  readonly hashes: FileHashes;
  readonly glances: Glances;
  /** Milliseconds since 1970: see `fingerprint`. */
  readonly now: () => number;
}

/**
 * Null when there is no folder. @param path of the repository, below its root
 * @throws CleaveError REPOSITORY_UNREADABLE when it is no repository, REPOSITORY_NOT_CARRIED; errors of the file system.
 */
export async function readRepository(
  gitDirectory: string,
  path: string,
  { git, hashes, glances, now }: ReadingTools,
): Promise<RepositoryReading | null> {
  if (!(await folderExists(gitDirectory))) {
    glances.forget(path);
    return null;
  }
  const headVersion = headFingerprint(gitDirectory);
  const before = glances.look(path, gitDirectory);
  const print = await fingerprint(gitDirectory, now());
  const { files, left, ...refs } = await readContents(gitDirectory, hashes, { content: false });
  await requireCarried(gitDirectory, files, git);
  const digests = digestFiles(files);
  const { reason, checksum, refsDigest, detail } = await repositoryChecksum(gitDirectory, git);
  glances.note(path, files, refs);
  let glance = glances.look(path, gitDirectory);
  // Only what nothing changed in meanwhile is said to be as it was read.
  if (print.racy) glance = null;
  else if (glance !== before && (await fingerprint(gitDirectory, now())).digest !== print.digest)
    glance = null;
  return {
    state: { reason, checksum, refs: refsDigest, detail, ...digests },
    version: print.racy ? null : print.digest,
    headVersion,
    glance,
    locks: print.locks,
    left,
  };
}
