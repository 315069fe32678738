/** Objects that a repository reads from others (forks, pools): whoever lends them must stay as long as it does. */
import { lstat, readFile, realpath } from "node:fs/promises";
import { isAbsolute, join, relative, resolve } from "node:path";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { isRepositoryPath } from "../../inventory/repository-path.ts";
import { notAFile } from "./symbolic-refs.ts";

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** As git writes a path that has special characters. */
function unquote(line: string): string {
  if (!line.startsWith('"')) return line;
  const inner = line.slice(1).replace(/"[^"]*$/, "");
  const text = inner.replace(/\\([0-7]{3}|.)/g, (_all, escaped: string) =>
    escaped.length === 3 ? String.fromCharCode(Number.parseInt(escaped, 8)) : (ESCAPES[escaped] ?? escaped),
  );
  return Buffer.from(text, "latin1").toString();
}

async function realOrNull(path: string): Promise<string | null> {
  try {
    return await realpath(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

/**
 * Absolute paths of foreign folders of objects, each as it is written and as it really is.
 * @throws CleaveError REPOSITORY_UNREADABLE when nobody can say what it borrows.
 */
async function borrowedFolders(gitDirectory: string): Promise<string[]> {
  try {
    const found: string[] = [];
    const objects = join(gitDirectory, "objects");
    const [directory, realObjects] = await Promise.all([realOrNull(gitDirectory), realOrNull(objects)]);
    if (directory === null || realObjects === null) return [];
    if (realObjects !== join(directory, "objects")) found.push(realObjects);
    const alternates = join(realObjects, "info", "alternates");
    const isFile = await lstat(alternates).then(
      (found) => found.isFile() || found.isSymbolicLink(),
      () => true,
    );
    if (!isFile) throw notAFile("objects/info/alternates");
    // Latin-1 keeps bytes apart that are no UTF-8; `unquote` and the line below turn them back.
    const text = await readFile(alternates, "latin1").catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
      throw error;
    });
    for (const line of text.split("\n")) {
      if (line === "" || line.startsWith("#")) continue;
      const path = line.startsWith('"') ? unquote(line) : Buffer.from(line, "latin1").toString();
      for (const base of isAbsolute(path) ? [""] : [objects, realObjects]) {
        const written = resolve(base, path);
        const real = await realOrNull(written);
        found.push(written, ...(real === null ? [] : [real]));
      }
    }
    return [...new Set(found)];
  } catch (error) {
    throw new CleaveError(
      "REPOSITORY_UNREADABLE",
      `nobody can say which repositories ${gitDirectory} borrows objects from: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** Paths of the repositories below the root that this one borrows from. @throws CleaveError REPOSITORY_UNREADABLE. */
export async function lendersOf(root: string, path: string): Promise<string[]> {
  const folders = await borrowedFolders(join(root, path));
  if (folders.length === 0) return [];
  const realRoot = await realpath(root);
  const lenders = new Set<string>();
  for (const folder of folders)
    for (const from of [realRoot, root]) {
      const lender = /^(?:.*?[^/])\.git(?=\/|$)/.exec(relative(from, folder))?.[0];
      if (lender !== undefined && lender !== path && isRepositoryPath(lender)) lenders.add(lender);
    }
  return [...lenders];
}
