/**
 * The configuration files that come with a copy of the source's data. pg_basebackup copies regular files of the data
 * directory; what they include from elsewhere, and what is a symbolic link there, does not come along. A copy in which such a
 * line stayed would not start, or would read the files of the source itself where both are on one machine.
 */
import { lstat, readdir, readFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { writeOwnedFile } from "../server/data-directory.ts";
import type { SystemUser } from "../server/run-as.ts";

export const CONFIG_FILE = "postgresql.conf";
export const AUTO_FILE = "postgresql.auto.conf";

/** Puts a line out of force, and says who did. */
const LEFT_OUT = "#cleave: not of this server: ";
/** Where the source's server is; and files that lead to others. */
const DIRECTIVE =
  /^\s*(include|include_if_exists|include_dir|data_directory|hba_file|ident_file)(?:\s*=\s*|\s+)(.+)$/i;

/** The value at the beginning of what follows a name: quoted as PostgreSQL's guc-file.l has it, or bare. */
function fileNamedIn(text: string): string {
  const quoted = /^'((?:[^'\\]|''|\\.)*)'/.exec(text)?.[1];
  if (quoted !== undefined) return quoted.replaceAll("''", "'").replaceAll(/\\(.)/g, "$1");
  return /^[^\s#]*/.exec(text)?.[0] ?? "";
}

async function kindOf(path: string): Promise<"file" | "directory" | null> {
  const found = await lstat(path).catch(() => null);
  if (found?.isFile()) return "file";
  return found?.isDirectory() ? "directory" : null;
}

/**
 * Takes out of the copied files what is not of this server, and resolves with the files that its settings are read from,
 * relative to the data directory. `usesCopiedFile` is whether the source's own postgresql.conf is the one that was copied: one
 * that it does not use says nothing of it, and becomes empty.
 */
export async function settleCopiedFiles(
  dataDirectory: string,
  usesCopiedFile: boolean,
  runAs: SystemUser | null,
): Promise<ReadonlySet<string>> {
  const arrived = new Set<string>();
  const inside = (path: string) => !relative(dataDirectory, path).startsWith("..");

  const settle = async (path: string): Promise<void> => {
    const name = relative(dataDirectory, path);
    if (arrived.has(name)) return;
    arrived.add(name);
    // Whatever its encoding is, its bytes stay as they are.
    const before = await readFile(path, "latin1");
    const lines = await Promise.all(
      before.split("\n").map(async (line) => {
        const [, directive, rest] = DIRECTIVE.exec(line) ?? [];
        if (directive === undefined || rest === undefined) return line;
        const kept = directive.toLowerCase().startsWith("include") && (await includes(path, directive, rest));
        return kept ? line : `${LEFT_OUT}${line}`;
      }),
    );
    const after = lines.join("\n");
    if (after !== before) await writeOwnedFile(path, Buffer.from(after, "latin1"), runAs);
  };

  /** Whether all that the line leads to is in the copy. */
  const includes = async (from: string, directive: string, rest: string): Promise<boolean> => {
    const path = resolve(dirname(from), fileNamedIn(rest));
    if (!inside(path)) return false;
    const kind = await kindOf(path);
    if (directive.toLowerCase() === "include_dir") {
      if (kind !== "directory") return false;
      for (const name of await readdir(path))
        if (/^[^.].*\.conf$/.test(name) && (await kindOf(join(path, name))) === "file")
          await settle(join(path, name));
      return true;
    }
    if (kind === "file") await settle(path);
    return kind === "file";
  };

  const main = join(dataDirectory, CONFIG_FILE);
  if (usesCopiedFile && (await kindOf(main)) === "file") await settle(main);
  else await writeOwnedFile(main, "", runAs);
  if ((await kindOf(join(dataDirectory, AUTO_FILE))) === "file") arrived.add(AUTO_FILE);
  return arrived;
}
