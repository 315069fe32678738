/** Names of repositories: relative paths below the Git root. They come from disks, databases and other Pods: hostile. */
import { CleaveError } from "../../../../protocol/errors.ts";

/** Relative, `/` between segments, ends in `.git`, no `.` or `..`, no control characters, at most 900 bytes. */
export function isRepositoryPath(path: string): boolean {
  return (
    Buffer.byteLength(path) <= 900 &&
    path.isWellFormed() &&
    !/[\u0000-\u001f\u007f\ufffd\\]/.test(path) &&
    /[^/]\.git$/.test(path) &&
    path.split("/").every((s) => s !== "" && s !== "." && s !== ".." && Buffer.byteLength(s) <= 255) &&
    !path
      .split("/")
      .slice(0, -1)
      .some((segment) => segment.endsWith(".git"))
  );
}

/** @throws CleaveError REPOSITORY_UNREADABLE when it is not one. */
export function checkRepositoryPath(path: string): string {
  if (isRepositoryPath(path)) return path;
  throw new CleaveError(
    "REPOSITORY_UNREADABLE",
    `not a repository path: ${JSON.stringify(path.slice(0, 200))}`,
  );
}
