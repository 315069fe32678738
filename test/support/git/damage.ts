/** What a disk may do to a repository's objects: nothing of it is in a reference, a length or a time of modification. */
import { chmod, open, readdir, readFile, rm, stat, truncate, utimes } from "node:fs/promises";
import { join } from "node:path";
import { removeLive } from "../remove-live.ts";
import { mustGit } from "./pod.ts";

/** A loose object, or the pack; as a path. */
async function fileOfObjects(directory: string, kind: "loose" | "pack"): Promise<string> {
  const folder = join(directory, "objects");
  if (kind === "pack") {
    await mustGit(["-C", directory, "repack", "-adq"]);
    const pack = (await readdir(join(folder, "pack"))).find((name) => name.endsWith(".pack"));
    if (pack === undefined) throw new Error(`${directory} has no pack`);
    return join(folder, "pack", pack);
  }
  // The empty tree is known to git itself: nothing is lost with it.
  const fan = (await readdir(folder)).find((name) => /^[0-9a-f]{2}$/.test(name) && name !== "4b");
  if (fan === undefined) throw new Error(`${directory} has no loose object`);
  const [name = ""] = await readdir(join(folder, fan));
  return join(folder, fan, name);
}

async function rewriteInPlace(path: string, change: (bytes: Buffer) => void): Promise<void> {
  await chmod(path, 0o644);
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  change(bytes);
  const file = await open(path, "r+");
  await file.write(bytes, 0, bytes.length, 0);
  await file.close();
  await utimes(path, atime, mtime);
}

/** By what happens: to the repository in that folder. */
export const DAMAGE: Readonly<Record<string, (directory: string) => Promise<void>>> = {
  "a loose object emptied, as after a power loss": async (directory) => {
    const path = await fileOfObjects(directory, "loose");
    await chmod(path, 0o644);
    await truncate(path);
  },
  "a flipped bit in a pack": async (directory) =>
    rewriteInPlace(await fileOfObjects(directory, "pack"), (bytes) => {
      const middle = bytes.length >> 1;
      bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    }),
  "a zeroed loose object": async (directory) =>
    rewriteInPlace(await fileOfObjects(directory, "loose"), (bytes) => bytes.fill(0)),
  "a truncated pack": async (directory) => {
    const path = await fileOfObjects(directory, "pack");
    await chmod(path, 0o644);
    await truncate(path, 40);
  },
  "a missing object": async (directory) => rm(await fileOfObjects(directory, "loose")),
  "a missing repository": (directory) => removeLive(directory),
};
