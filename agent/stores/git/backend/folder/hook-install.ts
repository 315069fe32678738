/** Puts the hook into a repository, sees whether it is still in force, and takes it out again. */
import { randomUUID } from "node:crypto";
import {
  chmod,
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  realpath,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { renameDurably, syncFile } from "../../../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { EARLIER_HOOK_NAME, HOOK_NAME, scriptText, stubText } from "./hook-script.ts";

/** Beginning of every stub ever written, so that one of an older version is known as ours. */
const STUB_BEGINS = "#!/bin/sh\n# Cleave: ";
/** Temporary names of ours in a repository's folders; never part of what is compared or copied. */
export const OWN_TEMPORARY = ".cleave-";

export interface Hook {
  readonly stub: string;
  /** A file with the stub's content on the agent's side; repositories get links to it where they can. */
  readonly stubPath: string;
}

async function replace(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomUUID()}`;
  await writeFile(temporary, content, { flag: "wx", mode, flush: true });
  await chmod(temporary, mode);
  await renameDurably(temporary, path);
}

/** Writes script and stub into the fence's `control` folder. `root` is the folder of all repositories. */
export async function writeHook(root: string, control: string): Promise<Hook> {
  const realControl = await realpath(control);
  const scriptPath = join(realControl, HOOK_NAME);
  await replace(scriptPath, scriptText(await realpath(root), realControl), 0o555);
  const stub = stubText(scriptPath);
  const stubPath = join(realControl, "stub");
  if ((await readFile(stubPath, "utf8").catch(() => null)) !== stub) await replace(stubPath, stub, 0o555);
  return { stub, stubPath };
}

export function isStub(content: string): boolean {
  return content.startsWith(STUB_BEGINS);
}

async function readIfFile(path: string): Promise<string | null> {
  try {
    const found = await lstat(path);
    // Whatever is not a plain file is somebody else's; of a large one the beginning would do, but there are none.
    return found.isFile() && found.size < 65_536 ? await readFile(path, "utf8") : "";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

/**
 * Repositories have links to one file, so whoever writes into the hook of one writes into all of them: it gets its text
 * again, where it is, and so they all do.
 */
async function mendStub({ stub, stubPath }: Hook): Promise<void> {
  if ((await readIfFile(stubPath)) === stub) return;
  const file = await open(stubPath, "r+").catch(() => null);
  if (file === null) return replace(stubPath, stub, 0o555);
  try {
    await file.write(stub, 0);
    await file.truncate(Buffer.byteLength(stub));
    await file.sync();
  } finally {
    await file.close();
  }
}

/** True when git would run exactly our hook (as far as the repository's own files say). */
export async function isHookInForce(gitDirectory: string, hook: Hook): Promise<boolean> {
  const path = join(gitDirectory, "hooks", HOOK_NAME);
  if ((await readIfFile(path)) !== hook.stub) return false;
  return ((await lstat(path)).mode & 0o111) === 0o111;
}

/**
 * Idempotent. An earlier hook of that name is kept beside and goes on being run. There is no moment without a hook.
 * @throws CleaveError REPOSITORY_HOOK_DISABLED when the hooks folder is a symbolic link or no folder, or the hook no file.
 */
export async function installHook(gitDirectory: string, hook: Hook): Promise<void> {
  const folder = join(gitDirectory, "hooks");
  const path = join(folder, HOOK_NAME);
  if (await isHookInForce(gitDirectory, hook)) return;
  await mendStub(hook);
  if (await isHookInForce(gitDirectory, hook)) return;
  await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  if (!(await lstat(folder)).isDirectory()) {
    throw new CleaveError(
      "REPOSITORY_HOOK_DISABLED",
      `${folder} is not a folder of this repository alone, so the hook cannot be installed there`,
    );
  }
  const found = await lstat(path).catch(() => null);
  if (found !== null && !found.isFile() && !found.isSymbolicLink())
    throw new CleaveError("REPOSITORY_HOOK_DISABLED", `${path} is no file: remove it`);
  const current = await readIfFile(path);
  if (current !== null && !isStub(current)) {
    const earlier = join(folder, EARLIER_HOOK_NAME);
    await rm(earlier, { force: true });
    await link(path, earlier);
  }
  const temporary = join(folder, `${OWN_TEMPORARY}${randomUUID()}`);
  // A link, since a file that was open for writing a moment ago may not be executable yet (ETXTBSY). Where links
  // are not possible (another file system, too many of them) a copy.
  await link(hook.stubPath, temporary).catch(() => copyFile(hook.stubPath, temporary));
  if (((await lstat(temporary)).mode & 0o111) !== 0o111) await chmod(temporary, 0o555);
  // A hook that a power cut emptied or took away would let writers past the fence.
  await syncFile(temporary);
  await renameDurably(temporary, path);
}

/** Removes our hook and puts the earlier one back; leaves a hook that is not ours alone. */
export async function removeHook(gitDirectory: string): Promise<void> {
  const path = join(gitDirectory, "hooks", HOOK_NAME);
  const current = await readIfFile(path);
  if (current === null || !isStub(current)) return;
  const earlier = join(gitDirectory, "hooks", EARLIER_HOOK_NAME);
  await rename(earlier, path).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    await rm(path, { force: true });
  });
}
