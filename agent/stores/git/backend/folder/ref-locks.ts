/** Locks that a git transaction holds from before its hook says `prepared` until all that it does to refs is done. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSystemAt } from "../../../machine/file-systems.ts";
import { OWN_LOCK } from "./head-locks.ts";

/** Below these any file `*.lock` is one: no ref may have such a name. */
const TREES = ["refs", "worktrees"];

/**
 * Whether nothing here is locked, which proves that no transaction is under way, whoever's it would be. Said only where
 * this kernel lists what is there and no cache does. @throws when the repository cannot be read, or is not there: it may
 * have been moved with its writer.
 */
export async function holdsNoLock(gitDirectory: string): Promise<boolean> {
  if (!(await fileSystemAt(gitDirectory)).isLocal) return false;
  for (const name of await readdir(gitDirectory))
    if (name.endsWith(".lock") && !(await isOwn(join(gitDirectory, name)))) return false;
  for (const tree of TREES)
    if (await hasLock(Buffer.from(join(gitDirectory, tree)).toString("latin1"))) return false;
  return true;
}

async function isOwn(path: string): Promise<boolean> {
  return path.endsWith("/HEAD.lock") && (await readFile(path, "latin1").catch(() => "")) === OWN_LOCK;
}

async function hasLock(folder: string): Promise<boolean> {
  // Names are bytes: Latin-1 turns back into the same ones.
  const entries = await readdir(Buffer.from(folder, "latin1"), {
    withFileTypes: true,
    encoding: "latin1",
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
    throw error;
  });
  for (const entry of entries) {
    if (entry.name.endsWith(".lock")) return true;
    if (entry.isDirectory() && (await hasLock(`${folder}/${entry.name}`))) return true;
  }
  return false;
}
