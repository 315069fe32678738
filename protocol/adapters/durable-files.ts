/**
 * Small files that are replaced as a whole and survive a power cut. A rename is on the disk only when the folder is synced
 * as well: until then a crash may show the old name, the new one, or none.
 */
import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import writeFileAtomic from "write-file-atomic";

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

/** What the folder names is on the disk when it resolves; what is in those files is not meant. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The content and length of one file are on the disk when it resolves. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the folder and those above it that are missing; each is named durably by the one above it when it resolves. */
export async function makeFolders(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  const end = dirname(first);
  for (let folder = dirname(path); folder.length >= end.length; folder = dirname(folder)) {
    await syncFolder(folder);
    if (folder === end) return;
  }
}

/** What was at `to` is replaced. The content of what is renamed is not meant: sync it before. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
  if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
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
      await makeFolders(dirname(path));
      await rename(temporary, path);
    }
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (options.durable) await syncFolder(dirname(path));
}

/**
 * The same beside the file itself, and in turn: of several calls for one path the last one's content stays. Durable when it
 * resolves.
 */
export async function replaceDurably(path: string, content: string | Buffer): Promise<void> {
  await writeFileAtomic(path, content, { fsync: true });
  // The library syncs the file alone.
  await syncFolder(dirname(path));
}
