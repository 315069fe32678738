/** How many bytes are below a folder. Links are not followed. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** As the disk counts them: blocks, not lengths. @throws the signal's reason. */
export async function diskBytes(folder: string, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    signal.throwIfAborted();
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
