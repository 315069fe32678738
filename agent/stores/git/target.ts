/** A migration's target: copies everything, follows, compares at the fence, and then serves. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { enforce } from "../common/fence/shares.ts";
import { misplacedDuty } from "../common/misplaced-duty.ts";
import { orAborted } from "../common/or-aborted.ts";
import { endOf, givesBack } from "../common/reverse/claims.ts";
import type { Role } from "../common/roles.ts";
import { scrubLimits } from "./config.ts";
import { assigned, assignedOwners, emptyRecord, type GitContext, ownersOf } from "./context.ts";
import { GitRemoval } from "./removal/remove.ts";
import { Mirror } from "./replication/mirror.ts";
import { Replica } from "./replication/replica.ts";
import { SourceFeed } from "./replication/source-feed.ts";
import { dormantMirror, mirrorName } from "./reverse/followers.ts";
import type { InventoryView } from "./verification/inventory-view.ts";
import { GitScrub } from "./verification/scrub.ts";

/** Nothing of it is needed for the first writes: what is missed until then, its first look finds. */
const SERVE_AFTER_MS = 5_000;

export class GitTarget implements Role {
  readonly #context: GitContext;
  readonly #track: () => Promise<void>;
  #view: InventoryView | null = null;
  #replica: Replica | null = null;
  #scrub: GitScrub | null = null;
  #goal: Goal;
  #reached = false;
  #epoch: number | null = null;
  /** The fence at which the root was found to be what it was. */
  #rootEpoch: number | null = null;
  #serving: Promise<void> | null = null;
  readonly #closing = new AbortController();
  readonly #removal: GitRemoval;
  #gives: ReadonlySet<string> | null = null;
  /** Of a rollback: see `Duty`. */
  readonly of: Duty["of"];

  /**
   * `track` starts what every serving Pod does: owners and hooks for new repositories, and an inventory that is kept
   * true.
   */
  constructor(context: GitContext, track: () => Promise<void>, duty: Duty) {
    this.#context = context;
    this.#track = track;
    this.#goal = duty.goal;
    this.of = duty.of;
    this.#removal = new GitRemoval(context);
  }

  /** Owners of whose repositories the source may ask, which follows them back; null: of none. */
  get gives(): ReadonlySet<string> | null {
    return this.#gives;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#goal = duty.goal;
    const given = givesBack(duty);
    this.#gives = given && ownersOf(given);
    this.#reached = false;
    this.#epoch = duty.goal === "match" ? duty.epoch : null;
    await enforce(this.#context.fence, duty);
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
        this.#scrub?.relax();
        await replica.until(() => replica.seeded, signal);
        return;
      }
      case "match": {
        const replica = await this.#following(duty, signal);
        const { epoch } = duty;
        if (epoch === null) throw new CleaveError("INTERNAL", "asked to prove equality without a fence");
        replica.urgent = true;
        this.#rootEpoch = null;
        await this.#context.root.require();
        const matched = (until: AbortSignal) => replica.until(() => this.#matched(epoch), until);
        const marker = { migrationId: duty.migrationId, epoch };
        await this.#context.named.requireAtFence(marker, assigned(duty), matched, signal);
        // What was read earlier was read from this root only if it is still there.
        await this.#context.root.require();
        this.#rootEpoch = epoch;
        return;
      }
      case "activate":
        await this.#stopFollowing();
        return this.#claim(duty, signal);
      case "open":
        await this.#stopFollowing();
        await this.#claim(duty, signal);
        await this.#unlock(duty);
        this.#serveLater();
        return;
      case "removeFiles":
        await this.#stopFollowing();
        if (duty.shares[duty.podId] === "opened") this.#serveLater();
        return this.#removal.run(duty, signal);
      case "release":
        await this.letGo();
        await this.#removeAll(duty);
        return;
      case "prepare":
      case "serve":
      case "fence":
      case "yield":
      case "removeRows":
        throw misplacedDuty(duty);
    }
  }

  status(): StoreStatus {
    const replica = this.#replica;
    const view = this.#view;
    const { problem } = this.#context.root;
    const isRootKnown = problem === null && this.#rootEpoch !== null && this.#rootEpoch === this.#epoch;
    const matched = this.#epoch !== null && this.#matched(this.#epoch) && isRootKnown;
    const evidence =
      matched && view !== null && view.unreadable.size === 0
        ? { epoch: this.#epoch as never, digest: view.digest, details: { repositories: view.size } }
        : null;
    return {
      goal: this.#goal,
      reached: this.#reached && (this.#goal !== "match" || matched),
      progress: replica === null ? this.#removal.progress : { ...replica.progress, unit: "repositories" },
      lag: { amount: replica?.lag ?? null, unit: "repositories" },
      verified: problem === null && (replica?.verified ?? false) && (this.#scrub?.verified ?? false),
      ...(this.#scrub === null ? {} : { scrub: this.#scrub.status() }),
      evidence,
      problems: [
        ...(problem === null ? [] : [problem]),
        ...(replica?.problems() ?? this.#removal.problems),
      ].slice(0, 50),
      stragglers: [],
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the Git store is closing"));
    await this.letGo();
  }

  /** Somebody else may follow what this one did. */
  async letGo(): Promise<void> {
    await this.#stopFollowing();
    this.#context.claims.release(this);
  }

  /** Everything is here, and what was changed has been read back from the disk. */
  #matched(epoch: number): boolean {
    // Asked in any case, so that a sample is read while the source drains.
    const isConfirmed = this.#scrub?.confirms(epoch) ?? false;
    return isConfirmed && (this.#replica?.matched(epoch) ?? false);
  }

  async #following(duty: Duty, signal: AbortSignal): Promise<Replica> {
    if (this.#replica !== null) return this.#replica;
    const { backend, inventory } = this.#context;
    const { migrationId, kind, sourcePodId } = duty;
    const feed = new SourceFeed(sourcePodId, this.#context.peers[sourcePodId]);
    await backend.prepareHook();
    let mirror: Mirror;
    if (kind === "rollback") {
      // The copy is here, and is not looked at as one but tracked like everything that this Pod has of its own.
      await orAborted(this.#track(), signal);
      await this.#claim(duty, signal);
      // As a source of another migration this Pod may hold them in the copies that a rollback follows.
      const options = { name: mirrorName(duty), locks: await backend.headLocks() };
      mirror = dormantMirror(this.#context, feed, duty.assignments.keys(), options);
      await mirror.prepare();
    } else {
      await this.#claimRoot(duty);
      const isMarked = (path: string) => backend.isMadeFor(path, migrationId);
      const isOurs = kind === "split" ? null : isMarked;
      mirror = new Mirror(this.#context, feed, {
        name: mirrorName(duty),
        mark: migrationId,
        isOurs,
        locks: null,
      });
      await this.#context.root.establish();
      await mirror.prepare();
      const { repositories } = await backend.list(signal);
      await Promise.all(
        repositories.map(async (path) => {
          if (isOurs === null || (await isOurs(path))) await inventory.refresh(path);
        }),
      );
    }
    signal.throwIfAborted();
    this.#view ??= inventory.view(assignedOwners(duty));
    this.#replica = new Replica({
      context: this.#context,
      feed,
      mirror,
      migrationId,
      source: sourcePodId,
      selective: kind !== "split",
      view: this.#view,
      watchOwn: kind === "rollback",
      concurrency: duty.settings.rateLimits.gitConcurrency,
      onChange: () => {
        if (this.#replica?.seeded) this.#scrub?.start();
        this.#context.changed();
      },
    });
    this.#scrub = new GitScrub({
      context: this.#context,
      replica: this.#replica,
      view: this.#view,
      selective: kind !== "split",
      limits: scrubLimits(this.#context.config),
      onChange: () => this.#replica?.recheck(),
    });
    return this.#replica;
  }

  /** From the first look until this Pod is done with it, nobody else may follow what a rollback brings. */
  async #claim({ kind, assignments }: Duty, signal: AbortSignal): Promise<void> {
    if (kind === "rollback") await this.#context.claims.take(assignments.keys(), this, signal);
  }

  /** What was dormant here until now. What is not known yet is what a restarted source of the other migration sees to. */
  async #unlock(duty: Duty): Promise<void> {
    if (duty.kind !== "rollback") return;
    const { backend, inventory } = this.#context;
    const owners = assignedOwners(duty);
    const paths: string[] = [];
    for (const { path, owner } of inventory.entries())
      if (owner !== null && owners.has(owner)) paths.push(path);
    await (await backend.headLocks())?.release(paths);
  }

  /** Reading every repository anew would take its processors from the clients that have waited for the opening. */
  #serveLater(): void {
    const { clock, log, quietAfterOpeningMs = SERVE_AFTER_MS } = this.#context;
    const { signal } = this.#closing;
    this.#serving ??= (async () => {
      for (;;) {
        await clock.sleep(quietAfterOpeningMs, signal);
        try {
          return await this.#track();
        } catch (error) {
          if (!signal.aborted) log.warn({ err: error }, "new repositories are not watched yet");
        }
      }
    })().catch(() => undefined);
  }

  async #stopFollowing(): Promise<void> {
    const [replica, scrub] = [this.#replica, this.#scrub];
    this.#replica = null;
    this.#scrub = null;
    await Promise.all([scrub?.stop(), replica?.close()]);
  }

  /**
   * A new Pod is empty (rule 9): seen once, before anything was made here, and remembered. A Pod that organizations
   * move to has others' repositories, of which none is touched: what is made here carries the migration's mark.
   */
  async #claimRoot(duty: Duty): Promise<void> {
    const record = emptyRecord(this.#context, duty);
    const { backend, root } = this.#context;
    const { place } = backend;
    if ((await record.readIfPresent()) === place) return;
    await backend.create();
    const first = duty.kind === "split" ? await backend.firstEntry() : null;
    if (first !== null)
      throw new CleaveError("GIT_NOT_EMPTY", `${place} is not empty: it has ${JSON.stringify(first)}`);
    // Marked while it is empty; where others have their repositories the mark is there, or comes now.
    await root.establish({ anew: duty.kind === "split" });
    await record.makeFolder();
    await record.replace(place, { durable: true });
  }

  /** Only what carries this migration's mark, and only in the root that was looked at before it: nothing of a rollback. */
  async #removeAll(duty: Duty): Promise<void> {
    const { backend, fence, inventory, root } = this.#context;
    const record = emptyRecord(this.#context, duty);
    if ((await record.readIfPresent()) === backend.place) {
      await root.require();
      const removed: string[] = [];
      for (const path of (await backend.list()).repositories) {
        if (!(await backend.isMadeFor(path, duty.migrationId))) continue;
        removed.push(path);
        await backend.discard(path, mirrorName(duty));
        await fence.removeOwner(path);
        await inventory.refresh(path, { removed: true });
      }
      await backend.removeUnfinished(mirrorName(duty));
      await backend.removeEmptyFolders(duty.kind === "split" ? null : removed);
    }
    if (this.#view !== null) inventory.dropView(this.#view);
    this.#view = null;
    await fence.removeMigration(duty.migrationId, endOf(duty));
    await record.remove();
  }
}
