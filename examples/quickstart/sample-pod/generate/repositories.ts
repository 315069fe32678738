/** Repositories with real history, by `git fast-import`; or existing ones, mirrored into the projects' places. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { inParallel } from "./parallel.ts";
import { seeded } from "./random.ts";
import type { SampleProject } from "./rows.ts";

const CONCURRENCY = 3;
/** Config of the machine must not change what is made. */
const ENVIRONMENT = {
  PATH: process.env["PATH"],
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_COUNT: "1",
  GIT_CONFIG_KEY_0: "safe.directory",
  GIT_CONFIG_VALUE_0: "*",
};

export function hashedPath(projectId: string): string {
  const hash = createHash("sha256").update(projectId).digest("hex");
  return join("@hashed", hash.slice(0, 2), hash.slice(2, 4), hash);
}

export async function generateRepositories(
  gitRoot: string,
  projects: readonly SampleProject[],
  seed: number,
  importFrom: string | undefined,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const existing = importFrom === undefined ? [] : await repositoriesIn(importFrom);
  const wanted = projects.flatMap((project, index) => {
    const path = hashedPath(project.id);
    const repository = { path: `${path}.git`, seed: seed * 1_000_003 + index, source: existing[index] };
    return project.hasWiki
      ? [repository, { path: `${path}.wiki.git`, seed: seed * 7_919 + index, source: undefined }]
      : [repository];
  });
  let done = 0;
  await inParallel(wanted, CONCURRENCY, async ({ path, seed: own, source }) => {
    const target = join(gitRoot, path);
    await mkdir(dirname(target), { recursive: true });
    if (source !== undefined)
      await git(["clone", "--quiet", "--mirror", "--no-hardlinks", "--", source, target]);
    else {
      await git(["init", "--quiet", "--bare", "--initial-branch=main", "--", target]);
      await git(["-C", target, "fast-import", "--quiet"], history(seeded(own)));
    }
    done += 1;
    onProgress(done, wanted.length);
  });
}

/** Repositories in a folder, bare or with a work tree, in order of their names. */
async function repositoriesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).sort();
  return names
    .map((name) => join(folder, name))
    .filter((path) => existsSync(join(path, "HEAD")) || existsSync(join(path, ".git")));
}

/** A fast-import stream: commits on main, branches, annotated tags, a note, a merge request's head. */
function history(random: () => number): string {
  const lines: string[] = [];
  const commits = 3 + Math.floor(random() * 8);
  const data = (text: string) => `data ${Buffer.byteLength(text)}\n${text}`;
  for (let n = 1; n <= commits; n += 1) {
    const body = Array.from({ length: 5 + Math.floor(random() * 60) }, () => random().toString(36)).join(
      "\n",
    );
    lines.push(
      "commit refs/heads/main",
      `mark :${n}`,
      `committer Sam Ple <sam@example.com> ${1_760_000_000 + n * 3_600} +0000`,
      data(`Change ${n}`),
    );
    if (n > 1) lines.push(`from :${n - 1}`);
    lines.push(`M 100644 inline src/file-${n % 4}.txt`, data(`${body}\n`), "");
  }
  const branches = 1 + Math.floor(random() * 4);
  for (let n = 1; n <= branches; n += 1)
    lines.push(`reset refs/heads/topic-${n}`, `from :${1 + Math.floor(random() * commits)}`, "");
  lines.push("reset refs/merge-requests/1/head", `from :${commits}`, "");
  lines.push(
    "tag v1.0",
    `from :${commits}`,
    "tagger Sam Ple <sam@example.com> 1760000000 +0000",
    data("Version 1.0"),
  );
  lines.push(
    "commit refs/notes/commits",
    "committer Sam Ple <sam@example.com> 1760000001 +0000",
    data("A note"),
    "N inline :1",
    data("reviewed"),
    "",
  );
  return `${lines.join("\n")}\ndone\n`;
}

function git(args: readonly string[], input?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("git", args, { env: ENVIRONMENT, stdio: ["pipe", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input ?? "");
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`git ${args.join(" ")}: ${errors.trim()}`)),
    );
  });
}
