/**
 * Git or objects behind the store port, as agent/stores/git and agent/stores/objects drive them: an inventory in the
 * source agent's memory with generations, a feed of it, and targets that copy, compare and prove.
 */
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { hash32 } from "../../world/random.ts";
import { ModelStore } from "../store-base.ts";
import { removeFiles, wentBack } from "./removal.ts";
import {
  type Entry,
  type Feed,
  type FileStoreParts,
  type Final,
  followingOf,
  Replica,
  type Source,
} from "./replica.ts";
import { FileReverseReplications } from "./reverse-replication.ts";
import type { FileServer } from "./server.ts";

const TRACK_MS = 2;
const LOOK_EVERY_MS = 500;

export class ModelFileStore extends ModelStore implements Source {
  readonly name: StoreName;
  readonly #parts: FileStoreParts;
  readonly #own: FileServer;
  // Source
  readonly #inventory = new Map<string, Entry>();
  #generation = 0;
  #tracking = false;
  #looking = false;
  /** By migration: what is fed to its targets, and where its fence ended. */
  readonly #serving = new Set<string>();
  readonly #finals = new Map<string, Final>();
  readonly #listeners = new Set<() => void>();
  // Target
  readonly #replicas = new Map<string, Replica>();
  readonly #ways: FileReverseReplications;

  constructor(parts: FileStoreParts) {
    super(parts.run);
    this.#parts = parts;
    this.#own = parts.own;
    this.name = parts.own.kind;
    this.failsUntil = parts.failsUntil;
    this.#ways = new FileReverseReplications(parts, () => undefined);
  }

  protected check(duty: Duty, stage: CheckStage): Finding[] {
    if (duty.role !== "target" || stage !== "start" || duty.kind === "rollback") return [];
    const { peerOf, network } = this.#parts;
    if (peerOf(duty.sourcePodId) === null || !network.connected(duty.sourcePodId, this.#own.podId))
      return [{ store: this.name, severity: "error", code: "PEER_UNREACHABLE", message: "no answer" }];
    const isFree =
      duty.kind === "split"
        ? this.#own.items.size === 0
        : [...duty.assignments.keys()].every((organization) => !this.#own.keys.get(organization)?.size);
    if (isFree) return [];
    const code = this.name === "git" ? "GIT_NOT_EMPTY" : "OBJECTS_NOT_EMPTY";
    return [{ store: this.name, severity: "error", code, message: "something is here already" }];
  }

  protected async towards(duty: Duty, signal: AbortSignal): Promise<void> {
    if (duty.goal === "removeRows") {
      await this.#settle(duty, signal);
      return;
    }
    const isBack = duty.kind === "rollback" && duty.role === "target";
    // Nothing that is still on its way may meet what is written here from now on.
    if (isBack && duty.goal === "activate") this.#ways.hold(duty.of, duty.sourcePodId, duty.migrationId);
    await this.#setShares(duty, signal);
    switch (duty.goal) {
      case "prepare":
      case "serve":
        this.#finals.delete(duty.migrationId);
        await this.#track(duty, signal);
        this.set(duty, { reached: true, evidence: null, stragglers: [], ...this.#readability() });
        this.#own.onUnreadable = () => {
          if (!signal.aborted && this.run.alive) this.set(duty, this.#readability());
        };
        return;
      case "fence":
        return this.#fence(duty, signal);
      case "yield":
        this.#serving.delete(duty.migrationId);
        this.#ways.keep(duty);
        this.set(duty, { reached: true, stragglers: [] });
        this.#watchWays(duty);
        return;
      case "seed":
      case "follow": {
        if (isBack) return this.#followBack(duty, signal);
        const replica = this.#following(duty);
        await replica.until(() => replica.complete && replica.pending.size === 0, signal);
        this.set(duty, { reached: true, evidence: null });
        return;
      }
      case "match": {
        const { epoch } = duty;
        invariant(epoch !== null, "the goal match has no epoch");
        const replica = isBack ? this.#way(duty) : this.#following(duty);
        const matched = () => replica.matched(duty.migrationId, epoch, duty.assignments);
        await replica.until(matched, signal);
        if (this.#own.digestOf(duty.assignments) !== replica.finalDigest(duty.migrationId)) {
          // A first difference: everything is looked at again.
          replica.resync();
          await replica.until(matched, signal);
        }
        const digest = this.#own.digestOf(duty.assignments);
        this.set(duty, { reached: true, evidence: { epoch, digest, details: {} } });
        return;
      }
      case "activate":
      case "open":
        this.unwatch(duty);
        this.#stopFollowing(duty.migrationId);
        this.#activated(duty.migrationId);
        // Everything that is here is looked at before anybody may write, and then whatever they leave.
        if (duty.reverseReplication.includes(duty.podId)) await this.#track(duty, signal);
        else this.#stopServing(duty);
        this.set(duty, { reached: true, lag: null, verified: true });
        return;
      case "removeFiles":
        this.unwatch(duty);
        this.#stopFollowing(duty.migrationId);
        this.#stopServing(duty);
        if (duty.role === "source") this.#ways.keep(duty);
        await removeFiles(this.#removal, duty, signal);
        this.set(duty, { reached: true, lag: null, verified: true });
        return;
      case "release":
        return this.#release(duty, signal);
    }
  }

  get #removal() {
    const { clock } = this.run;
    return {
      own: this.#own,
      sleep: (ms: number, signal: AbortSignal) => clock.sleep(ms, signal),
      onRemoved: this.#parts.onRemoved,
    };
  }

  async #settle(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.run.clock.sleep(2, signal);
    const { migrationId } = duty;
    if (this.#own.routes.has(migrationId)) await removeFiles(this.#removal, duty, signal);
    this.unwatch(duty);
    if (duty.role === "source") this.#ways.keep(duty);
    this.#own.settle(migrationId, duty.of, wentBack(duty));
    this.#stopServing(duty);
    this.set(duty, { reached: true, lag: null, verified: true });
  }

  override async close(): Promise<void> {
    for (const migrationId of [...this.#replicas.keys()]) this.#stopFollowing(migrationId);
    this.#ways.close();
    await super.close();
  }

  /** Durable when it resolves, for all targets at once; then the routes, which writers look up first. */
  async #setShares(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, sourcePodId, shares, assignments } = duty;
    await this.run.clock.sleep(0.8, signal);
    // A duty may come once more to a Pod that is done with it (its removal is paused, say): nothing is brought back.
    if (duty.removal !== null && !this.#own.shares.has(migrationId)) return;
    this.#own.shares.set(migrationId, { source: sourcePodId, phases: shares });
    if (duty.removal !== null || this.#own.routes.has(migrationId)) return;
    await this.run.clock.sleep(2, signal);
    this.#own.routes.set(migrationId, assignments);
  }

  // Source ------------------------------------------------------------------------------------------------------

  feed(migrationId: string): Feed | null {
    if (!this.run.responsive || !this.#serving.has(migrationId)) return null;
    return {
      incarnation: this.run,
      generation: this.#generation,
      entries: this.#inventory,
      finals: this.#finals,
    };
  }

  onNews(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #track(duty: Duty, signal: AbortSignal): Promise<void> {
    if (!this.#tracking) {
      this.#tracking = true;
      this.#own.onDirty = () => this.#look();
      await this.run.clock.sleep(10);
      for (const key of this.#own.items.keys()) this.#refresh(key);
    }
    signal.throwIfAborted();
    this.#serving.add(duty.migrationId);
    this.#look();
  }

  #stopServing({ migrationId }: Duty): void {
    this.#finals.delete(migrationId);
    if (this.#serving.delete(migrationId) && this.#serving.size === 0) this.#tracking = false;
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
    this.#finals.delete(duty.migrationId);
    this.set(duty, { evidence: null, stragglers: [] });
    await this.#track(duty, signal);
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
    this.#finals.set(duty.migrationId, { epoch, generation: this.#generation, digest });
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
    const known = this.#replicas.get(duty.migrationId);
    if (known) return known;
    const assignments = duty.kind === "move" ? duty.assignments : null;
    const copy = this.#own.copies.get(duty.migrationId) ?? { activated: false, assignments };
    this.#own.copies.set(duty.migrationId, copy);
    invariant(!copy.activated, "a target that was activated is asked to copy once more");
    const replica: Replica = new Replica(this.#parts, followingOf(duty), () => {
      const { connected, complete } = replica;
      const lag = connected && complete ? replica.pendingOf(duty.assignments) : null;
      const problems = connected
        ? []
        : [{ code: "PEER_UNREACHABLE" as const, message: "the source does not answer" }];
      this.set(duty, { lag: { amount: lag, unit: this.#unit }, verified: complete, problems });
    });
    this.#replicas.set(duty.migrationId, replica);
    replica.start();
    return replica;
  }

  #watchWays(duty: Duty): void {
    this.unwatch(duty);
    const look = () =>
      this.set(duty, { reverseReplication: this.#ways.statusOf(duty.migrationId, this.#unit) });
    if (duty.reverseReplication.length > 0) this.watch(duty, LOOK_EVERY_MS, look);
    else look();
  }

  /** A rollback's target copies nothing of its own. */
  #way(duty: Duty): Replica {
    const way = this.#ways.of(duty.of, duty.sourcePodId);
    if (way === null) throw new CleaveError("PEER_UNREACHABLE", "nothing flows back yet");
    return way;
  }

  async #followBack(duty: Duty, signal: AbortSignal): Promise<void> {
    const way = this.#way(duty);
    await way.until(() => way.complete && way.pendingOf(duty.assignments) === 0, signal);
    this.watch(duty, LOOK_EVERY_MS, () => {
      const { connected, complete } = way;
      const amount = connected && complete ? way.pendingOf(duty.assignments) : null;
      const away = { code: "PEER_UNREACHABLE" as const, message: "the source does not answer" };
      const problems = connected ? [] : [away];
      this.set(duty, { lag: { amount, unit: this.#unit }, verified: complete, problems });
    });
    this.set(duty, { reached: true, evidence: null });
  }

  get #unit(): "repositories" | "objects" {
    return this.name === "git" ? "repositories" : "objects";
  }

  #stopFollowing(migrationId: string): void {
    this.#replicas.get(migrationId)?.stop();
    this.#replicas.delete(migrationId);
  }

  #activated(migrationId: string): void {
    const copy = this.#own.copies.get(migrationId);
    if (copy) copy.activated = true;
  }

  async #release(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId } = duty;
    this.unwatch(duty);
    this.#stopFollowing(migrationId);
    this.#stopServing(duty);
    const own = this.#own;
    const copy = own.copies.get(migrationId);
    if (duty.role === "target" && copy?.activated === false) {
      invariant(duty.shares[duty.podId] === "source", `${duty.podId} is authoritative: nothing is removed`);
      const { assignments } = copy;
      const removed = [...own.items].flatMap(([key, { organization }]) =>
        assignments === null || assignments.has(organization as never) ? [key] : [],
      );
      if (removed.length > 0)
        this.#parts.onRemoved(assignments === null ? undefined : [...assignments.keys()]);
      for (const key of removed) own.delete(key);
      own.copies.delete(migrationId);
    }
    own.routes.delete(duty.migrationId);
    await this.run.clock.sleep(1, signal);
    own.shares.delete(duty.migrationId);
    this.set(duty, { reached: true, evidence: null, verified: false, lag: null, problems: [] });
  }
}
