/** A migration's target: copies everything, follows, compares at the fence, and then serves. */
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import {
  assignedOwners,
  emptyRecord,
  enforceShares,
  type GitContext,
  type Role,
  stageRoutes,
} from "./context.ts";
import { writeHook } from "./hook-install.ts";
import type { InventoryView } from "./inventory-view.ts";
import { isMirrorOf, Mirror } from "./mirror.ts";
import { GitRemoval } from "./removal.ts";
import { Replica } from "./replica.ts";
import { foldersOf, INCOMING, ignoring, scanRoot } from "./repository-path.ts";
import { SourceFeed } from "./source-feed.ts";

/** Nothing of it is needed for the first writes: what is missed until then, its first look finds. */
const SERVE_AFTER_MS = 5_000;

export class GitTarget implements Role {
  readonly #context: GitContext;
  /** Starts what every serving Pod does: owners and hooks for new repositories. */
  readonly #serve: () => Promise<void>;
  #view: InventoryView | null = null;
  #replica: Replica | null = null;
  #goal: Goal;
  #reached = false;
  #epoch: number | null = null;
  #serving: Promise<void> | null = null;
  readonly #closing = new AbortController();
  readonly #removal: GitRemoval;

  constructor(context: GitContext, serve: () => Promise<void>, duty: Duty) {
    this.#context = context;
    this.#serve = serve;
    this.#goal = duty.goal;
    this.#removal = new GitRemoval(context);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#goal = duty.goal;
    this.#reached = false;
    this.#epoch = duty.goal === "match" ? duty.epoch : null;
    await enforceShares(this.#context, duty);
    await stageRoutes(this.#context, duty);
    signal.throwIfAborted();
    await this.#towards(duty, signal);
    signal.throwIfAborted();
    this.#reached = true;
    this.#context.changed();
  }

  async #towards(duty: Duty, signal: AbortSignal): Promise<void> {
    switch (duty.goal) {
      case "seed":
      case "follow": {
        const replica = await this.#following(duty, signal);
        replica.urgent = false;
        await replica.until(() => replica.seeded, signal);
        return;
      }
      case "match": {
        const replica = await this.#following(duty, signal);
        const { epoch } = duty;
        if (epoch === null) throw new CleaveError("INTERNAL", "asked to match without a fence");
        replica.urgent = true;
        await replica.until(() => replica.matched(epoch), signal);
        return;
      }
      case "activate":
        return this.#stopFollowing();
      case "open":
        await this.#stopFollowing();
        this.#serveLater();
        return;
      case "removeFiles":
        await this.#stopFollowing();
        if (duty.shares[duty.podId] === "opened") this.#serveLater();
        return this.#removal.run(duty, signal);
      case "release":
        await this.#stopFollowing();
        await this.#removeAll(duty);
        return;
      case "prepare":
      case "serve":
      case "fence":
      case "yield":
      case "removeRows":
        throw new CleaveError("INTERNAL", `${duty.goal} is no goal of a target`);
    }
  }

  status(): StoreStatus {
    const replica = this.#replica;
    const view = this.#view;
    const matched = replica !== null && this.#epoch !== null && replica.matched(this.#epoch);
    const evidence =
      matched && view !== null && view.unreadable.size === 0
        ? { epoch: this.#epoch as never, digest: view.digest, details: { repositories: view.size } }
        : null;
    return {
      goal: this.#goal,
      reached: this.#reached && (this.#goal !== "match" || matched),
      progress: replica === null ? this.#removal.progress : { ...replica.progress, unit: "repositories" },
      lag: { amount: replica?.lag ?? null, unit: "repositories" },
      verified: replica?.verified ?? false,
      evidence,
      problems: replica?.problems() ?? [...this.#removal.problems],
      stragglers: [],
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the Git store is closing"));
    await this.#stopFollowing();
  }

  async #following(duty: Duty, signal: AbortSignal): Promise<Replica> {
    if (this.#replica !== null) return this.#replica;
    const { config, fence, inventory } = this.#context;
    const feed = new SourceFeed(duty.sourcePodId, this.#context.peers[duty.sourcePodId]);
    await this.#claimRoot(duty);
    const hook = await writeHook(config.root, fence.directory);
    const mirror = new Mirror(this.#context, feed, hook, duty);
    await mirror.prepare();
    const { repositories } = await scanRoot(config.root, ignoring(config.ignore), signal);
    await Promise.all(
      repositories.map(async (path) => {
        if (duty.kind === "split" || (await mirror.isOwn(path))) await inventory.refresh(path);
      }),
    );
    signal.throwIfAborted();
    this.#view ??= inventory.view(assignedOwners(duty));
    this.#replica = new Replica({
      context: this.#context,
      feed,
      mirror,
      migrationId: duty.migrationId,
      selective: duty.kind === "move",
      view: this.#view,
      concurrency: duty.settings.rateLimits.gitConcurrency,
      onChange: this.#context.changed,
    });
    return this.#replica;
  }

  /** Reading every repository anew would take its processors from the clients that have waited for the opening. */
  #serveLater(): void {
    const { clock, log } = this.#context;
    const { signal } = this.#closing;
    this.#serving ??= (async () => {
      await clock.sleep(SERVE_AFTER_MS, signal);
      await this.#serve();
    })().catch((error: unknown) => {
      this.#serving = null;
      if (!signal.aborted) log.warn({ err: error }, "new repositories are not watched yet");
    });
  }

  async #stopFollowing(): Promise<void> {
    const replica = this.#replica;
    this.#replica = null;
    await replica?.close();
  }

  /**
   * A new Pod is empty (rule 9): seen once, before anything was made here, and remembered. A Pod that organizations
   * move to has others' repositories, of which none is touched: what is made here carries the migration's mark.
   */
  async #claimRoot(duty: Duty): Promise<void> {
    const record = emptyRecord(this.#context, duty);
    const { root } = this.#context.config;
    if ((await readFile(record, "utf8").catch(() => null)) === root) return;
    await mkdir(root, { recursive: true });
    const [first] = duty.kind === "move" ? [] : await readdir(root);
    if (first !== undefined)
      throw new CleaveError("GIT_NOT_EMPTY", `${root} is not empty: it has ${JSON.stringify(first)}`);
    await mkdir(this.#context.stateDirectory, { recursive: true });
    await writeFile(record, root, { flush: true });
  }

  /** Only what carries this migration's mark, and only in the root that was looked at before it. */
  async #removeAll(duty: Duty): Promise<void> {
    const { config, fence, inventory } = this.#context;
    const record = emptyRecord(this.#context, duty);
    if ((await readFile(record, "utf8").catch(() => null)) === config.root) {
      const { repositories, folders } = await scanRoot(config.root, ignoring(config.ignore));
      const removed: string[] = [];
      for (const path of repositories) {
        const directory = inventory.gitDirectory(path);
        if (!(await isMirrorOf(directory, duty.migrationId))) continue;
        removed.push(path);
        await rm(directory, { recursive: true, force: true });
        await fence.removeOwner(path);
        await inventory.refresh(path);
      }
      await rm(join(config.root, INCOMING), { recursive: true, force: true });
      // Deepest first; one that is not empty has something that is not ours.
      const made = new Set([
        ...(duty.kind === "move" ? [] : folders),
        ...removed.flatMap((path) => foldersOf(path)),
      ]);
      for (const folder of [...made].sort((a, b) => b.length - a.length))
        if (folder !== "" && folder !== ".") await rmdir(join(config.root, folder)).catch(() => undefined);
    }
    if (this.#view !== null) inventory.dropView(this.#view);
    this.#view = null;
    await fence.removeMigration(duty.migrationId);
    await rm(record, { force: true });
  }
}
