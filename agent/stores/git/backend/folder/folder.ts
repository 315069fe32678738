/** Bare repositories below one folder, written by git itself and by whoever else works there. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { CleaveError } from "../../../../../protocol/errors.ts";
import type { Finding } from "../../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import type { Clock } from "../../../../../protocol/ports/clock.ts";
import { FolderRoot } from "../../../common/backend/folder/folder-root.ts";
import { isNoItem } from "../../../common/root/volume-entries.ts";
import type { GitConfig } from "../../config.ts";
import { checkRepositoryPath } from "../../inventory/repository-path.ts";
import type {
  ContentOf,
  GitAccess,
  HeadLocks,
  NewRepository,
  RepositoryBackend,
  RepositoryItem,
  RepositoryListener,
  RepositoryReading,
  RepositoryWatch,
  WantedRefs,
} from "../backend.ts";
import type { RepositoryFiles } from "../repository-files.ts";
import { lendersOf } from "./borrowed-objects.ts";
import { checkProgram, checkRepository, checkSource, checkTarget } from "./checks.ts";
import {
  applyFiles,
  copyRepository,
  discard,
  fetchRepository,
  isMadeFor,
  removeMark,
  removeUnfinished,
} from "./copies.ts";
import { fingerprint } from "./fingerprint.ts";
import { gitVersion, HEAD_IN_HOOK_GIT, isOlder } from "./git-version.ts";
import { Glances } from "./glance.ts";
import { HeadLockFiles } from "./head-locks.ts";
import { type Hook, installHook, isHookInForce, removeHook, writeHook } from "./hook-install.ts";
import { lookAtObjects, tipsOf, verifyNewObjects, verifyObjects } from "./integrity.ts";
import { itemsOf } from "./items.ts";
import { fileExists, folderExists, ignoring, partsOf, scanRoot } from "./list.ts";
import { readRepository } from "./reading.ts";
import { holdsNoLock } from "./ref-locks.ts";
import {
  deleteHidden,
  endHiding,
  foldersOf,
  hiddenRepositories,
  hideRepository,
  removeEmptyFolders,
} from "./removal.ts";
import { FileHashes, parentsOf, readContent, readContents } from "./repository-files.ts";
import type { GitOptions } from "./run-git.ts";
import { diskBytes } from "./sizes.ts";
import { syncTree } from "./sync.ts";
import { TreeWatch } from "./tree-watch.ts";
import { advertiseRefs, uploadPack } from "./upload-pack.ts";

export interface FolderBackendOptions {
  readonly config: Pick<GitConfig, "root" | "program" | "ignore" | "headLock">;
  /** The fence's `control` folder, which the hook reads. */
  readonly control: string;
  /** A folder of the agent's own, at best on the repositories' file system. */
  readonly stateDirectory: string;
  readonly clock: Clock;
}

export class FolderBackend extends FolderRoot implements RepositoryBackend {
  readonly #options: FolderBackendOptions;
  readonly #git: GitOptions;
  readonly #hashes = new FileHashes();
  readonly #glances = new Glances();
  #hook: Hook | null = null;
  #workspace: Promise<string> | null = null;
  #headLocks: Promise<HeadLocks | null> | null = null;

  constructor(options: FolderBackendOptions) {
    super(options.config.root);
    this.#options = options;
    this.#git = { program: options.config.program };
  }

  #at(path: string): string {
    return join(this.place, checkRepositoryPath(path));
  }

  // What is there ---------------------------------------------------------------------------------------------

  async list(signal?: AbortSignal, { everything }: { readonly everything: boolean } = { everything: false }) {
    const ignored = ignoring(everything ? [] : this.#options.config.ignore);
    const { repositories, problems } = await scanRoot(this.place, ignored, signal);
    return { repositories, problems };
  }

  async exists(path: string): Promise<boolean> {
    return folderExists(this.#at(path));
  }

  async isTaken(path: string): Promise<boolean> {
    return fileExists(this.#at(path));
  }

  /** `git init` makes its files one by one, and `rm` takes them away in any order. */
  async isWhole(path: string): Promise<boolean> {
    const needed = ["HEAD", "objects", "refs"].map((name) => fileExists(join(this.#at(path), name)));
    return (await Promise.all(needed)).every(Boolean);
  }

  async parts(path: string): Promise<readonly string[]> {
    return partsOf(this.#at(path));
  }

  async read(path: string): Promise<RepositoryReading | null> {
    return readRepository(this.#at(path), path, {
      git: this.#git,
      hashes: this.#hashes,
      glances: this.#glances,
      now: () => this.#options.clock.now(),
    });
  }

  glance(path: string): string | null {
    return this.#glances.look(path, this.#at(path));
  }

  async look(path: string): Promise<{ readonly version: string; readonly locks: readonly string[] }> {
    const { digest, locks } = await fingerprint(this.#at(path), this.#options.clock.now());
    return { version: digest, locks };
  }

  async bytes(path: string, signal: AbortSignal): Promise<number> {
    return diskBytes(this.#at(path), signal);
  }

  items(path: string): AsyncIterable<RepositoryItem> {
    return itemsOf(this.#at(path), this.#git, this.#hashes);
  }

  async lookAtObjects(path: string): Promise<{ readonly version: string; readonly bytes: number }> {
    return lookAtObjects(this.#at(path));
  }

  async verify(path: string, signal: AbortSignal): Promise<string | null> {
    return verifyObjects(this.#at(path), this.#git, signal);
  }

  async tips(path: string): Promise<Buffer> {
    return tipsOf(this.#at(path), this.#git);
  }

  async verifyNew(path: string, tips: Buffer, signal: AbortSignal): Promise<string | null> {
    return verifyNewObjects(this.#at(path), this.#git, tips, signal);
  }

  async lendersOf(path: string): Promise<readonly string[]> {
    return lendersOf(this.place, checkRepositoryPath(path));
  }

  watch(listener: RepositoryListener): RepositoryWatch {
    return new TreeWatch({
      root: this.place,
      ignored: ignoring(this.#options.config.ignore),
      barrierFolder: join(this.#options.stateDirectory, "barrier"),
      clock: this.#options.clock,
      listener,
    });
  }

  // Checks ----------------------------------------------------------------------------------------------------

  async about(): Promise<string> {
    return `git ${(await gitVersion(this.#git))?.join(".") ?? "of an unknown version"}`;
  }

  checkProgram(): Promise<Finding[]> {
    return checkProgram(this.#git);
  }

  checkSource(): Promise<Finding[]> {
    return checkSource(this.#git);
  }

  checkTarget({ mustBeEmpty }: { readonly mustBeEmpty: boolean }): Promise<Finding[]> {
    return checkTarget(this.place, this.#git, mustBeEmpty);
  }

  async checkRepository(path: string): Promise<Finding[]> {
    return checkRepository(this.#at(path), path, this.#git, this.#hashes);
  }

  async leftBehind(path: string): Promise<readonly string[]> {
    return readContents(this.#at(path), this.#hashes, { content: false }).then(
      ({ left }) => left,
      () => [],
    );
  }

  // Copies ----------------------------------------------------------------------------------------------------

  async create(): Promise<void> {
    await mkdir(this.place, { recursive: true });
  }

  async firstEntry(): Promise<string | null> {
    return (await readdir(this.place)).find((name) => !isNoItem(name)) ?? null;
  }

  async copy(path: string, copy: NewRepository, signal: AbortSignal): Promise<void> {
    checkRepositoryPath(path);
    const options = { root: this.place, path, git: this.#git, hashes: this.#hashes, signal };
    await copyRepository(copy, this.#prepared(), { ...options, workspace: await this.#makeWorkspace() });
  }

  async fetch(path: string, from: GitAccess, wanted: WantedRefs, signal: AbortSignal): Promise<void> {
    const directory = this.#at(path);
    const options = { path, git: this.#git, signal, workspace: await this.#makeWorkspace() };
    const startedAt = Date.now();
    await fetchRepository(directory, from, wanted, options);
    await syncTree(directory, startedAt);
  }

  /** What an earlier process left there is of no use. */
  #makeWorkspace(): Promise<string> {
    this.#workspace ??= (async () => {
      const folder = join(this.#options.stateDirectory, "views");
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true, mode: 0o700 });
      return folder;
    })();
    return this.#workspace;
  }

  async writeFiles(
    path: string,
    files: RepositoryFiles,
    options: { readonly keepHead: boolean; readonly contentOf: ContentOf },
  ): Promise<void> {
    const startedAt = Date.now();
    await applyFiles(this.#at(path), files, { ...options, hashes: this.#hashes });
    await syncTree(this.#at(path), startedAt);
  }

  async discard(path: string, name: string): Promise<void> {
    await discard(this.place, checkRepositoryPath(path), name);
  }

  removeUnfinished(name: string): Promise<void> {
    return removeUnfinished(this.place, name);
  }

  async isMadeFor(path: string, migrationId: MigrationId): Promise<boolean> {
    return isMadeFor(this.#at(path), migrationId);
  }

  async removeMark(path: string): Promise<void> {
    await removeMark(this.#at(path));
  }

  // Hooks and locks -------------------------------------------------------------------------------------------

  async prepareHook(): Promise<void> {
    this.#hook = await writeHook(this.place, this.#options.control);
  }

  #prepared(): Hook {
    if (this.#hook === null) throw new CleaveError("INTERNAL", "the hook has not been prepared");
    return this.#hook;
  }

  async installHook(path: string): Promise<void> {
    await installHook(this.#at(path), this.#prepared());
  }

  async isHookInForce(path: string): Promise<boolean> {
    return isHookInForce(this.#at(path), this.#prepared());
  }

  async removeHook(path: string): Promise<void> {
    await removeHook(this.#at(path));
  }

  async holdsNoLock(path: string): Promise<boolean> {
    return holdsNoLock(this.#at(path));
  }

  headLocks(): Promise<HeadLocks | null> {
    this.#headLocks ??= this.#makeLocks().catch((error: unknown) => {
      this.#headLocks = null;
      throw error;
    });
    return this.#headLocks;
  }

  async #makeLocks(): Promise<HeadLocks | null> {
    const { config, stateDirectory, clock } = this.#options;
    if (config.headLock === "never") return null;
    const version = await gitVersion(this.#git);
    if (config.headLock === "auto" && version !== null && !isOlder(version, HEAD_IN_HOOK_GIT)) return null;
    await mkdir(stateDirectory, { recursive: true });
    const locks = new HeadLockFiles({
      directoryOf: (path) => this.#at(path),
      template: join(stateDirectory, "head-lock"),
      clock,
    });
    await locks.prepare();
    return locks;
  }

  // Removal ---------------------------------------------------------------------------------------------------

  hide(path: string, migrationId: MigrationId): Promise<void> {
    return hideRepository(this.place, path, migrationId);
  }

  hidden(migrationId: MigrationId): Promise<readonly string[]> {
    return hiddenRepositories(this.place, migrationId);
  }

  deleteHidden(path: string, migrationId: MigrationId): Promise<void> {
    return deleteHidden(this.place, path, migrationId);
  }

  endHiding(migrationId: MigrationId): Promise<void> {
    return endHiding(this.place, migrationId);
  }

  async removeEmptyFolders(paths: Iterable<string> | null): Promise<void> {
    const { place } = this;
    const folders =
      paths === null
        ? (await scanRoot(place, ignoring(this.#options.config.ignore))).folders
        : [...paths].flatMap((path) => foldersOf(checkRepositoryPath(path)));
    await removeEmptyFolders(place, folders);
  }

  // Serving ---------------------------------------------------------------------------------------------------

  async files(path: string): Promise<RepositoryFiles> {
    const { files } = await readContents(this.#at(path), this.#hashes, { content: true });
    return { ...files, parents: await parentsOf(this.place, path) };
  }

  content(path: string, name: string): Promise<Readable> {
    return readContent(this.#at(path), name);
  }

  advertiseRefs(path: string, gitProtocol: string): Readable {
    return advertiseRefs(this.#at(path), this.#git, gitProtocol);
  }

  uploadPack(path: string, gitProtocol: string, request: Readable): Readable {
    return uploadPack(this.#at(path), this.#git, gitProtocol, request);
  }
}
