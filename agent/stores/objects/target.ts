/** The target's side of one migration: copies, follows, matches, and then keeps what it copied or removes it. */
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { Evidence, Problem, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { Conditions } from "../common/conditions.ts";
import { enforce } from "../common/fence/shares.ts";
import { orAborted } from "../common/or-aborted.ts";
import { RateLimit } from "../common/rate-limit.ts";
import { endOf, givesBack } from "../common/reverse/claims.ts";
import type { Role } from "../common/roles.ts";
import type { InventoryDigest } from "../common/verification/inventory-digest.ts";
import { hashObject } from "./backend/hashing.ts";
import { scrubLimits } from "./config.ts";
import { isShared, type ObjectsContext, ownedBy, scopeOf, sharedBy } from "./context.ts";
import type { Inventory } from "./inventory/inventory.ts";
import { scanInto } from "./inventory/scan.ts";
import type { SourceTracker } from "./inventory/tracker.ts";
import { targetIsEmpty } from "./preflight.ts";
import { ObjectsRemoval } from "./removal/remove.ts";
import { readCopyRecord, removeCopyRecord, writeCopyRecord } from "./replication/copy-record.ts";
import { Replica } from "./replication/replica.ts";
import { PeerClient } from "./replication/source-feed.ts";
import type { PeerView } from "./source.ts";
import { FenceDifferences } from "./verification/differences.ts";
import { Verification } from "./verification/scrub.ts";

interface Copying {
  readonly replica: Replica;
  readonly verification: Verification;
  readonly client: PeerClient;
  readonly differences: FenceDifferences;
  readonly scope: { readonly digest: InventoryDigest; readonly remove: () => void };
  readonly done: () => number;
}

/** Listing everything would take its processors from the clients that have waited for the opening. */
const TRACK_AFTER_MS = 2_000;

export class ObjectsTarget implements Role {
  readonly #context: ObjectsContext;
  readonly #inScope: (key: string) => boolean;
  readonly #isShared: (key: string) => boolean;
  readonly #conditions = new Conditions();
  readonly #removal: ObjectsRemoval;
  #duty: Duty;
  #reached = false;
  #copying: Copying | null = null;
  /** The fence at which the root was found to be what it was. */
  #rootEpoch: number | null = null;
  /** The fence whose difference already made this target look through everything again. */
  #resyncedEpoch: number | null = null;
  readonly #track: () => SourceTracker;
  /** Of a rollback: see `Duty`. */
  readonly of: Duty["of"];
  /** What the source is told, which follows it back; null: nothing. */
  #gives: { readonly only: (key: string) => boolean; readonly scope: (key: string) => boolean } | null = null;
  #giving: { readonly tracker: SourceTracker; inventory: Inventory | null } | null = null;
  readonly #closing = new AbortController();

  constructor(context: ObjectsContext, track: () => SourceTracker, duty: Duty) {
    this.#context = context;
    this.#track = track;
    this.of = duty.of;
    this.#duty = duty;
    this.#inScope = scopeOf(duty, context.ownerLookup);
    this.#isShared = sharedBy(duty, context.ownerLookup);
    this.#removal = new ObjectsRemoval(context);
  }

  readonly #isCopy = (key: string): boolean => !this.#selective || this.#inScope(key) || this.#isShared(key);

  get #selective(): boolean {
    return this.#duty.kind !== "split";
  }

  /** The copy is this Pod's own, kept true as everything that it has, and stays whatever becomes of the migration. */
  get #isRollback(): boolean {
    return this.#duty.kind === "rollback";
  }

  /** Null while the source may not be answered: an incomplete inventory would look like deletions. */
  peerView(): PeerView | null {
    const inventory = this.#giving?.inventory ?? null;
    if (this.#gives === null || this.#giving === null || inventory === null) return null;
    const { only, scope } = this.#gives;
    return { inventory, final: null, only, problem: this.#giving.tracker.unreadable(scope) };
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    this.#reached = false;
    const { changed, ownerLookup, claims } = this.#context;
    const given = givesBack(duty);
    const scope = given && ownedBy(given, ownerLookup);
    this.#gives = scope && { scope, only: (key) => scope(key) || isShared(ownerLookup, key) };
    switch (duty.goal) {
      case "seed":
      case "follow": {
        await enforce(this.#context.fence, duty);
        const { replica, verification } = await this.#copy(signal);
        verification.relax();
        await this.#conditions.until(() => replica.baseCopied, signal);
        break;
      }
      case "match": {
        await enforce(this.#context.fence, duty);
        this.#rootEpoch = null;
        await this.#copy(signal);
        await this.#context.root.require();
        await this.#requireMatched(duty, signal);
        // What was read earlier was read from this root only if it is still there.
        await this.#context.root.require();
        this.#rootEpoch = duty.epoch;
        break;
      }
      case "removeFiles":
        await this.letGo();
        await enforce(this.#context.fence, duty);
        await this.#removal.run(duty, signal);
        break;
      case "release":
        await this.#release(signal);
        break;
      default: {
        await this.#stopCopying();
        if (this.#isRollback) await claims.take(duty.assignments.keys(), this, signal);
        const record = await readCopyRecord(this.#context.stateDirectory, duty.migrationId);
        if (record && !record.activated)
          await writeCopyRecord(this.#context.stateDirectory, { ...record, activated: true });
        await enforce(this.#context.fence, duty);
        if (duty.goal === "open" && this.#gives !== null) this.#giveLater();
      }
    }
    this.#reached = true;
    changed();
  }

  status(): StoreStatus {
    const { goal, epoch } = this.#duty;
    const copying = this.#copying;
    const rootProblem =
      this.#context.root.problem ?? (copying !== null && this.#isRollback ? this.#track().problem() : null);
    const isRootKnown = rootProblem === null && this.#rootEpoch !== null && this.#rootEpoch === epoch;
    const evidence = goal === "match" && isRootKnown ? this.#matched() : null;
    const source = copying?.replica.source ?? null;
    const isRemoving = goal === "removeFiles";
    const finished = isRemoving || goal === "activate" || goal === "open" || goal === "release";
    return {
      goal,
      reached: this.#reached,
      progress:
        goal === "seed" && copying && source
          ? { done: Math.min(copying.done(), source.objects), total: source.objects, unit: "objects" }
          : isRemoving
            ? this.#removal.progress
            : null,
      lag: finished ? null : { amount: copying?.replica.lag() ?? null, unit: "objects" },
      verified: rootProblem === null && (finished || (copying?.verification.verified ?? false)),
      ...(copying ? { scrub: copying.verification.status() } : {}),
      evidence,
      problems: [
        ...(rootProblem === null ? [] : [rootProblem]),
        ...(copying
          ? this.#problems(copying, evidence)
          : isRemoving
            ? this.#removal.problems
            : [this.peerView()?.problem ?? []].flat().filter((problem) => problem !== rootProblem)),
      ].slice(0, 50),
      stragglers: [],
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the object store is closing"));
    await this.letGo();
  }

  /** Somebody else may follow what this one did. */
  async letGo(): Promise<void> {
    await this.#stopCopying();
    this.#context.claims.release(this);
  }

  /** Its first look finds what was changed until then, since every version is compared. */
  #giveLater(): void {
    if (this.#giving !== null) return;
    const { clock, log, changed } = this.#context;
    const { signal } = this.#closing;
    const giving: { tracker: SourceTracker; inventory: Inventory | null } = {
      tracker: this.#track(),
      inventory: null,
    };
    this.#giving = giving;
    const begin = async () => {
      await clock.sleep(this.#context.quietAfterOpeningMs ?? TRACK_AFTER_MS, signal);
      const inventory = await this.#context.inventory();
      await orAborted(giving.tracker.start(), signal);
      giving.inventory = inventory;
      changed();
    };
    const again = async () => {
      while (giving.inventory === null && !signal.aborted)
        await begin().catch((error: unknown) => {
          if (!signal.aborted) log.warn({ err: error }, "objects are not told to the source yet");
        });
    };
    void again();
  }

  async #stopCopying(): Promise<void> {
    const copying = this.#copying;
    this.#copying = null;
    if (copying === null) return;
    copying.differences.stop();
    await Promise.all([copying.replica.stop(), copying.verification.stop()]);
    copying.scope.remove();
    await copying.client.close();
  }

  #problems(copying: Copying, evidence: Evidence | null): Problem[] {
    const found = [...copying.replica.problems(), ...copying.verification.problems()];
    const { final } = copying.replica;
    if (evidence !== null && final !== null && evidence.digest !== final.digest)
      found.push({
        code: "MISMATCH",
        message:
          copying.differences.at(final.epoch) ??
          `this Pod holds ${evidence.digest} and the source ${final.digest} at the fence`,
      });
    return found;
  }

  /**
   * Evidence of the duty's fence from this Pod's own inventory, once everything up to the source's last change is
   * applied and what was changed has been read back; null before. A first difference makes the replica look through everything again.
   */
  #matched(): Evidence | null {
    const { epoch } = this.#duty;
    if (epoch === null || this.#copying === null) return null;
    const { replica, verification, scope } = this.#copying;
    const isConfirmed = verification.confirms(epoch);
    if (!replica.caughtUpWith(epoch) || !isConfirmed) return null;
    const digest = scope.digest.countedRoot;
    if (digest !== replica.final?.digest && this.#resyncedEpoch !== epoch) {
      this.#resyncedEpoch = epoch;
      this.#context.log.warn(
        { epoch },
        "objects differ from the source at the fence; looking through all of them",
      );
      replica.resync();
      return null;
    }
    const sourceGeneration = replica.final?.generation ?? 0;
    return { epoch, digest, details: { objects: scope.digest.size, sourceGeneration } };
  }

  /** With what the database names. @throws as `NamedItems.requireAtFence`. */
  #requireMatched({ migrationId, epoch }: Duty, signal: AbortSignal): Promise<void> {
    invariant(epoch !== null, "asked to prove equality without a fence");
    const inScope = ({ name }: { readonly name: string }) => this.#inScope(name);
    const matched = (until: AbortSignal) => this.#conditions.until(() => this.#matched() !== null, until);
    return this.#context.named.requireAtFence({ migrationId, epoch }, inScope, matched, signal);
  }

  async #copy(signal: AbortSignal): Promise<Copying> {
    if (this.#copying) return this.#copying;
    const { podId, peers, backend, config, clock, log } = this.#context;
    const { migrationId, sourcePodId, settings } = this.#duty;
    const peer = peers[sourcePodId];
    if (peer === undefined)
      throw new CleaveError("PEER_UNREACHABLE", `the configuration of ${podId} has no peer ${sourcePodId}`);
    const inventory = await this.#context.inventory();
    const tracker = this.#isRollback ? this.#track() : null;
    if (tracker !== null) {
      await orAborted(tracker.start(), signal);
      await this.#context.claims.take(this.#duty.assignments.keys(), this, signal);
    } else {
      await this.#claimRoot();
      await this.#context.root.establish();
      await this.#lookAtOwnFiles(signal);
    }
    const client = new PeerClient(peer);
    const onChange = () => this.#changed();
    const replica = new Replica({
      migrationId,
      backend,
      root: this.#context.root,
      lossBound: config.lossBound,
      inventory,
      client,
      clock,
      log,
      rateLimit: new RateLimit(clock, settings.rateLimits.objectBytesPerSecond),
      concurrency: settings.rateLimits.objectConcurrency,
      inScope: this.#inScope,
      isShared: this.#isShared,
      selective: this.#selective,
      tracked: tracker && ((key, change) => tracker.inTurn(key, change)),
      onChange,
    });
    const verification = new Verification({
      backend,
      inventory,
      replica,
      clock,
      log,
      memory: this.#context.scrubbed,
      limits: scrubLimits(config),
      isCopy: tracker === null ? this.#isCopy : this.#inScope,
      inScope: this.#inScope,
      // What a tracker finds is copied anew, or removed.
      isForeign: tracker === null ? (this.#selective ? this.#inScope : () => true) : () => false,
      onChange,
    });
    const scope = inventory.addScope(this.#inScope);
    const done = () => replica.done;
    const of = { ...this.#context, ...this.#duty, client, inventory, inScope: this.#inScope };
    const differences = new FenceDifferences(of, onChange);
    const copying = { replica, verification, client, differences, scope, done };
    this.#copying = copying;
    replica.start();
    return copying;
  }

  /** @throws CleaveError OBJECTS_NOT_EMPTY when somebody else's objects are there (rule 9). */
  async #claimRoot(): Promise<void> {
    const { stateDirectory, backend, root } = this.#context;
    const { migrationId } = this.#duty;
    const record = await readCopyRecord(stateDirectory, migrationId);
    if (record?.activated)
      throw new CleaveError("INTERNAL", "a target that was activated is asked to copy once more");
    if (record !== null) return;
    const found = await targetIsEmpty(this.#context, this.#duty);
    if (found !== null) {
      const code = this.#selective ? "TARGET_HOLDS_ORGANIZATION" : "OBJECTS_NOT_EMPTY";
      throw new CleaveError(code, `${backend.place} has ${found}`);
    }
    // Marked while it is empty; where others have their objects the mark is there, or comes now.
    await root.establish({ anew: !this.#selective });
    const rootId = await root.id();
    await writeCopyRecord(stateDirectory, { migrationId, emptyBefore: true, rootId, activated: false });
  }

  /** After a restart: what is really here, whatever an earlier process believed. */
  async #lookAtOwnFiles(signal: AbortSignal): Promise<void> {
    const { backend, root } = this.#context;
    const inventory = await this.#context.inventory();
    const refresh = async (key: string) => {
      // An unreadable copy counts as none and is replaced.
      const object = await hashObject(backend, key).catch(() => null);
      if (object === null) inventory.delete(key);
      else inventory.set(key, object);
    };
    await root.require();
    await scanInto(inventory, backend, {
      signal,
      only: this.#isCopy,
      refresh,
      onGone: async (keys) => {
        await root.require();
        // Whatever was lost here is copied again.
        for (const key of keys) await refresh(key);
      },
    });
  }

  async #release(signal: AbortSignal): Promise<void> {
    const { stateDirectory, backend, fence, root, log } = this.#context;
    const { migrationId, podId, shares } = this.#duty;
    await this.letGo();
    const record = await readCopyRecord(stateDirectory, migrationId);
    if (record?.emptyBefore && !record.activated) {
      invariant(shares[podId] === "source", `${podId} is authoritative, so its objects are not removed`);
      await root.require();
      const inventory = await this.#context.inventory();
      const temporaries: string[] = [];
      // An operator put another root in its place: nothing of that was made here.
      const isOurs = record.rootId === undefined || record.rootId === (await root.id());
      if (!isOurs) log.warn({}, `${backend.place} is not where the copies were: nothing is removed there`);
      else
        for await (const { key } of backend.list({ onTemporary: (name) => temporaries.push(name) })) {
          signal.throwIfAborted();
          // What is shared stays: others may have begun to use it.
          if (this.#selective && !this.#inScope(key)) continue;
          await backend.delete(key);
          inventory.delete(key);
        }
      // Where others write, temporary files may be theirs.
      if (isOurs && !this.#selective) for (const name of temporaries) await backend.deleteTemporary(name);
    }
    await fence.removeMigration(migrationId, endOf(this.#duty));
    await removeCopyRecord(stateDirectory, migrationId);
  }

  #changed(): void {
    if (this.#copying?.replica.baseCopied) this.#copying.verification.start();
    this.#conditions.recheck();
    this.#context.changed();
  }
}
