import { cp, rm } from "node:fs/promises";

/**
 * Removes a folder that somebody may be writing into at this moment, as `rm -rf` that is given again does: an agent
 * that puts a hook back or writes down what it knows is not what such a test is about.
 */
export function removeLive(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 10 });
}

/** Copies a folder that somebody may be writing into at this moment: begun again when something went meanwhile. */
export async function copyLive(from: string, to: string): Promise<void> {
  for (let attempt = 1; ; attempt++)
    try {
      return await cp(from, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || attempt === 20) throw error;
      await removeLive(to);
    }
}
