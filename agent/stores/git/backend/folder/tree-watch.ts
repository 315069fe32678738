/**
 * Finds new and deleted repositories. The kernel reports what happens in folders that contain repositories (not in
 * the repositories themselves), so a new one is found within milliseconds, and `settled` makes sure of it at the
 * fence at a cost that does not grow: it makes a file in a watched folder of its own and waits for that event, which
 * the kernel delivers after all earlier ones. Where events were lost, where no watch was to be had, and on a file system
 * that other machines write, only listing all folders helps.
 */
import { randomUUID } from "node:crypto";
import type { FSWatcher } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../../../../protocol/ports/clock.ts";
import { fileSystemAt } from "../../../machine/file-systems.ts";
import { onLostEvents, watchFolder } from "../../../machine/folder-watch.ts";
import { isRepositoryPath } from "../../inventory/repository-path.ts";
import type { RepositoryListener, RepositoryWatch } from "../backend.ts";
import { folderExists, type Ignored, listFolder } from "./list.ts";

export interface TreeWatchOptions {
  readonly root: string;
  readonly ignored: Ignored;
  /** A folder of the agent's own, for `settled`. */
  readonly barrierFolder: string;
  readonly clock: Clock;
  readonly listener: RepositoryListener;
}

const BARRIER_MS = 100;

export class TreeWatch implements RepositoryWatch {
  readonly #options: TreeWatchOptions;
  /** Folders that may contain repositories; null where no watch was to be had. */
  readonly #folders = new Map<string, FSWatcher | null>();
  readonly #repositories = new Set<string>();
  readonly #pending = new Set<Promise<void>>();
  readonly #problems = new Map<string, readonly string[]>();
  readonly #barriers = new Map<string, () => void>();
  #barrier: FSWatcher | null = null;
  /** Other machines may write there, of which this kernel's watches tell nothing. */
  #shared = false;
  /** Events may be lost since the last look at everything began. */
  #lost = false;
  #stopCounting: () => void = () => undefined;
  #closed = false;

  constructor(options: TreeWatchOptions) {
    this.#options = options;
  }

  /** Repositories found and not handled (links, names that cannot be used): they must not be overlooked. */
  get problems(): string[] {
    return [...this.#problems.values()].flat();
  }

  get repositories(): ReadonlySet<string> {
    return this.#repositories;
  }

  /** Watches, lists everything once, and resolves when every `found` has ended. */
  async start(): Promise<void> {
    const { barrierFolder } = this.#options;
    await rm(barrierFolder, { recursive: true, force: true });
    await mkdir(barrierFolder, { recursive: true });
    this.#shared = !(await fileSystemAt(this.#options.root)).isLocal;
    this.#stopCounting();
    this.#stopCounting = onLostEvents(() => {
      this.#lost = true;
    });
    try {
      this.#barrier = watchFolder(barrierFolder, (_event, name) => this.#barriers.get(name ?? "")?.());
      this.#barrier.on("error", () => undefined);
    } catch {
      this.#barrier = null;
    }
    await this.#enter("");
    await this.#idle();
  }

  close(): void {
    this.#closed = true;
    this.#stopCounting();
    this.#barrier?.close();
    for (const watcher of this.#folders.values()) watcher?.close();
    this.#folders.clear();
  }

  /** No watch tells of what happens in some folder, or of all that happened: only listing finds it. */
  get blind(): boolean {
    return this.#barrier === null || this.#shared || this.#lost || [...this.#folders.values()].includes(null);
  }

  /** Lists all folders again. Costs some system calls for each: in the background only. */
  async scan(signal?: AbortSignal): Promise<void> {
    const { blind } = this;
    this.#lost = false;
    try {
      const before = new Set(this.#repositories);
      for (const folder of [...this.#folders.keys()]) {
        signal?.throwIfAborted();
        for (const path of await this.#list(folder)) before.delete(path);
      }
      // Known and not listed: gone, or moved out of sight in this very moment.
      for (const path of before) await this.#look(path);
    } catch (error) {
      this.#lost ||= blind;
      throw error;
    }
    await this.#idle();
  }

  /**
   * Resolves when everything that happened in the tree before the call has been handled: as the kernel told it, or by
   * listing everything.
   */
  async settled(signal: AbortSignal): Promise<"told" | "listed"> {
    if (!this.blind) {
      const name = randomUUID();
      const passed = new Promise<boolean>((resolve) => this.#barriers.set(name, () => resolve(true)));
      const late = new AbortController();
      const expired = this.#options.clock.sleep(BARRIER_MS, late.signal).then(
        () => false,
        () => false,
      );
      await writeFile(join(this.#options.barrierFolder, name), "");
      const ok = await Promise.race([passed, expired]);
      late.abort();
      this.#barriers.delete(name);
      void rm(join(this.#options.barrierFolder, name), { force: true });
      if (ok && !this.#lost) {
        await this.#idle();
        return "told";
      }
    }
    // Without the kernel's word only looking helps, whatever it costs.
    await this.scan(signal);
    return "listed";
  }

  async #idle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all([...this.#pending]);
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
  }

  async #enter(folder: string): Promise<void> {
    if (this.#closed || this.#folders.has(folder)) return;
    // Watched first and listed second: what appears in between is seen twice rather than never.
    let watcher: FSWatcher | null = null;
    try {
      watcher = watchFolder(join(this.#options.root, folder), (event, name) => {
        if (event === "rename" && name !== null)
          this.#track(this.#look(folder === "" ? name : `${folder}/${name}`));
      });
      watcher.on("error", () => {
        watcher?.close();
        if (this.#folders.has(folder)) this.#folders.set(folder, null);
      });
    } catch {
      watcher = null;
    }
    this.#folders.set(folder, watcher);
    await this.#list(folder);
  }

  async #list(folder: string): Promise<readonly string[]> {
    if (folder !== "" && !(await folderExists(join(this.#options.root, folder)))) {
      await this.#leave(folder);
      return [];
    }
    const listing = await listFolder(this.#options.root, folder, this.#options.ignored);
    if (listing.problems.length > 0) this.#problems.set(folder, listing.problems);
    else this.#problems.delete(folder);
    for (const path of listing.repositories) this.#found(path);
    for (const inner of listing.folders) await this.#enter(inner);
    return listing.repositories;
  }

  #found(path: string): void {
    this.#repositories.add(path);
    this.#track(this.#options.listener.found(path));
  }

  async #look(path: string): Promise<void> {
    if (this.#closed || this.#options.ignored(path)) return;
    const exists = await folderExists(join(this.#options.root, path));
    if (isRepositoryPath(path)) {
      if (exists) this.#found(path);
      else if (this.#repositories.delete(path)) await this.#options.listener.gone(path);
    } else if (exists) await this.#enter(path);
    else await this.#leave(path);
  }

  async #leave(folder: string): Promise<void> {
    const below = (path: string) => path === folder || path.startsWith(`${folder}/`);
    for (const [path, watcher] of this.#folders) {
      if (!below(path)) continue;
      watcher?.close();
      this.#folders.delete(path);
      this.#problems.delete(path);
    }
    for (const path of [...this.#repositories])
      if (below(path) && this.#repositories.delete(path)) await this.#options.listener.gone(path);
  }
}
