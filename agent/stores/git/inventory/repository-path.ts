/** Names of repositories: relative paths below the Git root. They come from disks, databases and other Pods: hostile. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { isNoItem } from "../../common/root/volume-entries.ts";

/** The agent's own folder in the root: repositories that are not complete yet, or no more. */
export const OWN_FOLDER = "+cleave";

/** Why no repository of this path is carried; null when one is. */
export function carriedPathFault(path: string): string | null {
  if (path.startsWith(`${OWN_FOLDER}/`))
    return `it begins with \`${OWN_FOLDER}\`, which is Cleave's own folder`;
  const [first = ""] = path.split("/");
  if (isNoItem(first))
    return `it lies in ${JSON.stringify(first)}, which is a volume's own and never carried`;
  return repositoryPathFault(path);
}

/** Why a text is not the path of a repository; null when it is one. */
export function repositoryPathFault(path: string): string | null {
  if (Buffer.byteLength(path) > 900) return "it has more than 900 bytes";
  if (!path.isWellFormed() || path.includes("\ufffd")) return "it is not well-formed Unicode";
  if (/[\u0000-\u001f\u007f\\]/.test(path)) return "it has a control character or a backslash";
  if (!/[^/]\.git$/.test(path)) return "it does not end in `.git`";
  const segments = path.split("/");
  if (segments.includes("")) return "it is absolute or has two slashes in a row";
  if (segments.includes(".") || segments.includes("..")) return "it has a segment `.` or `..`";
  if (segments.some((s) => Buffer.byteLength(s) > 255)) return "it has a segment of more than 255 bytes";
  if (segments.slice(0, -1).some((s) => s.endsWith(".git"))) return "it lies in another repository";
  return null;
}

/** Relative, `/` between segments, ends in `.git`, no `.` or `..`, no control characters, at most 900 bytes. */
export function isRepositoryPath(path: string): boolean {
  return repositoryPathFault(path) === null;
}

/** @throws CleaveError REPOSITORY_UNREADABLE when it is not one. */
export function checkRepositoryPath(path: string): string {
  if (isRepositoryPath(path)) return path;
  throw new CleaveError(
    "REPOSITORY_UNREADABLE",
    `not a repository path: ${JSON.stringify(path.slice(0, 200))}`,
  );
}
