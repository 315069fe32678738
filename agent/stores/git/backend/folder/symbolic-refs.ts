/**
 * Refs that name other refs, besides HEAD. They are files, never packed, and git lists none whose target is missing, so
 * they are read as files: a ref that follows another one is no branch of its own, on any Pod.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import { lstat, mkdir, readdir, readlink, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { isRefName, MAX_SYMBOLIC_REFS, type SymbolicRef } from "../repository-files.ts";

const MAX_BYTES = 2_048;
/** Files read before others have their turn: each takes microseconds, and a repository may have very many. */
const STEP = 64;
/** Refs that are files of their own, of which the fence looks at the times: more than a repository that is packed has. */
const LOOSE_LOOKED_AT = 256;

const at = (gitDirectory: string, name: string) =>
  Buffer.concat([Buffer.from(`${gitDirectory}/`), Buffer.from(name, "latin1")]);

export interface RefTree {
  /** Sorted by name; names are Latin-1. */
  readonly symbolicRefs: SymbolicRef[];
  /** `refs` and the folders below it. */
  readonly folders: readonly string[];
  /** Refs that are files, the first of them: an edit of one is told by nothing else. */
  readonly loose: readonly string[];
}

/** @throws CleaveError REPOSITORY_NOT_CARRIED for one that leads out of `refs`, and for what is no file. */
export async function readRefTree(gitDirectory: string): Promise<RefTree> {
  const found: SymbolicRef[] = [];
  const buffer = Buffer.alloc(MAX_BYTES);
  let count = 0;
  const folders: string[] = [];
  const loose: string[] = [];
  const pending = ["refs"];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    folders.push(folder);
    const entries = await readdir(at(gitDirectory, folder), {
      withFileTypes: true,
      encoding: "latin1",
    }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    for (const entry of entries) {
      const name = `${folder}/${entry.name}`;
      if (entry.isDirectory()) pending.push(name);
      else if (!entry.name.endsWith(".lock")) {
        if (!entry.isFile() && !entry.isSymbolicLink()) throw notAFile(name);
        if (loose.length < LOOSE_LOOKED_AT) loose.push(name);
        const target = entry.isSymbolicLink()
          ? await readlink(at(gitDirectory, name), "latin1")
          : targetIn(at(gitDirectory, name), buffer);
        if (target !== null) found.push(checked(name, target));
        count += 1;
        if (count % STEP === 0) await turn();
      }
    }
  }
  if (found.length > MAX_SYMBOLIC_REFS)
    throw new CleaveError("REPOSITORY_NOT_CARRIED", `it has more than ${MAX_SYMBOLIC_REFS} symbolic refs`);
  return { symbolicRefs: found.sort((a, b) => (a.name < b.name ? -1 : 1)), folders, loose };
}

/** Whoever opens a pipe waits for its other end, git like everybody else. */
export function notAFile(name: string): CleaveError {
  return new CleaveError(
    "REPOSITORY_NOT_CARRIED",
    `${JSON.stringify(name)}: it is no file (a pipe, a socket, a device): remove it`,
  );
}

function checked(name: string, target: string): SymbolicRef {
  if (isRefName(name) && isRefName(target)) return { name, target };
  throw new CleaveError(
    "REPOSITORY_NOT_CARRIED",
    `the symbolic ref ${JSON.stringify(name)} names ${JSON.stringify(target.slice(0, 200))}, which is no ref`,
  );
}

/** Null when it is an ordinary ref, or gone meanwhile. */
function targetIn(path: Buffer, buffer: Buffer): string | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    const text = buffer.toString("latin1", 0, readSync(file, buffer));
    return text.startsWith("ref:") ? text.slice(4).trim() : null;
  } finally {
    closeSync(file);
  }
}

/** Takes away what the source does not have as a symbolic ref of this name and target: before a fetch. */
export async function removeOtherSymbolicRefs(
  gitDirectory: string,
  wanted: readonly SymbolicRef[],
): Promise<void> {
  const targets = new Map(wanted.map(({ name, target }) => [name, target]));
  for (const { name, target } of (await readRefTree(gitDirectory)).symbolicRefs)
    if (targets.get(name) !== target) await rm(at(gitDirectory, name), { force: true });
}

/** Makes them, where no ordinary ref has the name any more: after a fetch. */
export async function writeSymbolicRefs(gitDirectory: string, wanted: readonly SymbolicRef[]): Promise<void> {
  const { symbolicRefs } = await readRefTree(gitDirectory);
  const present = new Map(symbolicRefs.map(({ name, target }) => [name, target]));
  for (const { name, target } of wanted) {
    if (present.get(name) === target) continue;
    const path = at(gitDirectory, name);
    await makeFolders(gitDirectory, dirname(name));
    const lock = Buffer.concat([path, Buffer.from(".lock")]);
    await writeFile(lock, Buffer.from(`ref: ${target}\n`, "latin1"), { flag: "wx" });
    try {
      // Git leaves folders of deleted refs behind; one that has a ref in it stays, and then this fails.
      await removeEmptyFolders(path);
      await rename(lock, path);
    } finally {
      await rm(lock, { force: true });
    }
  }
}

async function removeEmptyFolders(path: Buffer): Promise<void> {
  const entries = await readdir(path, { encoding: "latin1" }).catch(() => []);
  for (const entry of entries)
    await removeEmptyFolders(Buffer.concat([path, Buffer.from("/"), Buffer.from(entry, "latin1")]));
  await rmdir(path).catch(() => undefined);
}

async function makeFolders(gitDirectory: string, folder: string): Promise<void> {
  const path = at(gitDirectory, folder);
  const found = await lstat(path).catch(() => null);
  if (found?.isDirectory()) return;
  await makeFolders(gitDirectory, dirname(folder));
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
}
