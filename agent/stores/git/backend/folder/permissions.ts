/** Modes and owners of copies: a copy is open to nobody to whom the original is not. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { giveTo, type Owner } from "../../../common/backend/folder/give-to.ts";

/** Of many files alike some tell. */
const FOLDERS = 64;
const FILES_PER_FOLDER = 8;
const PACKS = 64;

/**
 * What git's own files and folders in a repository have at least in common, as `core.sharedRepository` says it: 0o644,
 * 0o600, 0o664. Read from its objects and folders of refs; what differs among them counts as the narrowest.
 */
export async function permissionsOf(gitDirectory: string): Promise<number> {
  let folder = 0o777;
  let file = 0o444;
  const look = async (path: string) => {
    const found = await lstat(path).catch(() => null);
    if (found?.isDirectory()) folder &= found.mode;
    else if (found?.isFile()) file &= found.mode;
    return found?.isDirectory() ?? false;
  };
  const objects = join(gitDirectory, "objects");
  await look(gitDirectory);
  await look(objects);
  for (const name of ["refs", "refs/heads", "refs/tags"]) await look(join(gitDirectory, name));
  for (const name of (await readdir(objects).catch(() => [])).slice(0, FOLDERS)) {
    if (!(await look(join(objects, name))) || name === "info") continue;
    const files = await readdir(join(objects, name)).catch(() => []);
    const some = files.filter((entry) => !entry.startsWith("tmp_"));
    for (const entry of some.slice(0, name === "pack" ? PACKS : FILES_PER_FOLDER))
      await look(join(objects, name, entry));
  }
  const read = file & 0o444;
  return (folder & 0o666 & (read | (read >> 1))) | 0o600;
}

/** What git takes without being told. */
export function isNatural(permissions: number): boolean {
  return permissions === (0o666 & ~process.umask());
}

/** Everything below the folder, and the folder. */
export async function giveTreeTo(folder: string, owner: Owner): Promise<void> {
  // Nobody but root may give anything away; a group comes from the folder above (setgid).
  if (process.getuid?.() !== 0) return;
  const pending = [Buffer.from(folder)];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    await giveTo(next, owner);
    const entries = await readdir(next, { withFileTypes: true, encoding: "buffer" } as never);
    for (const entry of entries as unknown as { name: Buffer; isDirectory(): boolean }[]) {
      const path = Buffer.concat([next, Buffer.from("/"), entry.name]);
      if (entry.isDirectory()) pending.push(path);
      else
        await giveTo(path, owner).catch((error: NodeJS.ErrnoException) => {
          // A temporary file that is gone.
          if (error.code !== "ENOENT") throw error;
        });
    }
  }
}
