/**
 * A repository's checksum as Gitaly computes it, so that operators can compare by hand with what they already have,
 * and beside it what Gitaly's leaves out: a digest over every ref, and why a checksum is zero.
 */
import { createHash } from "node:crypto";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { type GitOptions, runGit } from "./run-git.ts";

export const ZERO_CHECKSUM = "0".repeat(40);

export interface RepositoryChecksum {
  /** Gitaly's: hexadecimal without leading zero bytes, 40 zeros when there is nothing to sum or nothing readable. */
  readonly checksum: string;
  /** `unreadable` never equals anything (rule 11), though Gitaly prints the same zeros as for `empty`. */
  readonly reason: "ok" | "empty" | "unreadable";
  /** SHA-256 over all lines of `git show-ref --head`: also the refs that Gitaly's checksum skips. */
  readonly refsDigest: string;
  readonly refs: number;
  /** Git's words when unreadable, else empty. */
  readonly detail: string;
}

/** Unanchored in Gitaly as well: `refs/remotes/origin/HEAD` and `refs/x/refs/heads/y` count. */
const COUNTED = /HEAD|(refs\/(heads|tags|keep-around|merge-requests|environments|notes)\/)/;

/** The sum of one stream of `git show-ref --head`, fed in pieces of any size. Names are bytes, not text. */
export class ShowRefSum {
  readonly #all = createHash("sha256");
  readonly #sum = Buffer.alloc(20);
  #rest: Buffer = Buffer.alloc(0);
  #refs = 0;

  add(chunk: Buffer): void {
    this.#all.update(chunk);
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let from = 0;
    for (let to = data.indexOf(10); to >= 0; to = data.indexOf(10, from)) {
      this.#line(data.subarray(from, to));
      from = to + 1;
    }
    this.#rest = Buffer.from(data.subarray(from));
  }

  #line(line: Buffer): void {
    this.#refs += 1;
    // Latin-1 maps every byte to one character, so the expression sees bytes.
    if (!COUNTED.test(line.toString("latin1"))) return;
    const hash = createHash("sha1").update(line).digest();
    for (let index = 0; index < 20; index++) this.#sum[index] = (this.#sum[index] ?? 0) ^ (hash[index] ?? 0);
  }

  /** Gitaly prints the bytes of a big integer, so leading zero bytes are missing. */
  finish(): { checksum: string; refsDigest: string; refs: number } {
    if (this.#rest.length > 0) this.#line(this.#rest);
    this.#rest = Buffer.alloc(0);
    let first = 0;
    while (first < 20 && this.#sum[first] === 0) first += 1;
    const checksum = first === 20 ? ZERO_CHECKSUM : this.#sum.subarray(first).toString("hex");
    return { checksum, refsDigest: this.#all.digest("hex"), refs: this.#refs };
  }
}

export interface ChecksumOptions extends GitOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/**
 * Reads all refs of the repository whose git directory is `gitDirectory`.
 * @throws CleaveError REPOSITORY_UNREADABLE when that is no Git repository at all.
 */
export async function repositoryChecksum(
  gitDirectory: string,
  options: ChecksumOptions = {},
): Promise<RepositoryChecksum> {
  const sum = new ShowRefSum();
  const shown = await runGit([`--git-dir=${gitDirectory}`, "show-ref", "--head"], {
    ...options,
    onOutput: (chunk) => sum.add(chunk),
  });
  const found = sum.finish();
  if (shown.code === 0 && shown.stderr === "" && found.refs > 0)
    return { ...found, reason: "ok", detail: "" };
  if (shown.code === 1 && shown.stderr === "" && found.refs === 0)
    return { ...found, checksum: ZERO_CHECKSUM, reason: "empty", detail: "" };
  const bare = await runGit([`--git-dir=${gitDirectory}`, "rev-parse", "--is-bare-repository"], options);
  if (bare.stdout.toString("latin1").trim() !== "true" && !(await isRepository(gitDirectory, options)))
    throw new CleaveError("REPOSITORY_UNREADABLE", `not a Git repository: ${gitDirectory}: ${shown.stderr}`);
  const detail = shown.stderr || `git show-ref ended with code ${shown.code}`;
  // Refs that git skipped with a warning and code 0: Gitaly would take the sum of the others for whole.
  const checksum = shown.code === 0 ? found.checksum : ZERO_CHECKSUM;
  return { ...found, checksum, reason: "unreadable", detail: detail.slice(0, 1_000) };
}

/** Also true for a repository with a work tree, for comparing by hand. */
async function isRepository(gitDirectory: string, options: ChecksumOptions): Promise<boolean> {
  const found = await runGit([`--git-dir=${gitDirectory}`, "rev-parse", "--git-dir"], options);
  return found.code === 0;
}
