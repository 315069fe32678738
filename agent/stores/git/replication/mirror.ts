/**
 * Makes one local repository equal to the source's: refs and objects by git's own fetch, everything else byte by
 * byte. A new one grows in a folder of the agent's and gets its name when it is whole. Always self-contained: what
 * the source borrows from other repositories (alternates, pools) comes along as its own objects.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { HeadLocks } from "../backend/folder/head-locks.ts";
import { type Hook, installHook } from "../backend/folder/hook-install.ts";
import {
  type RepositoryFiles,
  writeAttributes,
  writeConfig,
  writeHead,
  writeHooks,
} from "../backend/folder/repository-files.ts";
import { checkRepositoryPath, fileExists, INCOMING } from "../backend/folder/repository-path.ts";
import { mustRunGit, runGit } from "../backend/folder/run-git.ts";
import type { GitContext } from "../context.ts";
import { parseOwner, type RepositoryEntry } from "../inventory/repository-entry.ts";
import type { SourceFeed } from "./source-feed.ts";

/** In each repository that was made here: for which migration. Only those are removed when it is given up. */
const MARKER = "cleave-mirror";
const FETCH_MS = 24 * 3_600_000;
const RELOCK_MS = 1_000;

export interface MirrorOptions {
  /** Of repositories that are not whole yet, before a number; no two mirrors of a Pod have the same. */
  readonly name: string;
  /** Marks what is made here as this migration's; null: it is this Pod's own, as what it follows. */
  readonly mark: MigrationId | null;
  /** Others' repositories are here too: only those of which this is true are changed or removed. Null: all are. */
  readonly isOurs: ((path: string) => Promise<boolean>) | null;
  /** Held in dormant repositories, which are mirrored all the same. */
  readonly locks: HeadLocks | null;
}

/** Settings that a repository's own configuration must not change for the agent's fetch. */
const FETCH_CONFIG = [
  ["core.hooksPath", "/dev/null"],
  ["core.bare", "true"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["transfer.fsckObjects", "false"],
  ["fetch.fsckObjects", "false"],
  ["fetch.recurseSubmodules", "false"],
  ["fetch.writeCommitGraph", "false"],
  ["fetch.unpackLimit", "100"],
  ["protocol.version", "2"],
  ["http.followRedirects", "false"],
  ["http.proxy", ""],
  // A stalled connection; a source that is still counting objects sends a sign of life every few seconds.
  ["http.lowSpeedLimit", "1"],
  ["http.lowSpeedTime", "60"],
] as const;

export class Mirror {
  readonly #context: GitContext;
  readonly #feed: SourceFeed;
  readonly #hook: Hook;
  readonly #options: MirrorOptions;

  constructor(context: GitContext, feed: SourceFeed, hook: Hook, options: MirrorOptions) {
    this.#context = context;
    this.#feed = feed;
    this.#hook = hook;
    this.#options = options;
  }

  /** Removes what an earlier process left unfinished; also before the work is given up for good. */
  async prepare(): Promise<void> {
    await removeUnfinished(this.#context.config.root, this.#options.name);
  }

  /** Brings the local repository to what the source's is now, which is `wanted` or newer. Idempotent. */
  async sync(wanted: RepositoryEntry, own: RepositoryEntry | undefined, signal: AbortSignal): Promise<void> {
    const path = checkRepositoryPath(wanted.path);
    const directory = join(this.#context.config.root, path);
    const exists = await fileExists(directory);
    if (exists && !(await this.#isOurs(path)))
      throw new CleaveError("GIT_NOT_EMPTY", `${path} is here already, and is another repository`);
    await this.#unlocked(path, signal, async () => {
      if (wanted.deleted) return this.remove(path);
      const owner = parseOwner(wanted.owner);
      if (owner !== null) await this.#context.fence.setOwner(path, owner);
      if (own === undefined || own.deleted || own.reason === "unreadable" || !exists)
        return this.#create(path, exists, signal);
      await this.#update(directory, wanted, own, signal);
    });
  }

  async #update(
    directory: string,
    wanted: RepositoryEntry,
    own: RepositoryEntry,
    signal: AbortSignal,
  ): Promise<void> {
    const { path } = wanted;
    if (own.refs !== wanted.refs || own.checksum !== wanted.checksum)
      await this.#fetch(directory, path, signal);
    const { head, config, attributes, hooks } = wanted;
    const same =
      own.head === head && own.config === config && own.attributes === attributes && own.hooks === hooks;
    if (!same) await this.#apply(directory, await this.#feed.files(path, signal), own);
    await installHook(directory, this.#hook);
  }

  async remove(path: string): Promise<void> {
    await this.#discard(path);
    await this.#context.fence.removeOwner(path);
  }

  async #discard(path: string): Promise<void> {
    const directory = join(this.#context.config.root, checkRepositoryPath(path));
    // Out of sight at once, whatever its size.
    const trash = await this.#incoming();
    await rename(directory, trash).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    await rm(trash, { recursive: true, force: true });
  }

  /** Whether the repository here is gone when the source does not have it. */
  async isOwn(path: string): Promise<boolean> {
    const { isOurs, mark } = this.#options;
    if (isOurs !== null) return isOurs(path);
    return mark !== null && isMirrorOf(join(this.#context.config.root, checkRepositoryPath(path)), mark);
  }

  async #isOurs(path: string): Promise<boolean> {
    return this.#options.isOurs === null || this.#options.isOurs(path);
  }

  /** Between the two somebody may change HEAD, as git would tell nobody; the next sweep finds it, and it is undone. */
  async #unlocked(path: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { locks } = this.#options;
    if (locks === null) return work();
    await locks.release([path]);
    try {
      await work();
    } finally {
      await locks.hold([path], { graceMs: RELOCK_MS, signal, onHeld: () => undefined });
    }
  }

  async #incoming(): Promise<string> {
    const folder = join(this.#context.config.root, INCOMING);
    await mkdir(folder, { recursive: true });
    return join(folder, `${this.#options.name}+${randomUUID()}`);
  }

  async #create(path: string, replaces: boolean, signal: AbortSignal): Promise<void> {
    const files = await this.#feed.files(path, signal);
    const directory = await this.#incoming();
    try {
      const format = /^\s*objectformat\s*=\s*"?sha256/im.test(
        Buffer.from(files.config, "base64").toString("latin1"),
      )
        ? ["--object-format=sha256"]
        : [];
      await mustRunGit(["init", "--quiet", "--bare", "--template=", ...format, directory], {
        ...this.#context.git,
        signal,
      });
      await this.#fetch(directory, path, signal);
      await this.#apply(directory, files, null);
      const { mark } = this.#options;
      if (mark !== null) await writeFile(join(directory, MARKER), `${mark}\n`);
      await installHook(directory, this.#hook);
      const target = join(this.#context.config.root, path);
      await mkdir(dirname(target), { recursive: true });
      // What is there instead is broken: nothing of it can be used. What came meanwhile refuses the name.
      if (replaces) await this.#discard(path);
      await rename(directory, target);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #fetch(directory: string, path: string, signal: AbortSignal): Promise<void> {
    const { url, header } = this.#feed.gitAccess(path);
    const run = {
      ...this.#context.git,
      signal,
      timeoutMs: FETCH_MS,
      config: [
        ...(this.#context.git.config ?? []),
        ...FETCH_CONFIG,
        // A longer match than any rewriting of addresses in the repository's own configuration.
        [`url.${url}.insteadOf`, url] as const,
        ["http.extraHeader", header] as const,
      ],
    };
    const args = (atomic: boolean) => [
      `--git-dir=${directory}`,
      "fetch",
      "--quiet",
      "--prune",
      "--no-tags",
      ...(atomic ? ["--atomic"] : []),
      "--force",
      "--update-shallow",
      "--update-head-ok",
      "--no-write-fetch-head",
      "--no-auto-maintenance",
      "--no-recurse-submodules",
      "--",
      url,
      "+refs/*:refs/*",
    ];
    const atomic = await runGit(args(true), run);
    if (atomic.code === 0) return;
    // A branch `a` that became `a/b` cannot change in one transaction: deleted first, then made.
    const second = await runGit(args(false), run);
    if (second.code === 0) return;
    const words = second.stderr.slice(-800) || `exit code ${second.code}`;
    const full = /No space left on device|Disk quota exceeded/.test(words);
    throw new CleaveError(
      full ? "DISK_FULL" : "REPOSITORY_UNREADABLE",
      `${path} cannot be fetched: ${words}`,
    );
  }

  async #apply(directory: string, files: RepositoryFiles, own: RepositoryEntry | null): Promise<void> {
    if (own?.head !== files.head) await writeHead(directory, files.head);
    await writeConfig(directory, files.config);
    await writeAttributes(directory, files.attributes);
    await writeHooks(directory, files.hooks);
  }
}

/** Only what a mirror of that name made. */
export async function removeUnfinished(root: string, name: string): Promise<void> {
  const folder = join(root, INCOMING);
  // As an earlier version named them: whosever they were, nobody makes them any more.
  for (const entry of await readdir(folder).catch(() => []))
    if (entry.startsWith(`${name}+`) || entry.endsWith(".git"))
      await rm(join(folder, entry), { recursive: true, force: true });
  await rmdir(folder).catch(() => undefined);
}

/** It is this Pod's own from now on. */
export async function removeMark(directory: string): Promise<void> {
  await rm(join(directory, MARKER), { force: true });
}

export async function isMirrorOf(directory: string, migrationId: MigrationId): Promise<boolean> {
  const text = await readFile(join(directory, MARKER), "utf8").catch(() => "");
  return text.trimEnd() === migrationId;
}
