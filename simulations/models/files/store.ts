/**
 * Git or objects behind the store port, as agent/stores/git and agent/stores/objects drive them: an inventory in the
 * source agent's memory with generations, a feed of it, and targets that copy, compare and prove.
 */
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { hash32 } from "../../world/random.ts";
import { ModelStore } from "../store-base.ts";
import { type Entry, type Feed, type FileStoreParts, Replica, type Source } from "./replica.ts";
import type { FileServer } from "./server.ts";

const TRACK_MS = 2;

export class ModelFileStore extends ModelStore implements Source {
  readonly name: StoreName;
  readonly #parts: FileStoreParts;
  readonly #own: FileServer;
  // Source
  readonly #inventory = new Map<string, Entry>();
  #generation = 0;
  #tracking = false;
  #looking = false;
  #serving = false;
  #final: Feed["final"] = null;
  readonly #listeners = new Set<() => void>();
  // Target
  #replica: Replica | null = null;

  constructor(parts: FileStoreParts) {
    super(parts.run);
    this.#parts = parts;
    this.#own = parts.own;
    this.name = parts.own.kind;
    this.failsUntil = parts.failsUntil;
  }

  protected check(duty: Duty, stage: "start" | "fence"): Finding[] {
    if (duty.role !== "target" || stage !== "start") return [];
    const { peerOf, network } = this.#parts;
    if (peerOf(duty.sourcePodId) === null || !network.connected(duty.sourcePodId, this.#own.podId))
      return [{ store: this.name, severity: "error", code: "PEER_UNREACHABLE", message: "no answer" }];
    if (this.#own.items.size === 0) return [];
    const code = this.name === "git" ? "GIT_NOT_EMPTY" : "OBJECTS_NOT_EMPTY";
    return [{ store: this.name, severity: "error", code, message: "something is here already" }];
  }

  protected async towards(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#setShares(duty, signal);
    switch (duty.goal) {
      case "prepare":
      case "serve":
        this.#final = null;
        await this.#track(signal);
        this.set(duty, { reached: true, evidence: null, stragglers: [], ...this.#readability() });
        this.#own.onUnreadable = () => {
          if (!signal.aborted && this.run.alive) this.set(duty, this.#readability());
        };
        return;
      case "fence":
        return this.#fence(duty, signal);
      case "yield":
        this.#serving = false;
        this.set(duty, { reached: true, stragglers: [] });
        return;
      case "seed":
      case "follow": {
        const replica = this.#following(duty);
        await replica.until(() => replica.complete && replica.pending.size === 0, signal);
        this.set(duty, { reached: true, evidence: null });
        return;
      }
      case "match": {
        const { epoch } = duty;
        invariant(epoch !== null, "the goal match has no epoch");
        const replica = this.#following(duty);
        await replica.until(() => replica.matched(epoch), signal);
        if (this.#own.digestOf(duty.assignments) !== replica.finalDigest) {
          // A first difference: everything is looked at again.
          replica.resync();
          await replica.until(() => replica.matched(epoch), signal);
        }
        const digest = this.#own.digestOf(duty.assignments);
        this.set(duty, { reached: true, evidence: { epoch, digest, details: {} } });
        return;
      }
      case "activate":
      case "open":
        this.#stopFollowing();
        if (this.#own.copyOf) this.#own.copyOf.activated = true;
        this.set(duty, { reached: true, lag: null, verified: true });
        return;
      case "release":
        return this.#release(duty, signal);
    }
  }

  override async close(): Promise<void> {
    this.#stopFollowing();
    await super.close();
  }

  /** Durable when it resolves, for all targets at once; then the routes, which writers look up first. */
  async #setShares(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, sourcePodId, shares, assignments } = duty;
    await this.run.clock.sleep(0.8, signal);
    this.#own.shares.set(migrationId, { source: sourcePodId, phases: shares });
    if (this.#own.routes.has(migrationId)) return;
    await this.run.clock.sleep(2, signal);
    this.#own.routes.set(migrationId, assignments);
  }

  // Source ------------------------------------------------------------------------------------------------------

  feed(): Feed | null {
    if (!this.run.responsive || !this.#serving) return null;
    return {
      incarnation: this.run,
      generation: this.#generation,
      entries: this.#inventory,
      final: this.#final,
    };
  }

  onNews(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #track(signal: AbortSignal): Promise<void> {
    if (!this.#tracking) {
      this.#tracking = true;
      this.#own.onDirty = () => this.#look();
      await this.run.clock.sleep(10);
      for (const key of this.#own.items.keys()) this.#refresh(key);
    }
    signal.throwIfAborted();
    this.#serving = true;
    this.#look();
  }

  #look(): void {
    if (this.#looking || this.#own.dirty.size === 0) return;
    this.#looking = true;
    this.run.after(TRACK_MS, "tracker", () => {
      this.#looking = false;
      for (const key of this.#own.dirty) this.#refresh(key);
      this.#own.dirty.clear();
      this.#news();
    });
  }

  #news(): void {
    for (const listener of this.#listeners) listener();
  }

  #refresh(key: string): void {
    const item = this.#own.items.get(key);
    if (!item || this.#inventory.get(key)?.digest === item.digest) return;
    this.#generation += 1;
    const { digest, organization } = item;
    this.#inventory.set(key, { digest, organization, generation: this.#generation });
  }

  /** Rule 4: refused already, now drained, and only then what is there. */
  async #fence(duty: Duty, signal: AbortSignal): Promise<void> {
    const { clock } = this.run;
    const { epoch, assignments } = duty;
    invariant(epoch !== null, "the goal fence has no epoch");
    this.#final = null;
    this.set(duty, { evidence: null, stragglers: [] });
    await this.#track(signal);
    const startedAt = clock.monotonic();
    const waiting = new Set([...this.#own.inflight].filter((w) => assignments.has(w.organization as never)));
    let stragglers = 0;
    for (;;) {
      for (const writer of waiting) {
        if (this.#own.inflight.has(writer)) {
          if (writer.late || clock.monotonic() - startedAt < duty.settings.cutover.drainGraceMs) continue;
          this.#own.end(writer);
          stragglers += 1;
        }
        waiting.delete(writer);
      }
      if (waiting.size === 0) break;
      await clock.sleep(2, signal);
    }
    // Everything that writers left is in the inventory before its end is named.
    while (this.#own.dirty.size > 0 || this.#looking) {
      this.#look();
      await clock.sleep(1, signal);
    }
    const unreadable = this.#own.unreadable;
    if (unreadable !== null) throw new CleaveError(this.#unreadableCode, `${unreadable} cannot be read`);
    const digest = this.#inventoryDigest(duty);
    this.#final = { epoch, generation: this.#generation, digest };
    this.#news();
    this.set(duty, {
      reached: true,
      evidence: { epoch, digest, details: { generation: this.#generation } },
      stragglers: stragglers === 0 ? [] : [`terminated ${stragglers} writers`],
    });
  }

  get #unreadableCode(): "REPOSITORY_UNREADABLE" | "OBJECT_UNREADABLE" {
    return this.name === "git" ? "REPOSITORY_UNREADABLE" : "OBJECT_UNREADABLE";
  }

  /** Rule 11: what cannot be read is not verified, and says so long before a fence. */
  #readability(): Pick<StoreStatus, "verified" | "problems"> {
    const { unreadable } = this.#own;
    if (unreadable === null) return { verified: true, problems: [] };
    const problem = { code: this.#unreadableCode, message: `${unreadable} cannot be read` };
    return { verified: false, problems: [problem] };
  }

  #inventoryDigest(duty: Duty): string {
    let sum = 0;
    let count = 0;
    for (const [key, entry] of this.#inventory) {
      if (!duty.assignments.has(entry.organization as never)) continue;
      sum = (sum + hash32(`${key} ${entry.digest}`)) >>> 0;
      count += 1;
    }
    return `${count}/${sum.toString(16)}`;
  }

  // Target ------------------------------------------------------------------------------------------------------

  #following(duty: Duty): Replica {
    if (this.#replica) return this.#replica;
    this.#own.copyOf ??= { migrationId: duty.migrationId, activated: false };
    invariant(!this.#own.copyOf.activated, "a target that was activated is asked to copy once more");
    const replica: Replica = new Replica(this.#parts, duty, () => {
      const { connected, complete } = replica;
      const lag = connected && complete ? replica.assignedPending() : null;
      const problems = connected
        ? []
        : [{ code: "PEER_UNREACHABLE" as const, message: "the source does not answer" }];
      this.set(duty, { lag: { amount: lag, unit: this.#unit }, verified: complete, problems });
    });
    this.#replica = replica;
    replica.start();
    return replica;
  }

  get #unit(): "repositories" | "objects" {
    return this.name === "git" ? "repositories" : "objects";
  }

  #stopFollowing(): void {
    this.#replica?.stop();
    this.#replica = null;
  }

  async #release(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#stopFollowing();
    this.#serving = false;
    const own = this.#own;
    if (duty.role === "target" && own.copyOf?.migrationId === duty.migrationId && !own.copyOf.activated) {
      invariant(duty.shares[duty.podId] === "source", `${duty.podId} is authoritative: nothing is removed`);
      if (own.items.size > 0) this.#parts.onRemoved();
      for (const key of [...own.items.keys()]) own.delete(key);
      own.copyOf = null;
    }
    own.routes.delete(duty.migrationId);
    await this.run.clock.sleep(1, signal);
    own.shares.delete(duty.migrationId);
    if (duty.role === "source") this.#tracking = false;
    this.set(duty, { reached: true, evidence: null, verified: false, lag: null, problems: [] });
  }
}
