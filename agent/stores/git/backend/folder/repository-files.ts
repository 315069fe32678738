/** Reads and writes HEAD, config, info/attributes and hooks of a repository, byte by byte. */
import { randomUUID } from "node:crypto";
import { lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { type HookFile, MAX_FILE_BYTES, MAX_HOOK_FILES, type RepositoryFiles } from "../repository-files.ts";
import { isStub, OWN_TEMPORARY } from "./hook-install.ts";
import { EARLIER_HOOK_NAME, HOOK_NAME } from "./hook-script.ts";

const HOOK_FOLDERS = ["hooks", "custom_hooks"];

async function readBounded(path: string): Promise<Buffer> {
  const { size } = await lstat(path);
  if (size > MAX_FILE_BYTES) throw new CleaveError("REPOSITORY_UNREADABLE", `${path} has ${size} bytes`);
  return readFile(path);
}

async function readOptional(path: string): Promise<Buffer | null> {
  try {
    return await readBounded(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** HEAD as git reads it: `ref: <name>` or an object id, without the newline. */
async function readHead(gitDirectory: string): Promise<string> {
  const path = join(gitDirectory, "HEAD");
  // Very old repositories have a symbolic link there.
  if ((await lstat(path)).isSymbolicLink()) return `ref: ${await readlink(path, "latin1")}`;
  const head = (await readBounded(path)).toString("latin1").trimEnd();
  if (head === "") throw new CleaveError("REPOSITORY_UNREADABLE", `${path} is empty`);
  return head;
}

async function readHooks(gitDirectory: string, folder: string, hooks: HookFile[]): Promise<void> {
  const entries = await readdir(join(gitDirectory, folder), { withFileTypes: true }).catch((error) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  });
  for (const entry of entries) {
    if (entry.name.startsWith(OWN_TEMPORARY) || (folder === "hooks" && entry.name.endsWith(".sample")))
      continue;
    const inFolder = join(gitDirectory, folder, entry.name);
    // The hook that was there before ours is a custom hook under its own name.
    const name = folder === "hooks" && entry.name === EARLIER_HOOK_NAME ? HOOK_NAME : entry.name;
    const path = `${folder}/${name}`;
    if (hooks.length >= MAX_HOOK_FILES)
      throw new CleaveError("REPOSITORY_UNREADABLE", `${gitDirectory} has more than ${MAX_HOOK_FILES} hooks`);
    if (entry.isDirectory()) await readHooks(gitDirectory, path, hooks);
    else if (entry.isSymbolicLink()) hooks.push({ path, link: await readlink(inFolder) });
    else if (entry.isFile()) {
      const content = await readBounded(inFolder);
      if (folder === "hooks" && entry.name === HOOK_NAME && isStub(content.toString("latin1"))) continue;
      const executable = ((await lstat(inFolder)).mode & 0o111) !== 0;
      hooks.push({ path, executable, content: content.toString("base64") });
    }
  }
}

export async function readRepositoryFiles(gitDirectory: string): Promise<RepositoryFiles> {
  const hooks: HookFile[] = [];
  for (const folder of HOOK_FOLDERS) {
    const found = await lstat(join(gitDirectory, folder)).catch(() => null);
    // Whatever a link leads to is not this repository's, may be anything, and cannot be made on another Pod.
    if (found?.isSymbolicLink())
      throw new CleaveError("REPOSITORY_HOOK_DISABLED", `${folder} is a symbolic link to another folder`);
    await readHooks(gitDirectory, folder, hooks);
  }
  hooks.sort((a, b) => (a.path < b.path ? -1 : 1));
  return {
    head: await readHead(gitDirectory),
    config: (await readBounded(join(gitDirectory, "config"))).toString("base64"),
    attributes: (await readOptional(join(gitDirectory, "info", "attributes")))?.toString("base64") ?? null,
    hooks,
  };
}

/** As git itself does: a lock beside the file, then a rename; so a writer that holds the lock is not overtaken. */
async function replaceLocked(path: string, content: Buffer): Promise<void> {
  await writeFile(`${path}.lock`, content, { flag: "wx", mode: 0o644 });
  await rename(`${path}.lock`, path);
}

/** Sets HEAD; the caller knows that it is another one than now. */
export async function writeHead(gitDirectory: string, head: string): Promise<void> {
  const path = join(gitDirectory, "HEAD");
  // Left behind by this agent when it was killed: a target has no other writer before it opens.
  await rm(`${path}.lock`, { force: true });
  await replaceLocked(path, Buffer.from(`${head}\n`, "latin1"));
}

export async function writeConfig(gitDirectory: string, config: string): Promise<void> {
  const path = join(gitDirectory, "config");
  await rm(`${path}.lock`, { force: true });
  await replaceLocked(path, Buffer.from(config, "base64"));
}

export async function writeAttributes(gitDirectory: string, attributes: string | null): Promise<void> {
  const path = join(gitDirectory, "info", "attributes");
  if (attributes === null) return rm(path, { force: true });
  await mkdir(dirname(path), { recursive: true });
  await rm(`${path}.lock`, { force: true });
  await replaceLocked(path, Buffer.from(attributes, "base64"));
}

/** Makes the custom hooks exactly these. Ours stays where it is. */
export async function writeHooks(gitDirectory: string, hooks: readonly HookFile[]): Promise<void> {
  const wanted = new Set<string>();
  for (const hook of hooks) {
    const { path } = hook;
    const local = path === `hooks/${HOOK_NAME}` ? `hooks/${EARLIER_HOOK_NAME}` : path;
    wanted.add(path);
    const target = join(gitDirectory, local);
    await mkdir(dirname(target), { recursive: true });
    const temporary = join(dirname(target), `${OWN_TEMPORARY}${randomUUID()}`);
    if ("link" in hook) await symlink(hook.link, temporary);
    else {
      const mode = hook.executable ? 0o755 : 0o644;
      await writeFile(temporary, Buffer.from(hook.content, "base64"), { flag: "wx", mode });
    }
    await rename(temporary, target).catch(async (error: NodeJS.ErrnoException) => {
      // A folder of hooks that is one file now.
      if (error.code !== "EISDIR") throw error;
      await rm(target, { recursive: true });
      await rename(temporary, target);
    });
  }
  const present: HookFile[] = [];
  for (const folder of HOOK_FOLDERS) await readHooks(gitDirectory, folder, present);
  for (const { path } of present) {
    if (wanted.has(path)) continue;
    const earlier = path === `hooks/${HOOK_NAME}` ? `hooks/${EARLIER_HOOK_NAME}` : path;
    await rm(join(gitDirectory, earlier), { recursive: true, force: true });
  }
}
