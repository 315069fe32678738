/**
 * Whether a repository's objects are on the disk as they were written. `git fsck` reads every one back, compares it with its
 * name, and follows every link from every reference; it shares nothing with the fetch that wrote them.
 */
import { createHash } from "node:crypto";
import { lstat, readdir } from "node:fs/promises";
import { type GitOptions, mustRunGit, runGit } from "./run-git.ts";

const FSCK_MS = 24 * 3_600_000;
const SHOWN = 600;
const KEPT = 15_000;
const NO_OBJECT = /^error: \S.*: invalid sha1 pointer 0+$/;
const MAX_TIPS_BYTES = 256 * 1024 * 1024;

/** What is derived from objects is never copied, and git makes it again. */
const CONFIG = [
  ["core.commitGraph", "false"],
  ["core.multiPackIndex", "false"],
  ["core.hooksPath", "/dev/null"],
] as const;
/** These cannot be made harmless by configuration. */
const FATAL = new Set(["skiplist", "nulinheader", "unterminatedheader"]);

/**
 * Null when every object that a reference needs is there and is what its name says; else git's words. Objects that git would
 * not make today (an address without a space before it, say) are sound as long as they are what they were.
 * @throws the signal's reason; CleaveError CONFIG_INVALID when git cannot be started.
 */
export async function verifyObjects(
  gitDirectory: string,
  git: GitOptions,
  signal: AbortSignal,
): Promise<string | null> {
  const first = await fsck(gitDirectory, git, [], signal);
  if (first.code === 0 || isAboutReferencesOnly(first)) return null;
  const lenient = (await formatChecks(git)).map((id): [string, string] => [id, "ignore"]);
  const second = lenient.length === 0 ? first : await fsck(gitDirectory, git, lenient, signal);
  if (second.code === 0 || isAboutReferencesOnly(second)) return null;
  const words = `${second.stderr}\n${second.stdout}`.trim().replaceAll("\n", "; ").slice(0, SHOWN);
  return words === "" ? `git fsck ended with code ${second.code}` : words;
}

/** What references name now, as `verifyNewObjects` takes it. @throws CleaveError REPOSITORY_UNREADABLE. */
export async function tipsOf(gitDirectory: string, git: GitOptions): Promise<Buffer> {
  const args = [`--git-dir=${gitDirectory}`, "for-each-ref", "--format=^%(objectname)"];
  const { stdout } = await mustRunGit(args, { ...git, maxOutputBytes: MAX_TIPS_BYTES });
  const unique = new Set(stdout.toString("latin1").split("\n"));
  return Buffer.from([...unique].join("\n"), "latin1");
}

/** As `verifyObjects`, of what can be reached from references and from none of `tips`: as much work as was added since. */
export async function verifyNewObjects(
  gitDirectory: string,
  git: GitOptions,
  tips: Buffer,
  signal: AbortSignal,
): Promise<string | null> {
  const args = ["rev-list", "--verify-objects", "--quiet", "--ignore-missing", "--all", "--stdin"];
  const { code, stderr } = await runGit([`--git-dir=${gitDirectory}`, ...args], {
    ...git,
    config: [...(git.config ?? []), ...CONFIG],
    input: tips,
    signal,
    timeoutMs: FSCK_MS,
  });
  return code === 0 ? null : stderr.slice(0, SHOWN) || `git rev-list ended with code ${code}`;
}

/** A symbolic reference to a branch that is not there has no object: what references say is compared elsewhere. */
function isAboutReferencesOnly({
  stdout,
  stderr,
}: {
  readonly stdout: string;
  readonly stderr: string;
}): boolean {
  const lines = `${stdout}\n${stderr}`
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("notice: "));
  // Of more than is kept nobody knows the rest.
  return (
    lines.length > 0 &&
    stderr.length < KEPT &&
    stdout.length < SHOWN &&
    lines.every((line) => NO_OBJECT.test(line))
  );
}

async function fsck(
  gitDirectory: string,
  git: GitOptions,
  config: readonly (readonly [string, string])[],
  signal: AbortSignal,
) {
  let stdout = "";
  const { code, stderr } = await runGit(
    [`--git-dir=${gitDirectory}`, "fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"],
    {
      ...git,
      config: [...(git.config ?? []), ...CONFIG, ...config],
      signal,
      timeoutMs: FSCK_MS,
      isBackground: true,
      onOutput: (chunk) => {
        if (stdout.length < SHOWN) stdout += chunk.toString("latin1");
      },
    },
  );
  return { code, stderr, stdout };
}

/** Names of the checks of how an object is written, as this git has them. */
async function formatChecks(git: GitOptions): Promise<string[]> {
  const { code, stdout } = await runGit(["help", "--config"], git);
  if (code !== 0) return [];
  return stdout
    .toString("latin1")
    .split("\n")
    .filter((line) => line.startsWith("fsck.") && !FATAL.has(line.slice(5).toLowerCase()));
}

/**
 * Names, lengths and times of all files of objects: `version` is another one when any was written since, whatever it was
 * written with. @throws when a folder cannot be read.
 */
export async function lookAtObjects(gitDirectory: string): Promise<{ version: string; bytes: number }> {
  const hash = createHash("sha1");
  let bytes = 0;
  const walk = async (folder: string): Promise<void> => {
    const entries = await readdir(`${gitDirectory}/${folder}`, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const name = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        await walk(name);
        continue;
      }
      const found = await lstat(`${gitDirectory}/${name}`, { bigint: true });
      bytes += Number(found.size);
      hash.update(`${name}\0${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}\n`);
    }
  };
  await walk("objects");
  return { version: hash.digest("hex"), bytes };
}
