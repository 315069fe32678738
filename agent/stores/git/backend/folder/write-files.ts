/** Makes a copy's own files what the source's are: bytes, modes, and owners where this process may. */
import { createHash, randomUUID } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { chmod, lstat, mkdir, open, rename, rm, rmdir, symlink } from "node:fs/promises";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { giveTo } from "../../../common/backend/folder/give-to.ts";
import type { ContentOf } from "../backend.ts";
import {
  type CarriedFile,
  comparedOf,
  type RepositoryEntryFile,
  type RepositoryFiles,
} from "../repository-files.ts";
import { OWN_TEMPORARY } from "./hook-install.ts";
import { type FileHashes, localPath, pathIn, readContents } from "./repository-files.ts";

/** Sets HEAD; the caller knows that it is another one than now. */
export async function writeHead(gitDirectory: string, head: string): Promise<void> {
  const path = `${gitDirectory}/HEAD`;
  // Left behind by this agent when it was killed: a target has no other writer before it opens.
  await rm(`${path}.lock`, { force: true });
  await replaceLocked(Buffer.from(path), async (file) => {
    await file.writeFile(Buffer.from(`${head}\n`, "latin1"));
  });
}

type Fill = (file: Awaited<ReturnType<typeof open>>) => Promise<void>;

/** As git itself does: a lock beside the file, then a rename; so a writer that holds the lock is not overtaken. */
async function replaceLocked(path: Buffer, fill: Fill, mode = 0o644): Promise<void> {
  const lock = Buffer.concat([path, Buffer.from(".lock")]);
  await writeNew(lock, fill, mode);
  await rename(lock, path);
}

async function writeNew(path: Buffer, fill: Fill, mode: number): Promise<void> {
  const file = await open(
    path,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    mode & 0o700,
  );
  try {
    await fill(file);
    await file.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/**
 * Exactly these files, folders and modes; Cleave's own hook stays where it is, and HEAD as it is.
 * @throws CleaveError REPOSITORY_UNREADABLE when a content is another one than announced: the source changed meanwhile.
 */
export async function writeContents(
  gitDirectory: string,
  files: RepositoryFiles,
  contentOf: ContentOf,
  hashes: FileHashes,
): Promise<void> {
  const present = new Map<string, RepositoryEntryFile>();
  for (const entry of await presentEntries(gitDirectory, hashes)) present.set(entry.path, entry);
  const wanted = new Map(files.entries.map((entry) => [entry.path, entry]));
  // Deepest first: what is in a folder goes before it.
  for (const [path, entry] of [...present].reverse())
    if (entry.kind !== "place" && wanted.get(path)?.kind !== entry.kind) await remove(gitDirectory, entry);
  for (const entry of files.entries) {
    if (entry.kind === "place") continue;
    const folder = entry.path.includes("/") ? entry.path.slice(0, entry.path.lastIndexOf("/")) : "";
    // Nothing is written through a link, whatever the answer of the other Pod says.
    if (folder !== "" && wanted.get(folder)?.kind !== "folder")
      throw new CleaveError(
        "MESSAGE_MALFORMED",
        `${JSON.stringify(entry.path)} is in no folder of its repository`,
      );
    const own = present.get(entry.path);
    const same = own !== undefined && JSON.stringify(comparedOf(own)) === JSON.stringify(comparedOf(entry));
    await write(gitDirectory, entry, same, own, contentOf);
  }
  // Last, since a folder may forbid what was done in it; deepest first.
  for (const entry of [...files.entries].reverse()) await applyMode(gitDirectory, entry);
}

/** What is there, also where the source's could not be carried: it is replaced. */
async function presentEntries(
  gitDirectory: string,
  hashes: FileHashes,
): Promise<readonly RepositoryEntryFile[]> {
  return (await readContents(gitDirectory, hashes, { content: false })).files.entries;
}

async function remove(gitDirectory: string, { kind, path }: RepositoryEntryFile): Promise<void> {
  const at = pathIn(gitDirectory, localPath(path));
  if (kind !== "folder") return rm(at, { force: true });
  await rmdir(at).catch((error: NodeJS.ErrnoException) => {
    // Cleave's hook is in it, or locks and temporary files of others, which are not carried.
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST" && error.code !== "ENOENT") throw error;
  });
}

async function write(
  gitDirectory: string,
  entry: RepositoryEntryFile,
  same: boolean,
  own: RepositoryEntryFile | undefined,
  contentOf: ContentOf,
): Promise<void> {
  const at = pathIn(gitDirectory, localPath(entry.path));
  if (same) return;
  if (entry.kind === "folder") {
    await mkdir(at, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  } else if (entry.kind === "link") {
    const temporary = temporaryBeside(gitDirectory, entry.path);
    await symlink(Buffer.from(entry.target, "latin1"), temporary);
    await rename(temporary, at);
  } else if (entry.kind === "file") {
    if (own?.kind === "file" && own.sha256 === entry.sha256) return;
    const fill: Fill = (file) => copyContent(entry, file, contentOf);
    if (entry.path === "config") {
      await rm(Buffer.concat([at, Buffer.from(".lock")]), { force: true });
      await replaceLocked(at, fill, entry.mode);
    } else {
      const temporary = temporaryBeside(gitDirectory, entry.path);
      await writeNew(temporary, fill, entry.mode);
      await chmod(temporary, entry.mode);
      await rename(temporary, at);
    }
  }
}

function temporaryBeside(gitDirectory: string, path: string): Buffer {
  const folder = path.includes("/") ? `${path.slice(0, path.lastIndexOf("/"))}/` : "";
  return pathIn(gitDirectory, `${folder}${OWN_TEMPORARY}${randomUUID()}`);
}

async function copyContent(
  entry: CarriedFile,
  file: Parameters<Fill>[0],
  contentOf: ContentOf,
): Promise<void> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of await contentOf(entry)) {
    bytes += chunk.length;
    hash.update(chunk);
    if (bytes > entry.bytes) break;
    await file.writeFile(chunk);
  }
  if (bytes !== entry.bytes || hash.digest("hex") !== entry.sha256)
    throw new CleaveError(
      "REPOSITORY_UNREADABLE",
      `${JSON.stringify(entry.path)} came with another content than announced: it changed meanwhile`,
    );
}

async function applyMode(gitDirectory: string, entry: RepositoryEntryFile): Promise<void> {
  if (entry.kind === "link") return;
  const at = pathIn(gitDirectory, localPath(entry.path));
  const found: Stats | null = await lstat(at).catch(() => null);
  // An objects folder or HEAD that is a link there is an ordinary one here.
  if (found === null || found.isSymbolicLink()) return;
  // First the owner: giving a file away takes special bits from its mode.
  await giveTo(at, entry);
  if ((found.mode & 0o7777) !== entry.mode || (entry.mode & 0o7000) !== 0) await chmod(at, entry.mode);
}
