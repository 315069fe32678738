/** What a repository's configuration and packs say of data that stands elsewhere, and so cannot come along. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { CleaveError } from "../../../../../protocol/errors.ts";
import type { RepositoryFiles } from "../repository-files.ts";
import { type GitOptions, runGit } from "./run-git.ts";

const CONFIGURATIONS = ["config", "config.worktree"];
const INCLUDES = "^include(if\\..*)?\\.path$";
const PROMISED = "^(extensions\\.partialclone|remote\\..*\\.(promisor|partialclonefilter))$";

/** @throws CleaveError REPOSITORY_NOT_CARRIED with what it is and what to do. */
export async function requireCarried(
  gitDirectory: string,
  { entries }: Pick<RepositoryFiles, "entries">,
  git: GitOptions,
): Promise<void> {
  for (const name of CONFIGURATIONS) {
    if (!entries.some(({ path }) => path === name)) continue;
    // Git reads it as it would, includes aside; asked only where the words are there at all.
    const text = await readFile(join(gitDirectory, name), "latin1");
    if (/include/i.test(text)) {
      const [found] = await keys(gitDirectory, name, INCLUDES, git);
      if (found !== undefined)
        throw new CleaveError(
          "REPOSITORY_NOT_CARRIED",
          `its ${name} includes another file (${found}), which is not the repository's: write the settings into ${name}`,
        );
    }
    if (/promisor|partialclone/i.test(text)) {
      const [found] = await keys(gitDirectory, name, PROMISED, git);
      if (found !== undefined) throw promised(found);
    }
  }
  const packs = await readdir(join(gitDirectory, "objects", "pack")).catch(() => []);
  const pack = packs.find((entry) => entry.endsWith(".promisor"));
  if (pack !== undefined) throw promised(`objects/pack/${pack}`);
}

function promised(what: string): CleaveError {
  return new CleaveError(
    "REPOSITORY_NOT_CARRIED",
    `it is a partial clone, whose objects are elsewhere (${what}): fetch them all, and end that`,
  );
}

async function keys(gitDirectory: string, name: string, pattern: string, git: GitOptions): Promise<string[]> {
  const file = join(gitDirectory, name);
  const args = ["config", "--file", file, "--no-includes", "--name-only", "--get-regexp", pattern];
  const { stdout } = await runGit(args, git);
  return stdout.toString("latin1").split("\n").filter(Boolean);
}
