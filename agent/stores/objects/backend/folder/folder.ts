/** Objects as plain files below one folder, read and written without ever following a link out of it. */

import { createHash } from "node:crypto";
import { type BigIntStats, constants, type Stats } from "node:fs";
import {
  access,
  chmod,
  type FileHandle,
  lstat,
  mkdir,
  open,
  realpath,
  rename,
  rm,
  rmdir,
  unlink,
} from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { makeFolders, syncFolder } from "../../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { FolderRoot } from "../../../common/backend/folder/folder-root.ts";
import { giveTo } from "../../../common/backend/folder/give-to.ts";
import { codeOfFileError } from "../../../common/file-error.ts";
import { assertKey, isTemporary, quoteKey, temporaryName } from "../../inventory/keys.ts";
import type {
  Access,
  ExpectedContent,
  ListedObject,
  ListOptions,
  ObjectAccess,
  ObjectBackend,
  ObjectRead,
  ObjectStat,
} from "../backend.ts";
import { ContentMismatch } from "../content-mismatch.ts";
import { listFolder, versionOf } from "./list.ts";

const READ_BYTES = 256 * 1024;
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const WRITE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const GONE: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENOTDIR"]);

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;

export class FolderBackend extends FolderRoot implements ObjectBackend {
  readonly #root: string;
  #resolvedRoot: string | null = null;

  /** `root`: the folder that holds the objects; a key is a path below it. */
  constructor(root: string) {
    super(root);
    this.#root = resolve(root);
  }

  list(options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listFolder(this.#root, "", options);
  }

  async stat(key: string): Promise<ObjectStat | null> {
    const path = await this.#pathOf(key);
    try {
      const stat = await lstat(path, { bigint: true });
      if (stat.isDirectory()) return null;
      if (!stat.isFile())
        throw new CleaveError("OBJECT_UNREADABLE", `${quoteKey(key)} is not a file; links are not followed`);
      return { bytes: Number(stat.size), version: versionOf(stat) };
    } catch (error) {
      if (GONE.has(codeOf(error))) return null;
      throw unreadable(key, error);
    }
  }

  async openRead(key: string, range?: { start: number; end?: number }): Promise<ObjectRead | null> {
    const path = await this.#pathOf(key);
    let file: FileHandle;
    try {
      file = await open(path, READ_FLAGS);
    } catch (error) {
      if (GONE.has(codeOf(error))) return null;
      throw unreadable(key, error);
    }
    try {
      const stat = await file.stat({ bigint: true });
      if (stat.isDirectory()) {
        await file.close();
        return null;
      }
      if (!stat.isFile()) throw new CleaveError("OBJECT_UNREADABLE", `${quoteKey(key)} is not a file`);
      const bytes = Number(stat.size);
      const access = { ...accessOf(stat), folders: await this.#foldersOf(key) };
      const start = range?.start ?? 0;
      // What is written to its end meanwhile is another object's, which will be announced.
      const end = Math.min(range?.end ?? bytes, bytes - 1);
      if (end < start) {
        await file.close();
        return { bytes, version: versionOf(stat), access, stream: Readable.from([]) };
      }
      // Whole buffers are allocated per read, so small objects get small ones.
      const highWaterMark = Math.min(bytes + 1, READ_BYTES);
      const stream = file.createReadStream({ start, end, highWaterMark });
      return { bytes, version: versionOf(stat), access, stream };
    } catch (error) {
      await file.close();
      throw unreadable(key, error);
    }
  }

  async put(
    key: string,
    expected: ExpectedContent,
    fetch: (offset: number) => Promise<Readable>,
  ): Promise<ObjectStat> {
    const path = await this.#pathOf(key);
    const temporary = join(dirname(path), temporaryName(key, expected.sha256));
    const asked = { first: null as Readable | null };
    try {
      // Where the folder is missing, whom it may be open to has to be known before it is made.
      if (expected.access !== undefined && (expected.bytes === 0 || !(await isThere(dirname(path))))) {
        asked.first = await fetch(0);
        await this.#makeFolders(key, expected.access()?.folders ?? []);
      }
      const file = await this.#openForWriting(temporary);
      let stat: BigIntStats;
      try {
        if (expected.access === undefined) await file.chmod(0o644);
        else if (asked.first !== null) await openTo(file, expected.access());
        await fill(file, key, expected, async (offset) => {
          const { first } = asked;
          asked.first = null;
          if (first !== null && offset === 0) return first;
          first?.destroy();
          const body = await fetch(offset);
          if (expected.access !== undefined) await openTo(file, expected.access());
          return body;
        });
        asked.first?.resume();
        await file.sync();
        await renameOver(temporary, path);
        // Of this very file, and after the renaming, which is a change of it.
        stat = await file.stat({ bigint: true });
      } finally {
        await file.close();
      }
      await syncFolder(dirname(path));
      return { bytes: Number(stat.size), version: versionOf(stat) };
    } catch (error) {
      asked.first?.destroy();
      // A part of the right content is worth keeping; one that was found to be wrong is not.
      if (error instanceof ContentMismatch) await rm(temporary, { force: true });
      throw unwritable(key, error);
    }
  }

  async delete(key: string): Promise<void> {
    const path = await this.#pathOf(key);
    try {
      if ((await lstat(path)).isDirectory()) return;
      await unlink(path);
      await syncFolder(dirname(path));
    } catch (error) {
      if (!GONE.has(codeOf(error))) throw unwritable(key, error);
    }
    await this.#removeEmptyFolders(dirname(path));
  }

  async deleteTemporary(name: string): Promise<void> {
    const path = join(this.#root, name);
    if (!isTemporary(name) || !path.startsWith(`${this.#root}/`) || name.split("/").includes(".."))
      throw new CleaveError("OBJECT_KEY_INVALID", `${quoteKey(name)} is not a temporary file`);
    await this.#refuseLinks(name);
    await rm(path, { force: true });
    await this.#removeEmptyFolders(dirname(path));
  }

  async checkAccess(mode: "read" | "write"): Promise<void> {
    const wanted = constants.R_OK | constants.X_OK | (mode === "write" ? constants.W_OK : 0);
    try {
      await access(this.#root, wanted);
    } catch (error) {
      throw new CleaveError("FILE_PERMISSION", `${this.#root}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  async #pathOf(key: string): Promise<string> {
    assertKey(key);
    await this.#refuseLinks(key);
    return join(this.#root, key);
  }

  /** No folder on the way may be a link: it could lead out of the store. */
  async #refuseLinks(key: string): Promise<void> {
    const root = await this.#realRoot();
    // Folders that are not there yet cannot be links; the deepest one that is there decides.
    for (let folder = dirname(key); folder !== "."; folder = dirname(folder)) {
      try {
        if ((await realpath(join(root, folder))) === join(root, folder)) return;
      } catch (error) {
        if (GONE.has(codeOf(error))) continue;
        throw unreadable(key, error);
      }
      throw new CleaveError("OBJECT_KEY_INVALID", `${quoteKey(key)} leads through a link`);
    }
  }

  /** The root itself may be a link: where it leads is the operator's choice. */
  async #realRoot(): Promise<string> {
    this.#resolvedRoot ??= await realpath(this.#root).catch((error: unknown) => {
      throw new CleaveError("FILE_PERMISSION", `${this.#root}: ${(error as Error).message}`, {
        cause: error,
      });
    });
    return this.#resolvedRoot;
  }

  async #openForWriting(path: string): Promise<FileHandle> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await open(path, WRITE_FLAGS, 0o600);
      } catch (error) {
        // Made at need, and again when a deletion next to it just removed the folder as empty.
        if (codeOf(error) !== "ENOENT" || attempt === 5) throw error;
        await makeFolders(dirname(path));
      }
    }
  }

  async #foldersOf(key: string): Promise<Access[]> {
    const found: Access[] = [];
    let folder = this.#root;
    for (const segment of key.split("/").slice(0, -1)) {
      folder = join(folder, segment);
      found.push(accessOf(await lstat(folder)));
    }
    return found;
  }

  /** Those that are missing, each as open as it is on the source. */
  async #makeFolders(key: string, like: readonly Access[]): Promise<void> {
    let folder = this.#root;
    for (const [index, segment] of key.split("/").slice(0, -1).entries()) {
      folder = join(folder, segment);
      const access = like[index];
      try {
        await mkdir(folder, { mode: (access?.mode ?? 0o755) & 0o777 });
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
        continue;
      }
      if (access !== undefined) {
        await giveTo(folder, access);
        await chmod(folder, access.mode);
      }
      await syncFolder(dirname(folder));
    }
  }

  async #removeEmptyFolders(folder: string): Promise<void> {
    for (let path = folder; path.startsWith(`${this.#root}/`); path = dirname(path)) {
      try {
        await rmdir(path);
      } catch {
        return;
      }
    }
  }
}

function accessOf({ mode, uid, gid }: Stats | BigIntStats): Access {
  return { mode: Number(mode) & 0o7777, uid: Number(uid), gid: Number(gid) };
}

/** As open as the original is, and its owner's, before it has content. */
async function openTo(file: FileHandle, access: ObjectAccess | null): Promise<void> {
  if (access === null) return file.chmod(0o644);
  if (process.getuid?.() === 0) await file.chown(access.uid, access.gid);
  await file.chmod(access.mode);
}

function isThere(folder: string): Promise<boolean> {
  return lstat(folder).then(
    () => true,
    () => false,
  );
}

/** Completes the temporary file and checks its digest as a whole, including what was there before. */
async function fill(
  file: FileHandle,
  key: string,
  expected: ExpectedContent,
  fetch: (offset: number) => Promise<Readable>,
): Promise<void> {
  let offset = (await file.stat()).size;
  if (offset > expected.bytes) throw new ContentMismatch(`the copy of ${quoteKey(key)} has too many bytes`);
  const hash = createHash("sha256");
  if (offset > 0)
    for await (const chunk of file.createReadStream({ start: 0, end: offset - 1, autoClose: false }))
      hash.update(chunk);
  if (offset < expected.bytes) {
    for await (const chunk of (await fetch(offset)) as AsyncIterable<Buffer>) {
      if (offset + chunk.length > expected.bytes)
        throw new ContentMismatch(`${quoteKey(key)} has more bytes than announced`);
      hash.update(chunk);
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await file.write(chunk, done, chunk.length - done, offset + done);
        done += bytesWritten;
      }
      offset += chunk.length;
    }
    if (offset < expected.bytes)
      throw new CleaveError("PEER_UNREACHABLE", `the copy of ${quoteKey(key)} broke off`);
  }
  if (hash.digest("hex") !== expected.sha256)
    throw new ContentMismatch(`${quoteKey(key)} came with another content than announced`);
}

async function renameOver(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    // An empty folder is no object and may be in an object's way.
    if (codeOf(error) !== "EISDIR" && codeOf(error) !== "EEXIST" && codeOf(error) !== "ENOTEMPTY")
      throw error;
    await rmdir(to);
    await rename(from, to);
  }
}

function unreadable(key: string, error: unknown): Error {
  if (error instanceof CleaveError) return error;
  return new CleaveError("OBJECT_UNREADABLE", `${quoteKey(key)}: ${(error as Error).message}`, {
    cause: error,
  });
}

function unwritable(key: string, error: unknown): Error {
  const code = codeOfFileError(error);
  if (code === null) return error as Error;
  const message =
    code === "DISK_FULL" ? `no space for ${quoteKey(key)}` : `${quoteKey(key)}: ${(error as Error).message}`;
  return new CleaveError(code, message, { cause: error });
}
