/** Small files that are replaced as a whole and survive a power cut, and folders of them as they are now. */
import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileSystemAt } from "./file-systems.ts";

/** The content, or null when there is no such file. */
export async function readIfPresent(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Readers see the old content or the new one. With `durable`, file and folder are synced when it resolves. */
export async function replaceFile(
  path: string,
  content: string,
  options: { readonly temporaryFolder: string; readonly durable: boolean },
): Promise<void> {
  const temporary = join(options.temporaryFolder, randomUUID());
  try {
    const file = await open(temporary, "wx", 0o644);
    try {
      await file.writeFile(content);
      if (options.durable) await file.sync();
    } finally {
      await file.close();
    }
    try {
      await rename(temporary, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      await mkdir(dirname(path), { recursive: true });
      await rename(temporary, path);
    }
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (options.durable) await syncFolder(dirname(path));
}

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
