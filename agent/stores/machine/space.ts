/** How full the disk below a folder is. */
import { access, constants, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { CleaveError } from "../../../protocol/errors.ts";
import type { Space } from "../common/root/identity.ts";

/**
 * A folder that will be made counts as the one that it will be made in.
 * @throws CleaveError FILE_PERMISSION when that is not a folder that may be looked at or, with `writable`, written.
 */
export async function spaceIn(path: string, { writable }: { readonly writable: boolean }): Promise<Space> {
  try {
    const there = await existing(path);
    if (writable) await access(there, constants.W_OK | constants.X_OK);
    const { bavail, blocks, bsize } = await statfs(there);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch (error) {
    throw new CleaveError("FILE_PERMISSION", `${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function existing(path: string): Promise<string> {
  for (let place = path; ; place = dirname(place)) {
    const there = await stat(place).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT" && place !== dirname(place)) return false;
        throw error;
      },
    );
    if (there) return place;
  }
}
