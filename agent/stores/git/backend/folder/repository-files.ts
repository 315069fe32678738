/** Reads everything in a repository's folder that is carried as files: bytes, modes, owners. See `../contents.ts`. */
import { createHash } from "node:crypto";
import { constants, createReadStream, type Dirent, type Stats } from "node:fs";
import { lstat, open, readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { fateOf, isCarried } from "../contents.ts";
import { INLINE, MAX_ENTRIES, type RepositoryEntryFile, type RepositoryFiles } from "../repository-files.ts";
import { isStub } from "./hook-install.ts";
import { EARLIER_HOOK_NAME, HOOK_NAME } from "./hook-script.ts";
import { requireOrdinary } from "./ordinary-files.ts";
import { permissionsOf } from "./permissions.ts";
import { notAFile, readRefTree } from "./symbolic-refs.ts";

const HOOK_FOLDER = /^(hooks|custom_hooks)(\/|$)/;
const HOOK_PATH = `hooks/${HOOK_NAME}`;
const EARLIER_PATH = `hooks/${EARLIER_HOOK_NAME}`;

export interface Contents {
  readonly files: Omit<RepositoryFiles, "parents">;
  /** What is left behind on purpose, in words, each once. */
  readonly left: readonly string[];
  /** Folders of refs, and refs that are files: see `RefTree`. */
  readonly refFolders: readonly string[];
  readonly looseRefs: readonly string[];
}

/** Bytes of a name of git's: Latin-1 keeps them apart, and turns back into the same bytes. */
export function pathIn(gitDirectory: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(`${gitDirectory}/`), Buffer.from(name, "latin1")]);
}

/** The hook that was there before ours is a hook under its own name. */
export function localPath(path: string): string {
  return path === HOOK_PATH ? EARLIER_PATH : path;
}

function refused(name: string, why: string): CleaveError {
  return new CleaveError("REPOSITORY_NOT_CARRIED", `${JSON.stringify(name)}: ${why}`);
}

/** Digests of large files by their times, so that one is not read again at each look at its repository. */
export class FileHashes {
  readonly #known = new Map<string, { readonly version: string; readonly sha256: string }>();

  async hash(path: Buffer, stats: Stats): Promise<string> {
    const key = path.toString("latin1");
    const version = `${stats.ino}.${stats.size}.${stats.mtimeMs}.${stats.ctimeMs}`;
    const known = this.#known.get(key);
    if (known?.version === version) return known.sha256;
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path, {
      flags: constants.O_RDONLY | constants.O_NOFOLLOW,
    } as never))
      hash.update(chunk as Buffer);
    const sha256 = hash.digest("hex");
    if (this.#known.size > 1_000) this.#known.clear();
    // One that was changed just now may change again without its times telling.
    if (Date.now() - stats.ctimeMs > 1_000) this.#known.set(key, { version, sha256 });
    return sha256;
  }
}

/** HEAD as git reads it: `ref: <name>` or an object id, without the newline. */
export async function readHead(gitDirectory: string): Promise<string> {
  const path = `${gitDirectory}/HEAD`;
  // Very old repositories have a symbolic link there.
  const stats = await lstat(path);
  if (stats.isSymbolicLink()) return `ref: ${await readlink(path, "latin1")}`;
  if (stats.size > 4_096) throw new CleaveError("REPOSITORY_UNREADABLE", `${path} has ${stats.size} bytes`);
  const head = (await readFile(path)).toString("latin1").trimEnd();
  if (head === "") throw new CleaveError("REPOSITORY_UNREADABLE", `${path} is empty`);
  return head;
}

/** Sorted. A file that is not there means that the history is whole. */
async function readShallow(gitDirectory: string): Promise<string[]> {
  const text = await readFile(`${gitDirectory}/shallow`, "latin1").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  return [...new Set(text.split("\n").filter((line) => line !== ""))].sort();
}

/**
 * @param content whether small contents come along
 * @throws CleaveError REPOSITORY_NOT_CARRIED when something is there that nobody could make on another Pod;
 * REPOSITORY_HOOK_DISABLED; errors of the file system.
 */
export async function readContents(
  gitDirectory: string,
  hashes: FileHashes,
  { content }: { readonly content: boolean },
): Promise<Contents> {
  await requireOrdinary(gitDirectory);
  const reader = new Reader(gitDirectory, hashes, content);
  await reader.place("");
  await reader.folder("");
  const entries = reader.entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  const { symbolicRefs, folders, loose } = await readRefTree(gitDirectory);
  const files = {
    head: await readHead(gitDirectory),
    symbolicRefs,
    shallow: await readShallow(gitDirectory),
    objectFormat: await objectFormatOf(gitDirectory),
    permissions: content ? await permissionsOf(gitDirectory) : 0,
    entries,
  } as const;
  return { files, left: [...reader.left].sort(), refFolders: folders, looseRefs: loose };
}

/** Modes and owners of the folders between the root and the repository. */
export async function parentsOf(root: string, path: string): Promise<RepositoryFiles["parents"]> {
  const found: RepositoryFiles["parents"] = [];
  let folder = root;
  for (const segment of path.split("/").slice(0, -1)) {
    folder = join(folder, segment);
    found.push(modeOf(await lstat(folder)));
  }
  return found;
}

/** Of a file as `readContents` named it. @throws CleaveError REPOSITORY_UNREADABLE when nothing is carried by that name. */
export async function readContent(gitDirectory: string, name: string): Promise<Readable> {
  const unreadable = (why: string) =>
    new CleaveError("REPOSITORY_UNREADABLE", `${JSON.stringify(name.slice(0, 200))}: ${why}`);
  if (!isCarried(name)) throw unreadable("nothing that is carried has this name");
  let at = localPath(name);
  const isThere = (path: string) =>
    lstat(pathIn(gitDirectory, path)).then(
      () => true,
      () => false,
    );
  // An earlier hook that ours has not taken the name of.
  if (at !== name && !(await isThere(at))) at = name;
  // No folder on the way may be a link: it could lead out of the repository.
  const segments = at.split("/");
  for (let depth = 1; depth < segments.length; depth++) {
    const folder = await lstat(pathIn(gitDirectory, segments.slice(0, depth).join("/"))).catch(() => null);
    if (!folder?.isDirectory()) throw unreadable("it is not there any more");
  }
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(pathIn(gitDirectory, at), flags).catch((error: Error) => {
    throw unreadable(error.message);
  });
  if ((await file.stat()).isFile()) return file.createReadStream();
  await file.close();
  throw unreadable("it is no file any more");
}

/** By its own configuration, which is read as text: git says the same, or does not read the repository at all. */
export async function objectFormatOf(gitDirectory: string): Promise<"sha1" | "sha256"> {
  const text = await readFile(`${gitDirectory}/config`, "latin1").catch(() => "");
  return /^\s*(\[\s*extensions\s*\]\s*)?objectformat\s*=\s*"?sha256/im.test(text) ? "sha256" : "sha1";
}

class Reader {
  readonly entries: RepositoryEntryFile[] = [];
  readonly left = new Set<string>();
  readonly #directory: string;
  readonly #hashes: FileHashes;
  readonly #content: boolean;
  #inlined = 0;

  constructor(gitDirectory: string, hashes: FileHashes, content: boolean) {
    this.#directory = gitDirectory;
    this.#hashes = hashes;
    this.#content = content;
  }

  async place(path: "" | "HEAD" | "objects" | "refs"): Promise<void> {
    const at = pathIn(this.#directory, path);
    const stats = await lstat(at);
    const isLink = stats.isSymbolicLink();
    if (isLink && path === "refs")
      throw refused("refs", "it is a symbolic link to refs of another repository");
    // A HEAD that is a link in very old repositories, or objects elsewhere, are ordinary in a copy.
    const { mode, ...owner } = modeOf(isLink && path !== "HEAD" ? await stat(at) : stats);
    this.#add({ kind: "place", path, mode: isLink && path === "HEAD" ? 0o644 : mode, ...owner });
  }

  /** @param folder as it is carried */
  async folder(folder: string): Promise<void> {
    const names = await this.#list(folder);
    // A repository in a repository: its writers would meet no fence.
    if (folder !== "" && names.has("HEAD") && names.has("objects") && names.has("refs"))
      throw refused(folder, "it is another repository inside this one: move it out of it");
    for (const entry of names.values()) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      await this.#entry(path, entry);
    }
  }

  async #list(folder: string): Promise<Map<string, Dirent>> {
    const options = { withFileTypes: true, encoding: "latin1" } as const;
    const entries = await readdir(pathIn(this.#directory, folder), options);
    return new Map(entries.map((entry) => [entry.name, entry as unknown as Dirent]));
  }

  async #entry(path: string, entry: Dirent): Promise<void> {
    if (path === "HEAD" || path === "objects" || path === "refs") return this.place(path);
    const line = fateOf(path);
    switch (line?.fate) {
      case "refused":
        throw refused(path, line.says);
      case "left":
        this.left.add(line.says);
        return;
      case "meaning":
        if (entry.isSymbolicLink())
          throw refused(path, "it is a symbolic link, which leads out of the repository");
        return;
      case "passing":
      case "derived":
        return;
      default:
        return this.#carried(path, entry);
    }
  }

  async #carried(path: string, entry: Dirent): Promise<void> {
    if (entry.isSymbolicLink()) {
      if (path === "hooks" || path === "custom_hooks")
        throw new CleaveError("REPOSITORY_HOOK_DISABLED", `${path} is a symbolic link to another folder`);
      if (!HOOK_FOLDER.test(path))
        throw refused(path, "it is a symbolic link, and what it leads to is not this repository's");
    }
    // Under its own name below, if it is there.
    if (path === HOOK_PATH && (await this.#isOurHook(entry))) return;
    const name = path === EARLIER_PATH ? HOOK_PATH : path;
    if (entry.isSymbolicLink()) {
      const target = (await readlink(pathIn(this.#directory, path), { encoding: "latin1" })) as string;
      this.#add({ kind: "link", path: name, target });
    } else if (entry.isDirectory()) {
      this.#add({ kind: "folder", path, ...modeOf(await lstat(pathIn(this.#directory, path))) });
      await this.folder(path);
    } else if (entry.isFile()) await this.#file(path, name);
    else throw notAFile(path);
  }

  async #isOurHook(entry: Dirent): Promise<boolean> {
    if (!entry.isFile()) return false;
    const path = pathIn(this.#directory, HOOK_PATH);
    return (await lstat(path)).size < 65_536 && isStub(await readFile(path, "latin1"));
  }

  async #file(path: string, name: string): Promise<void> {
    const at = pathIn(this.#directory, path);
    let stats: Stats;
    let sha256: string;
    let content: string | null = null;
    try {
      stats = await lstat(at);
      if (stats.size > INLINE.fileBytes) sha256 = await this.#hashes.hash(at, stats);
      else {
        const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW);
        let bytes: Buffer;
        try {
          stats = await file.stat();
          bytes = await file.readFile();
        } finally {
          await file.close();
        }
        sha256 = createHash("sha256").update(bytes).digest("hex");
        if (
          this.#content &&
          bytes.length <= INLINE.fileBytes &&
          this.#inlined + bytes.length <= INLINE.allBytes
        ) {
          this.#inlined += bytes.length;
          content = bytes.toString("base64");
        }
        this.#add({ kind: "file", path: name, ...modeOf(stats), bytes: bytes.length, sha256, content });
        return;
      }
    } catch (error) {
      // A file of a writer that came and went, as its temporary ones do.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    this.#add({ kind: "file", path: name, ...modeOf(stats), bytes: stats.size, sha256, content });
  }

  #add(entry: RepositoryEntryFile): void {
    if (this.entries.length >= MAX_ENTRIES)
      throw new CleaveError("REPOSITORY_NOT_CARRIED", `it has more than ${MAX_ENTRIES} files of its own`);
    this.entries.push(entry);
  }
}

function modeOf({ mode, uid, gid }: Stats) {
  return { mode: mode & 0o7777, uid, gid };
}
