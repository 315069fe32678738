/** Everything that two Pods compare of a repository, item by item, for a person who asks what differs. */
import type { RepositoryItem } from "../backend.ts";
import type { RepositoryEntryFile } from "../repository-files.ts";
import { type FileHashes, readContents } from "./repository-files.ts";
import { endGit, type GitOptions, spawnGit } from "./run-git.ts";

/** Sorted by the bytes of its name. */
export async function* itemsOf(
  gitDirectory: string,
  git: GitOptions,
  hashes: FileHashes,
): AsyncGenerator<RepositoryItem> {
  const { files } = await readContents(gitDirectory, hashes, { content: false });
  const others: RepositoryItem[] = [
    { name: "HEAD", value: files.head },
    ...files.entries.map(itemOf),
    ...files.shallow.map((root) => ({ name: `shallow ${root}`, value: "the history ends there" })),
    ...files.symbolicRefs.map(({ name, target }) => ({ name: `symbolic ref ${name}`, value: target })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  const after = others.findIndex(({ name }) => name > "ref ");
  yield* others.slice(0, after < 0 ? undefined : after);
  yield* refsOf(gitDirectory, git);
  if (after >= 0) yield* others.slice(after);
}

function itemOf(entry: RepositoryEntryFile): RepositoryItem {
  const { kind, path } = entry;
  if (kind === "link") return { name: `link ${path}`, value: `to ${entry.target}` };
  const mode = `mode ${entry.mode.toString(8)}`;
  if (kind === "place") return { name: `mode of ${path || "its folder"}`, value: mode };
  if (kind === "folder") return { name: `folder ${path}`, value: mode };
  return {
    name: `file ${path}`,
    value: `${entry.bytes} bytes, ${mode}, sha256 ${entry.sha256.slice(0, 12)}`,
  };
}

async function* refsOf(gitDirectory: string, git: GitOptions): AsyncGenerator<RepositoryItem> {
  const args = [`--git-dir=${gitDirectory}`, "for-each-ref", "--format=%(objectname) %(refname)"];
  const child = spawnGit(args, git);
  child.stdin.on("error", () => undefined);
  child.on("error", () => undefined);
  child.stdin.end();
  child.stderr.resume();
  try {
    let rest = "";
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      const lines = (rest + chunk.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const space = line.indexOf(" ");
        yield { name: `ref ${line.slice(space + 1)}`, value: line.slice(0, space) };
      }
    }
  } finally {
    endGit(child);
  }
}
