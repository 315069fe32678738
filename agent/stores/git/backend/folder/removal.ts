/** Dormant repositories go out of sight by one rename each, and are deleted afterwards. */
import { mkdir, realpath, rm, rmdir } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { renameDurably, syncFolder } from "../../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { checkRepositoryPath } from "../../inventory/repository-path.ts";
import { folderExists, INCOMING, scanRoot } from "./list.ts";

/** Renamed repositories, under their own paths, so that the next process knows which they were. */
function trashOf(root: string, migrationId: MigrationId): string {
  return join(root, INCOMING, `removed-${migrationId}`);
}

/** @throws CleaveError REPOSITORY_UNREADABLE when a folder on the way is a link, which may lead anywhere. */
async function requireNoLink(root: string, folder: string): Promise<void> {
  const real = await realpath(folder).catch(() => null);
  if (real !== null && real !== join(await realpath(root), relative(root, folder)))
    throw new CleaveError(
      "REPOSITORY_UNREADABLE",
      `${folder} leads through a link: nothing is removed there`,
    );
}

export async function hideRepository(root: string, path: string, migrationId: MigrationId): Promise<void> {
  const directory = join(root, checkRepositoryPath(path));
  await requireNoLink(root, dirname(directory));
  const trash = join(trashOf(root, migrationId), path);
  await mkdir(dirname(trash), { recursive: true });
  await renameDurably(directory, trash).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT" || (await folderExists(directory))) throw error;
  });
}

export async function hiddenRepositories(root: string, migrationId: MigrationId): Promise<string[]> {
  const trash = trashOf(root, migrationId);
  await requireNoLink(root, trash);
  if (!(await folderExists(trash))) return [];
  return (await scanRoot(trash, () => false)).repositories;
}

export async function deleteHidden(root: string, path: string, migrationId: MigrationId): Promise<void> {
  const hidden = join(trashOf(root, migrationId), checkRepositoryPath(path));
  await rm(hidden, { recursive: true, force: true, maxRetries: 3 });
}

export async function endHiding(root: string, migrationId: MigrationId): Promise<void> {
  await rm(trashOf(root, migrationId), { recursive: true, force: true });
  await rmdir(join(root, INCOMING)).catch(() => undefined);
  // What a power cut brings back from here on would stay for ever.
  await syncFolder((await folderExists(join(root, INCOMING))) ? join(root, INCOMING) : root);
}

/** `a/b` and `a` of `a/b/c.git`. */
export function foldersOf(path: string): string[] {
  const folder = dirname(path);
  return folder === "." ? [] : [folder, ...foldersOf(folder)];
}

/** @param folders below the root */
export async function removeEmptyFolders(root: string, folders: Iterable<string>): Promise<void> {
  // Deepest first; one that is not empty has something that is not ours.
  for (const folder of [...new Set(folders)].sort((a, b) => b.length - a.length))
    if (folder !== "") await rmdir(join(root, folder)).catch(() => undefined);
}
