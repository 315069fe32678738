/** The target's side of one migration: copies, follows, matches, and then keeps what it copied or removes it. */
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { Evidence, Problem, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { InventoryDigest } from "../inventory-digest.ts";
import { enforce, type ObjectsContext, type Role, scopeOf, sharedBy } from "./context.ts";
import { readCopyRecord, removeCopyRecord, writeCopyRecord } from "./copy-record.ts";
import { hashObject } from "./hashing.ts";
import { PeerClient } from "./peer-client.ts";
import { targetIsEmpty } from "./preflight.ts";
import { RateLimit } from "./rate-limit.ts";
import { ObjectsRemoval } from "./removal.ts";
import { Replica } from "./replica.ts";
import { scanInto } from "./scan.ts";
import { Verification } from "./verification.ts";

interface Copying {
  readonly replica: Replica;
  readonly verification: Verification;
  readonly client: PeerClient;
  readonly scope: { readonly digest: InventoryDigest; readonly remove: () => void };
  readonly done: () => number;
}

export class ObjectsTarget implements Role {
  readonly #context: ObjectsContext;
  readonly #inScope: (key: string) => boolean;
  readonly #isShared: (key: string) => boolean;
  readonly #waiting = new Set<() => void>();
  readonly #removal: ObjectsRemoval;
  #duty: Duty;
  #reached = false;
  #copying: Copying | null = null;
  /** The fence whose difference already made this target look through everything again. */
  #resyncedEpoch: number | null = null;

  constructor(context: ObjectsContext, duty: Duty) {
    this.#context = context;
    this.#duty = duty;
    this.#inScope = scopeOf(duty, context.ownerLookup);
    this.#isShared = sharedBy(duty, context.ownerLookup);
    this.#removal = new ObjectsRemoval(context);
  }

  readonly #isCopy = (key: string): boolean => !this.#selective || this.#inScope(key) || this.#isShared(key);

  get #selective(): boolean {
    return this.#duty.kind === "move";
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    this.#reached = false;
    const { changed } = this.#context;
    switch (duty.goal) {
      case "seed":
      case "follow": {
        await enforce(this.#context, duty);
        const { replica } = await this.#copy(signal);
        await this.#until(() => replica.baseCopied, signal);
        break;
      }
      case "match": {
        await enforce(this.#context, duty);
        await this.#copy(signal);
        await this.#until(() => this.#matched() !== null, signal);
        break;
      }
      case "removeFiles":
        await this.close();
        await enforce(this.#context, duty);
        await this.#removal.run(duty, signal);
        break;
      case "release":
        await this.#release(signal);
        break;
      default: {
        await this.close();
        const record = await readCopyRecord(this.#context.stateDirectory, duty.migrationId);
        if (record && !record.activated)
          await writeCopyRecord(this.#context.stateDirectory, { ...record, activated: true });
        await enforce(this.#context, duty);
      }
    }
    this.#reached = true;
    changed();
  }

  status(): StoreStatus {
    const { goal } = this.#duty;
    const copying = this.#copying;
    const evidence = goal === "match" ? this.#matched() : null;
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
      verified: finished || (copying?.verification.verified ?? false),
      evidence,
      problems: copying
        ? this.#problems(copying, evidence).slice(0, 50)
        : isRemoving
          ? [...this.#removal.problems]
          : [],
      stragglers: [],
    };
  }

  async close(): Promise<void> {
    const copying = this.#copying;
    this.#copying = null;
    if (copying === null) return;
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
        message: `this Pod holds ${evidence.digest} and the source ${final.digest} at the fence`,
      });
    return found;
  }

  /**
   * Evidence of the duty's fence from this Pod's own inventory, once everything up to the source's last change is
   * applied; null before. A first difference makes the replica look through everything again.
   */
  #matched(): Evidence | null {
    const { epoch } = this.#duty;
    if (epoch === null || this.#copying === null) return null;
    const { replica, verification, scope } = this.#copying;
    if (!replica.caughtUpWith(epoch) || !verification.clean) return null;
    const digest = `${scope.digest.size}/${scope.digest.root()}`;
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

  async #copy(signal: AbortSignal): Promise<Copying> {
    if (this.#copying) return this.#copying;
    const { podId, peers, backend, config, clock, log } = this.#context;
    const { migrationId, sourcePodId, settings } = this.#duty;
    const peer = peers[sourcePodId];
    if (peer === undefined)
      throw new CleaveError("PEER_UNREACHABLE", `the configuration of ${podId} has no peer ${sourcePodId}`);
    await this.#claimRoot();
    const inventory = await this.#context.inventory();
    await this.#lookAtOwnFiles(signal);
    const client = new PeerClient(peer);
    const onChange = () => this.#changed();
    const replica = new Replica({
      migrationId,
      backend,
      inventory,
      client,
      clock,
      log,
      rateLimit: new RateLimit(clock, settings.rateLimits.objectBytesPerSecond),
      concurrency: settings.rateLimits.objectConcurrency,
      inScope: this.#inScope,
      isShared: this.#isShared,
      selective: this.#selective,
      onChange,
    });
    const verification = new Verification({
      backend,
      inventory,
      replica,
      clock,
      log,
      bytesPerSecond: config.verifyBytesPerSecond,
      pauseMs: config.verifyPauseSeconds * 1_000,
      isCopy: this.#isCopy,
      isForeign: this.#selective ? this.#inScope : () => true,
      onChange,
    });
    const scope = inventory.addScope(this.#inScope);
    const done = () => replica.done;
    const copying = { replica, verification, client, scope, done };
    this.#copying = copying;
    replica.start();
    return copying;
  }

  /** @throws CleaveError OBJECTS_NOT_EMPTY when somebody else's objects are there (rule 9). */
  async #claimRoot(): Promise<void> {
    const { stateDirectory, config } = this.#context;
    const { migrationId } = this.#duty;
    const record = await readCopyRecord(stateDirectory, migrationId);
    if (record?.activated)
      throw new CleaveError("INTERNAL", "a target that was activated is asked to copy once more");
    if (record !== null) return;
    const found = await targetIsEmpty(this.#context, this.#duty);
    if (found !== null) {
      const code = this.#selective ? "TARGET_HOLDS_ORGANIZATION" : "OBJECTS_NOT_EMPTY";
      throw new CleaveError(code, `${config.root} has ${found}`);
    }
    await writeCopyRecord(stateDirectory, { migrationId, emptyBefore: true, activated: false });
  }

  /** After a restart: what is really here, whatever an earlier process believed. */
  async #lookAtOwnFiles(signal: AbortSignal): Promise<void> {
    const { backend } = this.#context;
    const inventory = await this.#context.inventory();
    await scanInto(inventory, backend, {
      signal,
      only: this.#isCopy,
      refresh: async (key) => {
        // An unreadable copy counts as none and is replaced.
        const object = await hashObject(backend, key).catch(() => null);
        if (object === null) inventory.delete(key);
        else inventory.set(key, object);
      },
    });
  }

  async #release(signal: AbortSignal): Promise<void> {
    const { stateDirectory, backend, fence } = this.#context;
    const { migrationId, podId, shares } = this.#duty;
    await this.close();
    const record = await readCopyRecord(stateDirectory, migrationId);
    if (record?.emptyBefore && !record.activated) {
      invariant(shares[podId] === "source", `${podId} is authoritative, so its objects are not removed`);
      const inventory = await this.#context.inventory();
      const temporaries: string[] = [];
      for await (const { key } of backend.list({ onTemporary: (name) => temporaries.push(name) })) {
        signal.throwIfAborted();
        // What is shared stays: others may have begun to use it.
        if (this.#selective && !this.#inScope(key)) continue;
        await backend.delete(key);
        inventory.delete(key);
      }
      // Where others write, temporary files may be theirs.
      if (!this.#selective) for (const name of temporaries) await backend.deleteTemporary(name);
    }
    await fence.removeMigration(migrationId);
    await removeCopyRecord(stateDirectory, migrationId);
  }

  #changed(): void {
    if (this.#copying?.replica.baseCopied) this.#copying.verification.start();
    for (const check of this.#waiting) check();
    this.#context.changed();
  }

  #until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const settle = (end: () => void) => {
        this.#waiting.delete(check);
        signal.removeEventListener("abort", onAbort);
        end();
      };
      const check = () => {
        if (condition()) settle(resolve);
      };
      const onAbort = () => settle(() => reject(signal.reason as Error));
      if (signal.aborted) return onAbort();
      this.#waiting.add(check);
      signal.addEventListener("abort", onAbort, { once: true });
      check();
    });
  }
}
