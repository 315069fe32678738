/** `cleave checksum REPOSITORY…`: Gitaly's checksum of repositories on this machine, to compare by hand. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { toCleaveError } from "../protocol/errors.ts";
import { repositoryChecksum } from "./stores/git/checksum.ts";

/**
 * Prints `<checksum>  <path>  (<reason>)` for each, in the order given.
 * @returns the exit code: 1 when any of them is unreadable or no repository.
 */
export async function runChecksum(repositories: readonly string[]): Promise<number> {
  let code = 0;
  for (const path of repositories) {
    try {
      const found = await repositoryChecksum(await gitDirectoryOf(path));
      const detail = found.detail === "" ? "" : `: ${found.detail.split("\n")[0]}`;
      process.stdout.write(`${found.checksum}  ${path}  (${found.reason}${detail})\n`);
      if (found.reason === "unreadable") code = 1;
    } catch (thrown) {
      const error = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
      process.stderr.write(`${error.code}: ${error.message}\n  ${error.nextStep}\n`);
      code = 1;
    }
  }
  return code;
}

/** A clone with a work tree is named by its folder, as git commands do. */
async function gitDirectoryOf(path: string): Promise<string> {
  const inside = join(path, ".git");
  const isFolder = await stat(inside).then(
    (found) => found.isDirectory(),
    () => false,
  );
  return isFolder ? inside : path;
}

if (import.meta.main) {
  const repositories = process.argv.slice(2);
  const help = repositories.includes("--help") || repositories.includes("-h");
  if (help || repositories.length === 0) {
    console.log(
      "usage: cleave checksum REPOSITORY…\n\nPrints Gitaly's checksum of each repository, with the reason beside zeros: empty or unreadable.",
    );
    process.exitCode = help ? 0 : 2;
  } else process.exitCode = await runChecksum(repositories);
}
