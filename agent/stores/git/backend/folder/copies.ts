/**
 * Makes a repository equal to another Pod's: refs and objects by git's own fetch, everything else byte by byte. A new one
 * grows in a folder of the agent's and gets its name when it is whole.
 */
import { randomUUID } from "node:crypto";
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { renameDurably, syncFolder } from "../../../../../protocol/adapters/durable-files.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import { giveTo } from "../../../common/backend/folder/give-to.ts";
import type { ContentOf, GitAccess, NewRepository, WantedRefs } from "../backend.ts";
import type { RepositoryFiles } from "../repository-files.ts";
import { fetchInto } from "./fetch.ts";
import { type Hook, installHook } from "./hook-install.ts";
import { INCOMING } from "./list.ts";
import { giveTreeTo, isNatural } from "./permissions.ts";
import type { FileHashes } from "./repository-files.ts";
import { type GitOptions, mustRunGit } from "./run-git.ts";
import { syncTree } from "./sync.ts";
import { writeContents, writeHead } from "./write-files.ts";

/** In each repository that was made here: for which migration. Only those are removed when it is given up. */
const MARKER = "cleave-mirror";

export interface CopyOptions {
  readonly root: string;
  /** A repository's path, which has been checked. */
  readonly path: string;
  /** A folder of the agent's own, for what git needs while it runs. */
  readonly workspace: string;
  readonly git: GitOptions;
  readonly hashes: FileHashes;
  readonly signal: AbortSignal;
}

export async function copyRepository(copy: NewRepository, hook: Hook, options: CopyOptions): Promise<void> {
  const { root, path, git, hashes, signal } = options;
  const { files, from, name, mark, replaces, contentOf } = copy;
  const directory = await incoming(root, name);
  try {
    const format = files.objectFormat === "sha256" ? ["--object-format=sha256"] : [];
    const { permissions } = files;
    const shared = isNatural(permissions) ? [] : [`--shared=0${permissions.toString(8)}`];
    const args = ["init", "--quiet", "--bare", "--template=", ...format, ...shared, directory];
    await mustRunGit(args, { ...git, signal });
    await fetchRepository(directory, from, files, options);
    await writeShallow(directory, files.shallow);
    if (mark !== null) await writeFile(join(directory, MARKER), `${mark}\n`, { mode: 0o600 });
    await installHook(directory, hook);
    await applyFiles(directory, files, { keepHead: false, contentOf, hashes });
    await giveMeaning(directory);
    const target = join(root, path);
    await syncTree(directory, null);
    await makeParents(root, path, files.parents);
    // What is there instead is broken: nothing of it can be used. What came meanwhile refuses the name.
    if (replaces) await discard(root, path, name);
    await renameDurably(directory, target);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Refs, symbolic refs and objects become the source's. */
export async function fetchRepository(
  directory: string,
  from: GitAccess,
  wanted: WantedRefs,
  { path, workspace, git, signal }: Pick<CopyOptions, "path" | "workspace" | "git" | "signal">,
): Promise<void> {
  await fetchInto(from, wanted, { directory, workspace, path, git, signal });
  await giveMeaning(directory);
}

export async function applyFiles(
  directory: string,
  files: RepositoryFiles,
  {
    keepHead,
    contentOf,
    hashes,
  }: { readonly keepHead: boolean; readonly contentOf: ContentOf; readonly hashes: FileHashes },
): Promise<void> {
  if (!keepHead) await writeHead(directory, files.head);
  await writeContents(directory, files, contentOf, hashes);
}

/** Where the history ends, exactly as it does on the source. */
async function writeShallow(directory: string, roots: readonly string[]): Promise<void> {
  const path = join(directory, "shallow");
  if (roots.length === 0) return rm(path, { force: true });
  await writeFile(`${path}.lock`, `${roots.join("\n")}\n`, { flag: "wx" });
  await rename(`${path}.lock`, path);
}

/** What git made belongs to whom the folders belong to that it is in. */
async function giveMeaning(directory: string): Promise<void> {
  for (const [folder, file] of [
    ["objects", null],
    ["refs", "packed-refs"],
  ] as const) {
    const owner = await lstat(join(directory, folder));
    if (owner.uid === process.getuid?.() && owner.gid === process.getgid?.()) continue;
    await giveTreeTo(join(directory, folder), owner);
    if (file !== null) await giveTo(join(directory, file), owner).catch(ignoreMissing);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

/** The folders above it, where they are missing, as open as they are on the source. */
async function makeParents(root: string, path: string, parents: RepositoryFiles["parents"]): Promise<void> {
  let folder = root;
  await mkdir(root, { recursive: true });
  for (const [index, segment] of path.split("/").slice(0, -1).entries()) {
    folder = join(folder, segment);
    const like = parents[index];
    const made = await mkdir(folder, { mode: (like?.mode ?? 0o755) & 0o777 }).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
        return false;
      },
    );
    if (!made) continue;
    if (like !== undefined) {
      await giveTo(folder, like);
      await chmod(folder, like.mode);
    }
    await syncFolder(dirname(folder));
  }
}

async function incoming(root: string, name: string): Promise<string> {
  const folder = join(root, INCOMING);
  await mkdir(folder, { recursive: true });
  return join(folder, `${name}+${randomUUID()}`);
}

export async function discard(root: string, path: string, name: string): Promise<void> {
  // Out of sight at once, whatever its size.
  const trash = await incoming(root, name);
  await rename(join(root, path), trash).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rm(trash, { recursive: true, force: true });
}

/** Only what a mirror of that name made. */
export async function removeUnfinished(root: string, name: string): Promise<void> {
  const folder = join(root, INCOMING);
  // As an earlier version named them: whosever they were, nobody makes them any more.
  for (const entry of await readdir(folder).catch(() => []))
    if (entry.startsWith(`${name}+`) || entry.endsWith(".git"))
      await rm(join(folder, entry), { recursive: true, force: true });
  await rmdir(folder).catch(() => undefined);
}

/** It is this Pod's own from now on. */
export async function removeMark(directory: string): Promise<void> {
  await rm(join(directory, MARKER), { force: true });
}

export async function isMadeFor(directory: string, migrationId: MigrationId): Promise<boolean> {
  const text = await readFile(join(directory, MARKER), "utf8").catch(() => "");
  return text.trimEnd() === migrationId;
}
