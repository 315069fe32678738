/** The agent's side of the file fence that Git and objects share: routes, shares, owners, drain, and what changed. */
import { execFile } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  makeFolders,
  readIfPresent,
  replaceFile,
  syncFolder,
} from "../../../protocol/adapters/durable-files.ts";
import { isBehind, type SharePhase } from "../../../protocol/cluster.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Owner } from "../common/inventory/owner-lookup.ts";
import { acknowledgeDirty, type DirtyEntry, inflightKeys, takeDirty, watchDirty } from "./dirty.ts";
import { type DrainOptions, drainWriters, type ProveEnd } from "./drain.ts";
import {
  type FencedStore,
  fencePaths,
  findShare,
  formatRoute,
  formatShares,
  organizationHash,
  ownerFile,
  parseRoute,
  type RouteLine,
  routeFile,
  SHARED,
  shareFile,
} from "./layout.ts";
import { baseRoute, type MigrationEnd, requireTakeOver, routeBefore, type TakeOver } from "./take-over.ts";
import { findingsOf, unseenWriters } from "./unseen-writers.ts";
import { decidedShares, readWhereabouts, type Whereabouts } from "./whereabouts.ts";

const STAGE_CONCURRENCY = 16;

export interface StageRoutes {
  readonly migrationId: MigrationId;
  readonly sourcePodId: PodId;
  readonly assignments: ReadonlyMap<OrganizationId, PodId>;
  /** Another migration decides about these by now: their routes stay as they are. */
  readonly leaveOut?: (organizationId: OrganizationId) => boolean;
  /** Of a rollback: whose routes it takes over, and of nobody else. */
  readonly takeOver?: TakeOver | null;
}

/** One instance per agent; both stores use it. Every method may be called again with the same arguments. */
export class FileFence {
  /** The `control` folder, for hooks and object writers. */
  readonly directory: string;
  readonly #clock: Clock;
  readonly #paths: ReturnType<typeof fencePaths>;
  readonly #shares = new Map<MigrationId, string>();
  /** A migration's assignments never change, so once is enough for the life of the process. */
  readonly #staged = new Set<MigrationId>();
  readonly #proofs = new Map<FencedStore, ProveEnd>();
  /** Announcement → when this process first saw it; its clock only grows, and no writer's is asked. */
  readonly #unseenSince = new Map<FencedStore, ReadonlyMap<string, number>>();
  #sharesTurn: Promise<unknown> = Promise.resolve();
  #routesTurn: Promise<unknown> = Promise.resolve();

  constructor(options: { readonly directory: string; readonly clock: Clock }) {
    this.directory = options.directory;
    this.#clock = options.clock;
    this.#paths = fencePaths(options.directory);
  }

  /**
   * Creates the folders and names this Pod. Until then every writer is refused.
   * @throws CleaveError CONFIG_INVALID when the folder belongs to another Pod.
   */
  async initialise(self: PodId, defaultPodId: PodId): Promise<void> {
    const paths = this.#paths;
    const folders = [paths.temporary, paths.routes, paths.shares, paths.owners];
    for (const store of ["git", "objects"] as const) folders.push(paths.inflight(store), paths.dirty(store));
    for (const folder of folders) await makeFolders(folder);
    const before = (await readIfPresent(paths.self))?.trimEnd();
    if (before !== undefined && before !== self)
      throw new CleaveError("CONFIG_INVALID", `${this.directory} belongs to Pod ${before}, not ${self}`);
    const defaultBefore = (await readIfPresent(paths.defaultPod))?.trimEnd();
    if (defaultBefore !== undefined && defaultBefore !== defaultPodId)
      throw new CleaveError(
        "CONFIG_INVALID",
        `${this.directory} knows ${defaultBefore} as the default Pod, not ${defaultPodId}`,
      );
    await this.#replace(paths.defaultPod, `${defaultPodId}\n`, true);
    await this.#replace(paths.self, `${self}\n`, true);
  }

  /** One small file per organization; durable when it resolves. Done while following, never while fenced. */
  stageRoutes(stage: StageRoutes): Promise<void> {
    return this.#inTurnOfRoutes(async () => {
      if (this.#staged.has(stage.migrationId)) return;
      const pending = stage.assignments.entries();
      let changed = false;
      const worker = async () => {
        for (const [organizationId, targetPodId] of pending) {
          if (stage.leaveOut?.(organizationId)) continue;
          const path = routeFile(this.directory, organizationHash(organizationId));
          const { migrationId, sourcePodId: basePodId } = stage;
          const line = formatRoute({ basePodId, migrationId, targetPodId });
          const before = await readIfPresent(path);
          if (before === line) continue;
          if (stage.takeOver) await requireTakeOver(this.directory, before, stage.takeOver, stage);
          await this.#replace(path, line, false);
          changed = true;
        }
      };
      await Promise.all(Array.from({ length: STAGE_CONCURRENCY }, worker));
      if (changed) await this.#syncAll();
      this.#staged.add(stage.migrationId);
    });
  }

  /**
   * Enforces the phases from now on; atomic for all targets, durable when it resolves. O(targets).
   * @throws CleaveError AGENT_BEHIND when writers have been told of a later phase.
   */
  setShares(
    migrationId: MigrationId,
    sourcePodId: PodId,
    shares: Readonly<Record<PodId, SharePhase>>,
  ): Promise<void> {
    return this.#inTurnOfShares(() => this.#writeShares(migrationId, sourcePodId, shares));
  }

  /**
   * The same, as long as the migration is not settled here: a duty may come once more to a Pod that is done with it, and
   * must not bring back what is gone.
   */
  keepShares(
    migrationId: MigrationId,
    sourcePodId: PodId,
    shares: Readonly<Record<PodId, SharePhase>>,
  ): Promise<void> {
    return this.#inTurnOfShares(async () => {
      if ((await readIfPresent(shareFile(this.directory, migrationId))) === null) return;
      await this.#writeShares(migrationId, sourcePodId, shares);
    });
  }

  /**
   * Removes what a migration staged: organizations go back to their base Pod, or to the migration that a rollback is of.
   * Other migrations are not touched.
   */
  removeMigration(migrationId: MigrationId, end: MigrationEnd = {}): Promise<void> {
    return this.#inTurnOfRoutes(() =>
      this.#endMigration(migrationId, (route) => routeBefore(this.directory, route, end)),
    );
  }

  /**
   * The migration is over: where each of its organizations is authoritative becomes its base Pod, and nothing else of it
   * stays. No writer sees a difference at any instant. Does nothing when the migration is settled already.
   * @throws CleaveError REMOVAL_NOT_ALLOWED when a share may still go either way.
   */
  settleMigration(migrationId: MigrationId, end: MigrationEnd = {}): Promise<void> {
    return this.#inTurnOfRoutes(async () => {
      // Goes last, so without it there is nothing left to settle.
      const shares = await readIfPresent(shareFile(this.directory, migrationId));
      if (shares === null) return;
      const opened = decidedShares(migrationId, shares);
      await this.#endMigration(migrationId, async (route, hash) => {
        const { targetPodId } = route;
        const isOpened = targetPodId === null ? undefined : opened.get(targetPodId);
        if (targetPodId === null || isOpened === undefined)
          throw new CleaveError("REMOVAL_NOT_ALLOWED", `a route of ${migrationId} names no share of it`);
        return isOpened && !end.returned?.(hash)
          ? baseRoute(targetPodId)
          : routeBefore(this.directory, route, end);
      });
    });
  }

  /** Some organization lives elsewhere than without any migration, or may: writers still have to ask. */
  async hasRoutes(): Promise<boolean> {
    for (const folder of await readdir(this.#paths.routes))
      if ((await readdir(join(this.#paths.routes, folder))).length > 0) return true;
    return false;
  }

  /** Where an organization is authoritative, for one that is about to remove what is dormant; see there. */
  whereaboutsOf(organizationId: OrganizationId, ofMigration: MigrationId): Promise<Whereabouts> {
    return readWhereabouts(this.directory, organizationId, ofMigration);
  }

  /**
   * Tells the Git hook who owns a repository. Not synced: a file that a power cut lost or emptied counts as missing,
   * which makes the hook wait for the agent.
   */
  async setOwner(repositoryPath: string, owner: Owner): Promise<void> {
    const path = ownerFile(this.directory, repositoryPath);
    const line = `${owner.kind === "shared" ? SHARED : organizationHash(owner.organizationId)}\n`;
    if ((await readIfPresent(path)) !== line) await this.#replace(path, line, false);
  }

  /** As `setOwner` wrote it, by the organization's hash; null when it does not say. */
  async ownerOf(repositoryPath: string): Promise<string | null> {
    return (await readIfPresent(ownerFile(this.directory, repositoryPath)))?.trimEnd() || null;
  }

  async removeOwner(repositoryPath: string): Promise<void> {
    await rm(ownerFile(this.directory, repositoryPath), { force: true });
  }

  /**
   * After `setShares` with `fenced`: resolves when every writer that may have passed the old share has ended. Writers
   * of organizations that are not fenced are neither waited for nor ended.
   * @returns a text for every writer that was terminated after `graceMs`.
   * @throws the signal's reason when it is aborted first.
   */
  drain(options: DrainOptions): Promise<{ stragglers: string[] }> {
    return drainWriters(this.directory, this.#clock, options, this.#proofs.get(options.store) ?? null);
  }

  /** Everything that is dirty now. Entries stay until acknowledged; a key may come several times. */
  takeDirty(store: FencedStore): Promise<DirtyEntry[]> {
    return takeDirty(this.directory, store);
  }

  acknowledgeDirty(store: FencedStore, id: string): Promise<void> {
    return acknowledgeDirty(this.directory, store, id);
  }

  /** Keys of writers between begin and end; of those alone that announced such a change, if one is named. */
  inflightKeys(store: FencedStore, change?: DirtyEntry["change"]): Promise<Set<string>> {
    return inflightKeys(this.directory, store, change);
  }

  /** How the end of a writer is proven whose process this agent cannot see: said once, by the store. */
  proveEndsBy(store: FencedStore, proveEnd: ProveEnd): void {
    this.#proofs.set(store, proveEnd);
  }

  /**
   * Findings about writers in flight of which nobody here can see whether they live: with `forMs` errors, about those that
   * have been there for that long by this agent's own clock, since a fence would wait for them in vain; else warnings, about
   * all of them.
   */
  async unseenWriters(store: FencedStore, forMs: number | null): Promise<Finding[]> {
    const writers = await unseenWriters(this.directory, store, this.#proofs.get(store) ?? null);
    const now = this.#clock.monotonic();
    const before = this.#unseenSince.get(store) ?? new Map<string, number>();
    const since = new Map(writers.map(({ path }) => [path, before.get(path) ?? now]));
    this.#unseenSince.set(store, since);
    const lasting = writers.filter(({ path }) => forMs === null || now - (since.get(path) ?? now) >= forMs);
    return findingsOf(store, lasting, forMs !== null);
  }

  /**
   * Calls `listener` soon after anything became dirty (at once by fs.watch, within 500 ms otherwise), and makes the
   * files of dead writers dirty. Never calls it twice at once: what came in the meantime is one more call. When it
   * rejects it is called again. Returns the function that ends it.
   */
  watchDirty(store: FencedStore, listener: () => void | Promise<void>): () => void {
    return watchDirty(
      { control: this.directory, store, clock: this.#clock, proveEnd: () => this.#proofs.get(store) ?? null },
      listener,
    );
  }

  async #writeShares(
    migrationId: MigrationId,
    sourcePodId: PodId,
    shares: Readonly<Record<PodId, SharePhase>>,
  ): Promise<void> {
    const content = formatShares(sourcePodId, shares);
    if (this.#shares.get(migrationId) === content) return;
    const held = (await readIfPresent(shareFile(this.directory, migrationId))) ?? "";
    for (const [podId, phase] of Object.entries(shares)) {
      const before = findShare(held, podId as PodId)?.phase;
      if (before !== undefined && isBehind(before, phase))
        throw new CleaveError(
          "AGENT_BEHIND",
          `the share of ${podId} in ${migrationId} is ${before} for writers of files, and ${phase} was asked for`,
        );
    }
    this.#shares.delete(migrationId);
    await this.#replace(shareFile(this.directory, migrationId), content, true);
    this.#shares.set(migrationId, content);
  }

  /** In turn of routes. */
  async #endMigration(
    migrationId: MigrationId,
    newRoute: (route: RouteLine, organizationHash: string) => Promise<RouteLine>,
  ): Promise<void> {
    this.#staged.delete(migrationId);
    const defaultPodId = (await readIfPresent(this.#paths.defaultPod))?.trimEnd();
    let changed = false;
    for (const folder of await readdir(this.#paths.routes)) {
      for (const name of await readdir(join(this.#paths.routes, folder))) {
        const path = join(this.#paths.routes, folder, name);
        const route = parseRoute((await readIfPresent(path)) ?? "");
        if (route?.migrationId !== migrationId) continue;
        changed = true;
        const next = await newRoute(route, name);
        if (next.migrationId === null && next.basePodId === defaultPodId) await rm(path, { force: true });
        else await this.#replace(path, formatRoute(next), false);
      }
    }
    if (changed) await this.#syncAll();
    // Last, so that no route ever names a share that is gone.
    await this.#inTurnOfShares(async () => {
      this.#shares.delete(migrationId);
      await rm(shareFile(this.directory, migrationId), { force: true });
      await syncFolder(this.#paths.shares);
    });
  }

  #replace(path: string, content: string, durable: boolean): Promise<void> {
    return replaceFile(path, content, { temporaryFolder: this.#paths.temporary, durable });
  }

  /** One syncfs instead of a sync for every organization's file. */
  async #syncAll(): Promise<void> {
    await promisify(execFile)("sync", ["-f", this.#paths.routes]);
  }

  #inTurnOfShares<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#sharesTurn.then(work);
    this.#sharesTurn = turn.catch(() => undefined);
    return turn;
  }

  #inTurnOfRoutes<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#routesTurn.then(work);
    this.#routesTurn = turn.catch(() => undefined);
    return turn;
  }
}
