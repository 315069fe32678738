/** Finds the repositories below a folder, without following a link. */
import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import picomatch from "picomatch";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { isNoItem } from "../../../common/root/volume-entries.ts";
import { isRepositoryPath, OWN_FOLDER } from "../../inventory/repository-path.ts";

/** The agent's own folder in the root. On the same file system by design. */
export const INCOMING = OWN_FOLDER;
const MAX_DEPTH = 12;

export type Ignored = (path: string) => boolean;

export function ignoring(patterns: readonly string[]): Ignored {
  const matches = patterns.map((pattern) => picomatch(pattern, { dot: true, nonegate: true }));
  return (path) =>
    path === INCOMING ||
    path.startsWith(`${INCOMING}/`) ||
    matches.some((match) => match(path) || match(`${path}/x`));
}

export interface FolderListing {
  readonly repositories: string[];
  /** Folders that are no repositories and may contain some. */
  readonly folders: string[];
  /** What cannot be handled and must not be overlooked: links, names that are not UTF-8, and the like. */
  readonly problems: string[];
}

/**
 * What is in one folder of the tree (`""` is the root). A folder that vanished has nothing in it; the root does not vanish.
 * @throws CleaveError ROOT_UNREADABLE.
 */
export async function listFolder(root: string, folder: string, ignored: Ignored): Promise<FolderListing> {
  const listing: FolderListing = { repositories: [], folders: [], problems: [] };
  let entries: Dirent[];
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && folder !== "") return listing;
    throw new CleaveError("ROOT_UNREADABLE", message, { cause: error });
  }
  // A repository under another name would be overlooked, with everything that is in it.
  if (entries.some((e) => e.name === "HEAD") && entries.some((e) => e.name === "objects")) {
    listing.problems.push(
      `${folder || "the root itself"} is a repository, but its name does not end in .git`,
    );
    return listing;
  }
  for (const entry of entries) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (ignored(path) || (folder === "" && isNoItem(entry.name))) continue;
    if (entry.isSymbolicLink()) listing.problems.push(`${path} is a symbolic link, which is not followed`);
    else if (!entry.isDirectory()) continue;
    else if (entry.name.endsWith(".git")) {
      if (isRepositoryPath(path)) listing.repositories.push(path);
      else listing.problems.push(`${JSON.stringify(path)} is not a usable repository path`);
    } else if (entry.name.includes("\ufffd") || path.split("/").length > MAX_DEPTH)
      listing.problems.push(`${JSON.stringify(path)} is not UTF-8 or too deep`);
    else listing.folders.push(path);
  }
  return listing;
}

/** All repositories below the root, folder by folder. */
export async function scanRoot(
  root: string,
  ignored: Ignored,
  signal?: AbortSignal,
): Promise<{ repositories: string[]; folders: string[]; problems: string[] }> {
  const found: FolderListing = { repositories: [], folders: [], problems: [] };
  const pending = [""];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    signal?.throwIfAborted();
    const listing = await listFolder(root, folder, ignored);
    found.folders.push(folder);
    found.repositories.push(...listing.repositories);
    found.problems.push(...listing.problems);
    pending.push(...listing.folders);
  }
  return found;
}

/** Of a repository: what is in its folder and in that of its objects, without what a git has while it works. */
export async function partsOf(gitDirectory: string): Promise<string[]> {
  const names: string[] = [];
  for (const folder of ["", "objects", "objects/pack"])
    for (const name of await readdir(join(gitDirectory, folder)).catch(() => []))
      if (!/\.lock$|^tmp_|^\.|incoming/.test(name)) names.push(`${folder}/${name}`);
  return names;
}

export async function folderExists(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw error;
  }
}

export async function fileExists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
