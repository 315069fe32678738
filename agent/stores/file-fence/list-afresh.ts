/** Folders of the fence as they are now, also on file systems that other machines write. */
import { randomUUID } from "node:crypto";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSystemAt } from "../machine/file-systems.ts";

/** Folder → whether this kernel's own listing of it is always the newest. */
const listedByCache = new Map<string, Promise<boolean>>();

/**
 * The names in a folder as they are now. On a file system that others write too, the kernel may answer from a listing that
 * is seconds old, unless this machine has just changed the folder itself: so it does. Names that begin with a dot are left
 * out.
 */
export async function listAfresh(folder: string): Promise<string[]> {
  let cached = listedByCache.get(folder);
  if (cached === undefined) {
    cached = fileSystemAt(folder).then(({ isLocal }) => !isLocal);
    listedByCache.set(folder, cached);
    cached.catch(() => listedByCache.delete(folder));
  }
  if (await cached) {
    const own = join(folder, `.look-${randomUUID()}`);
    await writeFile(own, "", { flag: "wx" });
    await rm(own, { force: true });
  }
  return (await readdir(folder)).filter((name) => !name.startsWith("."));
}
