/**
 * Git's own files have to be files: whoever opens a pipe waits for its other end, and that is for ever, in git as in the
 * agent. Asked before either reads any of them.
 */
import type { Dirent } from "node:fs";
import { lstat, readdir, stat } from "node:fs/promises";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { notAFile } from "./symbolic-refs.ts";

const FILES = ["HEAD", "packed-refs", "shallow"];
/** Of these folders git opens whatever has a name that it knows. */
const OF_OBJECTS = ["objects/info", "objects/pack", "objects/info/commit-graphs"];

/** @throws CleaveError REPOSITORY_NOT_CARRIED, REPOSITORY_UNREADABLE with the name of what is not what it has to be. */
export async function requireOrdinary(gitDirectory: string): Promise<void> {
  for (const name of FILES) {
    const found = await orNull(lstat(`${gitDirectory}/${name}`));
    if (found?.isDirectory())
      throw new CleaveError("REPOSITORY_UNREADABLE", `its ${name} is a folder, and has to be a file`);
    if (found !== null && !found.isFile() && !found.isSymbolicLink()) throw notAFile(name);
  }
  for (const name of ["objects", "refs"])
    if (!(await orNull(stat(`${gitDirectory}/${name}`)))?.isDirectory())
      throw new CleaveError(
        "REPOSITORY_UNREADABLE",
        `it has no folder ${name}: it is no repository, or damaged`,
      );
  for (const folder of OF_OBJECTS) {
    const entries = await orNull(readdir(`${gitDirectory}/${folder}`, { withFileTypes: true }));
    for (const entry of entries ?? []) if (!isOrdinary(entry)) throw notAFile(`${folder}/${entry.name}`);
  }
}

function isOrdinary(entry: Dirent): boolean {
  return entry.isFile() || entry.isDirectory() || entry.isSymbolicLink();
}

async function orNull<T>(found: Promise<T>): Promise<T | null> {
  return found.catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  });
}
