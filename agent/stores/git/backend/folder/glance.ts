/**
 * The last look at a repository when a fence goes up: times of the files and folders that the last reading found, without
 * waiting and without listing them again, some microseconds each. It finds what no hook is told of: an edited
 * configuration, a symbolic ref, a mode. What writers announce is read again anyway.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, type Stats, statSync } from "node:fs";
import { type Fate, fateOf } from "../contents.ts";
import type { RepositoryFiles } from "../repository-files.ts";
import { localPath, pathIn } from "./repository-files.ts";

export class Glances {
  /** By path of the repository: names below it. */
  readonly #names = new Map<string, readonly string[]>();

  /** From now on these are looked at. @param refs as `readRefTree` saw them */
  note(
    path: string,
    files: Pick<RepositoryFiles, "entries" | "symbolicRefs">,
    refs: { readonly refFolders: readonly string[]; readonly looseRefs: readonly string[] },
  ): void {
    const names = ["HEAD", "packed-refs", "shallow", ...refs.refFolders, ...refs.looseRefs];
    for (const { kind, path: name } of files.entries) if (kind !== "place") names.push(localPath(name));
    for (const { name } of files.symbolicRefs) names.push(name);
    this.#names.set(path, names);
  }

  forget(path: string): void {
    this.#names.delete(path);
  }

  /** Null when there is nothing to go by: it has not been read, or is gone. */
  look(path: string, gitDirectory: string): string | null {
    const names = this.#names.get(path);
    if (names === undefined) return null;
    try {
      const { mode } = statSync(gitDirectory);
      const objects = statSync(`${gitDirectory}/objects`).mode;
      const parts = [`${mode} ${objects}`];
      // A new one is told by no time of the others; of locks and other passing files nothing is said.
      for (const name of readdirSync(gitDirectory, { encoding: "latin1" }))
        if (!isPassing(name)) parts.push(name);
      for (const name of names) {
        const s = lstatSync(pathIn(gitDirectory, name), { throwIfNoEntry: false });
        parts.push(s === undefined ? "-" : timesOf(s));
      }
      return createHash("sha1").update(parts.join("\n")).digest("base64");
    } catch {
      return null;
    }
  }
}

function timesOf({ ino, size, mtimeMs, ctimeMs, mode }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs} ${mode}`;
}

const fates = new Map<string, Fate | null>();

function isPassing(name: string): boolean {
  let fate = fates.get(name);
  if (fate === undefined) {
    fate = fateOf(name)?.fate ?? null;
    if (fates.size < 1_000) fates.set(name, fate);
  }
  return fate === "passing";
}
