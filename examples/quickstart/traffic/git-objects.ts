/** Makes small commits in a bare repository without starting a process: loose objects, as git writes them. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync } from "node:zlib";

/** Writes a commit with one file and returns its id. `gitFolder` is a bare repository in SHA-1 format. */
export function writeCommit(
  gitFolder: string,
  commit: { parent: string | null; content: string; message: string; seconds: number },
): string {
  const blob = writeObject(gitFolder, "blob", Buffer.from(commit.content));
  const tree = writeObject(
    gitFolder,
    "tree",
    Buffer.concat([Buffer.from("100644 traffic.txt\0"), Buffer.from(blob, "hex")]),
  );
  const person = `Demo Traffic <traffic@example.com> ${commit.seconds} +0000`;
  const lines = [
    `tree ${tree}`,
    ...(commit.parent === null ? [] : [`parent ${commit.parent}`]),
    `author ${person}`,
    `committer ${person}`,
    "",
    `${commit.message}\n`,
  ];
  return writeObject(gitFolder, "commit", Buffer.from(lines.join("\n")));
}

function writeObject(gitFolder: string, type: "blob" | "tree" | "commit", content: Buffer): string {
  const data = Buffer.concat([Buffer.from(`${type} ${content.length}\0`), content]);
  const id = createHash("sha1").update(data).digest("hex");
  const folder = join(gitFolder, "objects", id.slice(0, 2));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, id.slice(2)), deflateSync(data));
  return id;
}
