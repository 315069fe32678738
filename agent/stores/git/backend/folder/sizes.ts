/** How many bytes are below a folder. Links are not followed. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Lengths of all files. @throws the signal's reason. */
export async function folderBytes(folder: string, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    signal.throwIfAborted();
    const found = await lstat(join(entry.parentPath, entry.name)).catch(() => null);
    if (found?.isFile()) bytes += found.size;
  }
  return bytes;
}

/** As the disk counts them: blocks, not lengths. */
export async function diskBytes(folder: string): Promise<number> {
  let bytes = 0;
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    for (const entry of await readdir(next, { withFileTypes: true })) {
      const path = join(next, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else {
        // A file that git has just replaced counts with the next one.
        const found = await lstat(path).catch(() => null);
        bytes += (found?.blocks ?? 0) * 512;
      }
    }
  }
  return bytes;
}
