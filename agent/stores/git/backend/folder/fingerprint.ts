/**
 * Whether anything in a repository changed since it was last read, from file times alone: cheap enough to do for
 * every repository again and again, to find what bypassed the hook. Taken before reading, never after.
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { lstat, readdir, stat } from "node:fs/promises";
import { fateOf } from "../contents.ts";
import { HOOK_NAME } from "./hook-script.ts";
import { pathIn } from "./repository-files.ts";

/** A file changed this shortly before it was looked at may change again without its times telling. */
const RACY_MS = 100;

export interface Fingerprint {
  readonly digest: string;
  /** Not to be relied on: look again next time. */
  readonly racy: boolean;
  /** Ref locks (`refs/…/x.lock`) that some git process holds, or left behind. */
  readonly locks: readonly string[];
}

/** One file in all repositories: each that comes or goes gives it another time of its last change. */
const OUR_HOOK = `hooks/${HOOK_NAME}`;

/** Read where they are, besides what is carried. */
const MEANING = ["HEAD", "packed-refs", "shallow", "objects/info/alternates", "objects/pack"];

/**
 * @param now milliseconds since 1970, to know racy times.
 * @throws when anything below cannot be read: an unreadable folder must not look like an empty one.
 */
export async function fingerprint(gitDirectory: string, now: number): Promise<Fingerprint> {
  // Names are bytes: Latin-1 keeps them apart, and turns back into the same bytes.
  const at = (name: string) => pathIn(gitDirectory, name);
  const hash = createHash("sha1");
  const locks: string[] = [];
  let newestMs = 0;
  const note = async (name: string) => {
    try {
      // Of a link the link: what it leads to is not the repository's, and may be nothing, or itself.
      const s = await lstat(at(name), { bigint: true });
      newestMs = Math.max(newestMs, Number(s.mtimeMs), Number(s.ctimeMs));
      hash.update(
        `${name}\0${s.ino} ${s.size} ${s.mtimeNs} ${name === OUR_HOOK ? "" : s.ctimeNs} ${s.mode}\n`,
        "latin1",
      );
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      hash.update(`${name}\0-\n`, "latin1");
    }
  };
  for (const name of MEANING) await note(name);
  // Of folders in which git works all the time their modes alone.
  for (const name of ["", "objects"]) {
    const { mode } = await stat(at(name));
    hash.update(`${name}\0${mode}\n`, "latin1");
  }
  await walk(at, "refs", note, locks);
  const entries = await readdir(at(""), { withFileTypes: true, encoding: "latin1" });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const fate = fateOf(entry.name)?.fate;
    if (fate === "left" || fate === "refused") hash.update(`${entry.name}\0${fate}\n`, "latin1");
    if (fate !== undefined) continue;
    // What is behind a link is not the repository's, and may be without end.
    if (entry.isDirectory()) await walk(at, entry.name, note, locks);
    else await note(entry.name);
  }
  return { digest: hash.digest("hex"), racy: newestMs > now - RACY_MS, locks };
}

async function walk(
  at: (name: string) => Buffer,
  folder: string,
  note: (name: string) => Promise<void>,
  locks: string[],
): Promise<void> {
  let entries: { name: string; isDirectory(): boolean }[];
  try {
    entries = await readdir(at(folder), { withFileTypes: true, encoding: "latin1" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return note(folder);
    throw error;
  }
  await note(folder);
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = `${folder}/${entry.name}`;
    if (folder.startsWith("refs") && entry.name.endsWith(".lock")) locks.push(name);
    if (entry.isDirectory()) await walk(at, name, note, locks);
    else await note(name);
  }
}

/** HEAD's file times without waiting (some microseconds): the last look when a fence goes up. Null when it is gone. */
export function headFingerprint(gitDirectory: string): string | null {
  const s = statSync(`${gitDirectory}/HEAD`, { throwIfNoEntry: false });
  return s === undefined ? null : `${s.ino}.${s.size}.${s.mtimeMs}.${s.ctimeMs}`;
}
