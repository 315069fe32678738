/**
 * What a repository is, by git's own commands and the file system alone: a comparison that shares nothing with the
 * product. Of a copy it is what the original's is, but for what is left behind on purpose.
 */
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { git, mustGit } from "./pod.ts";

/** Not compared, as docs/08-limits.md says: git's own bookkeeping, locks, and what Cleave itself puts there. */
const LEFT =
  /^(objects|refs|packed-refs|logs|worktrees|shallow|info\/refs|index|[A-Z]+_HEAD|gc\.(pid|log)|[A-Z_]+_EDITMSG)(\/|$)|^(HEAD|config|packed-refs|shallow)\.lock$|^refs\/.*\.lock$|^cleave-|(^|\/)\.cleave-|^hooks\/([^/]*\.sample|reference-transaction(\.before-cleave)?)$/;

async function filesOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (below: string) => {
    for (const name of (await readdir(join(folder, below))).sort()) {
      const path = below === "" ? name : `${below}/${name}`;
      if (LEFT.test(path)) continue;
      const stats = await lstat(join(folder, path));
      const mode = (stats.mode & 0o7777).toString(8);
      if (stats.isDirectory()) {
        found.push(`${path}/ ${mode}`);
        await walk(path);
      } else if (stats.isSymbolicLink()) found.push(`${path} -> ${await readlink(join(folder, path))}`);
      else {
        const digest = createHash("sha1").update(await readFile(join(folder, path)));
        found.push(`${path} ${mode} ${digest.digest("hex")}`);
      }
    }
  };
  await walk("");
  for (const name of ["", "refs", "objects"])
    found.push(`${name}/ ${((await lstat(join(folder, name))).mode & 0o7777).toString(8)}`);
  return found;
}

async function symbolicRefsOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(join(folder, "refs"), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith(".lock")) continue;
    const path = join(entry.parentPath, entry.name);
    const text = await readFile(path, "latin1");
    if (text.startsWith("ref:")) found.push(`${path.slice(folder.length + 1)} ${text.trim()}`);
  }
  return found.sort();
}

/** Sections by name; two repositories are the same when all are. */
export async function independentlyOf(folder: string): Promise<Record<string, string>> {
  const run = (...args: string[]) => mustGit(["--no-replace-objects", `--git-dir=${folder}`, ...args]);
  const head = (await readFile(join(folder, "HEAD"), "utf8")).trim();
  const detached = /^[0-9a-f]{40}/.test(head) ? [head] : [];
  const objects = await run("rev-list", "--objects", "--single-worktree", "--all", ...detached);
  const ids = objects
    .split("\n")
    .map((line) => line.split(" ")[0])
    .sort();
  const fsck = await git([
    "--no-replace-objects",
    "-c",
    "core.commitGraph=false",
    `--git-dir=${folder}`,
    "fsck",
    "--full",
    "--no-dangling",
    "--no-reflogs",
  ]);
  const shallow = await readFile(join(folder, "shallow"), "utf8").catch(() => "");
  return {
    refs: await run("for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"),
    symbolic: (await symbolicRefsOf(folder)).join("\n"),
    head,
    objects: [...new Set(ids)].join("\n"),
    fsck: `${fsck.code} ${fsck.stdout.replace(/^notice: .*$/gm, "")}`.trim(),
    shallow: shallow.split("\n").filter(Boolean).sort().join("\n"),
    files: (await filesOf(folder)).sort().join("\n"),
  };
}

/** Something that refs or HEAD reach is missing: git itself cannot copy it, whoever asks. */
export async function isBroken(folder: string): Promise<boolean> {
  const args = ["--no-replace-objects", `--git-dir=${folder}`, "rev-list", "--objects", "--quiet"];
  const head = (await readFile(join(folder, "HEAD"), "utf8")).trim();
  const detached = /^[0-9a-f]{40}/.test(head) ? [head] : [];
  return (await git([...args, "--single-worktree", "--all", ...detached])).code !== 0;
}
