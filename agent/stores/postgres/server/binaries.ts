/** Finds PostgreSQL's programs. */
import { execFile } from "node:child_process";
import { access, constants, readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { CleaveError } from "../../../../protocol/errors.ts";

export interface Binaries {
  readonly directory: string;
  readonly majorVersion: number;
}

export const SUPPORTED_MAJOR_VERSIONS = [15, 16, 17, 18] as const;

const run = promisify(execFile);

/** Where distributions put one folder per version. `*` is one path segment. */
const USUAL_PLACES = [
  "/usr/lib/postgresql/*/bin",
  "/usr/pgsql-*/bin",
  "/usr/lib/postgresql*/bin",
  "/opt/homebrew/opt/postgresql@*/bin",
  "/usr/local/opt/postgresql@*/bin",
  "/usr/local/pgsql/bin",
];

/** Expands the single `*` of a pattern. */
async function expand(pattern: string): Promise<string[]> {
  const star = pattern.split("/").findIndex((segment) => segment.includes("*"));
  if (star === -1) return [pattern];
  const segments = pattern.split("/");
  const parent = segments.slice(0, star).join("/");
  const [before, after] = (segments[star] as string).split("*") as [string, string];
  const names = await readdir(parent).catch(() => []);
  return names
    .filter(
      (name) =>
        name.length >= before.length + after.length && name.startsWith(before) && name.endsWith(after),
    )
    .map((name) => join(parent, name, ...segments.slice(star + 1)));
}

async function inspect(directory: string): Promise<Binaries | null> {
  try {
    for (const program of ["postgres", "pg_basebackup"])
      await access(join(directory, program), constants.X_OK);
    const { stdout } = await run(join(directory, "postgres"), ["--version"]);
    const majorVersion = Number(/(\d+)/.exec(stdout)?.[1]);
    return Number.isInteger(majorVersion) ? { directory, majorVersion } : null;
  } catch {
    return null;
  }
}

/**
 * The programs in `binDirectory`, or else the newest supported ones found, or those of `majorVersion`.
 * @throws CleaveError POSTGRES_TOOL_MISSING.
 */
export async function locateBinaries(
  options: { readonly binDirectory?: string | undefined; readonly majorVersion?: number | undefined } = {},
): Promise<Binaries> {
  const { binDirectory, majorVersion } = options;
  const places =
    binDirectory !== undefined
      ? [binDirectory]
      : [
          ...(await Promise.all(USUAL_PLACES.map(expand))).flat(),
          ...(process.env["PATH"] ?? "").split(delimiter).filter((place) => place !== ""),
        ];
  const found = (await Promise.all([...new Set(places)].map(inspect)))
    .filter((binaries) => binaries !== null)
    .filter(
      (binaries) =>
        binDirectory !== undefined ||
        (majorVersion === undefined
          ? SUPPORTED_MAJOR_VERSIONS.some((supported) => supported === binaries.majorVersion)
          : binaries.majorVersion === majorVersion),
    )
    .sort((a, b) => b.majorVersion - a.majorVersion);
  const best = found[0];
  if (best) return best;
  const wanted = majorVersion === undefined ? "PostgreSQL 15 to 18" : `PostgreSQL ${majorVersion}`;
  throw new CleaveError(
    "POSTGRES_TOOL_MISSING",
    binDirectory === undefined
      ? `no programs of ${wanted} were found in the usual places or on PATH`
      : `${binDirectory} does not hold postgres and pg_basebackup`,
  );
}

/** A program beside `postgres`. */
export function program(binaries: Binaries, name: string): string {
  return join(binaries.directory, name);
}
