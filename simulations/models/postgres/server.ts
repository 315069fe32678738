/**
 * One PostgreSQL server: transactions with snapshots, the write guard, WAL with flushing, streaming to standbys,
 * promotion, crashes. Agents are its clients; it goes on when they die.
 */
import { CleaveError } from "../../../protocol/errors.ts";
import type { PodId } from "../../../protocol/ids.ts";
import type { Chance } from "../../world/random.ts";
import type { World } from "../../world/world.ts";
import type { Run } from "../host.ts";
import type { Network } from "../network.ts";
import { admit } from "./admission.ts";
import { LogicalSlots } from "./logical-slots.ts";
import { type Change, PostgresState, type WalRecord } from "./state.ts";
import { type Isolation, type Refusal, Transaction, type WaitingFence } from "./transaction.ts";

/** Of the disk: what is left after a crash. */
export class PostgresServer {
  readonly podId: PodId;
  readonly #world: World;
  readonly #network: Network;
  readonly #chance: Chance;
  readonly defaultPodId: PodId;
  up = false;
  role: "absent" | "copying" | "standby" | "primary" = "absent";
  systemId = "";
  timeline = 1;
  /** What is set on the command line: a clone started without its own name must not act. */
  clusterName: PodId;
  readonly wal: WalRecord[] = [];
  flushed = 0;
  /** Of a standby: how much of `wal` is applied. */
  replayed = 0;
  state = new PostgresState();
  guarded = false;
  readonly slots = new Set<string>();
  readonly logical = new LogicalSlots();
  /** Standbys whose slot was lost: the WAL that they need next is gone. */
  readonly lostFor = new Set<string>();
  readonly #transactions = new Set<Transaction>();
  readonly #fences: WaitingFence[] = [];
  /** Of the records behind `replayed`, in their order. */
  readonly #onVisible: (() => void)[] = [];
  readonly #standbys = new Set<PostgresServer>();
  #upstream: PostgresServer | null = null;
  #pumping = false;
  replayStallsUntil = 0;
  /** What a move's base copy writes here is short of a row; and whether anything was damaged so. */
  rottenCopies = false;
  damaged = false;
  promotionMs = 60;
  /** Changes of Cleave's own tables that are not visible yet. */
  administering = 0;
  /** Restarts of the server: what was asked of an earlier one gets no answer. */
  starts = 0;
  #changed = new Set<() => void>();
  onCommitted: (organization: string, write: string) => void = () => undefined;

  constructor(world: World, network: Network, podId: PodId, defaultPodId: PodId) {
    this.#world = world;
    this.#network = network;
    this.podId = podId;
    this.clusterName = podId;
    this.defaultPodId = defaultPodId;
    this.#chance = world.chance.fork(`postgres ${podId}`);
  }

  /** A primary with data, as a Pod in service has it. */
  initialize(systemId: string): void {
    this.role = "primary";
    this.systemId = systemId;
    this.up = true;
  }

  /** A primary in service, with these changes in its past. */
  found(systemId: string, past: readonly Change[]): void {
    this.initialize(systemId);
    this.guarded = true;
    this.wal.push({ end: 80, changes: past });
    this.flushed = this.replayed = 1;
    this.state.apply(this.wal[0] as WalRecord);
  }

  onChange(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => this.#changed.delete(listener);
  }

  #tell(): void {
    for (const listener of [...this.#changed]) listener();
  }

  hasSlotFor(podId: string): boolean {
    return [...this.slots].some((slot) => slot.endsWith(`_${podId}`));
  }

  get position(): number {
    return this.wal[this.flushed - 1]?.end ?? 0;
  }

  get replayPosition(): number {
    return this.wal[this.replayed - 1]?.end ?? 0;
  }

  // Transactions ------------------------------------------------------------------------------------------------

  /** @param client whose connection it is, where that ends with a process */
  begin(isolation: Isolation, client: Run | null = null): Transaction | null {
    if (!this.up || this.role !== "primary") return null;
    const transaction = new Transaction(isolation, this.#world.now, client);
    this.#transactions.add(transaction);
    return transaction;
  }

  /** One row of an organization, checked by the guard inside the server. Null when it is written. */
  write(transaction: Transaction, organization: string, write: string): Refusal | null {
    if (!this.up || transaction.status !== "open") return { outcome: "down" };
    if (transaction.isolation === "read committed" || transaction.snapshot === null)
      transaction.snapshot = this.state.version;
    const { refusal, logical } = admit(this, transaction, organization);
    if (refusal === null) transaction.changes.push({ type: "row", organization, write });
    else this.rollback(transaction);
    if (logical !== null)
      transaction.changes.push({ type: "touch", migrationId: logical, row: { organization, write } });
    return refusal;
  }

  /** A row that was nobody's comes to an organization. @returns whether the guard lets it */
  bring(transaction: Transaction, organization: string, write: string): boolean {
    if (this.write(transaction, organization, write) !== null) return false;
    const at = transaction.changes.findIndex(({ type }) => type === "row");
    transaction.changes[at] = { type: "came", organization, write };
    return true;
  }

  /** `done(true)` when it is durable and visible; `done(false)` when it was not committed; nothing when the server died. */
  commit(transaction: Transaction, done: (committed: boolean) => void): void {
    if (!this.up || transaction.status !== "open") {
      done(false);
      return;
    }
    transaction.status = "committing";
    this.#writeWal(transaction.changes, () => {
      for (const change of transaction.changes)
        if ((change.type === "row" && !change.copied) || change.type === "came")
          this.onCommitted(change.organization, change.write);
      this.#end(transaction);
      done(true);
    });
  }

  rollback(transaction: Transaction): void {
    if (transaction.status === "open") this.#end(transaction);
  }

  /** Its connections are gone: what was open is rolled back, what commits goes on. */
  disconnect(client: Run): void {
    this.logical.disconnect(client);
    for (const transaction of [...this.#transactions])
      if (transaction.client === client) this.rollback(transaction);
  }

  #end(transaction: Transaction): void {
    transaction.status = "ended";
    this.#transactions.delete(transaction);
    this.#grant();
  }

  /** Durable after a flush; then visible. Lost when the server dies before. */
  #writeWal(changes: readonly Change[], visible: () => void): void {
    const end = (this.wal.at(-1)?.end ?? 0) + 80 * Math.max(1, changes.length);
    this.wal.push({ end, changes });
    this.#onVisible.push(visible);
    const { starts } = this;
    const index = this.wal.length;
    this.#world.after(this.#chance.skewed(0.2, 6), `${this.podId} wal flush`, () => {
      if (this.starts !== starts || !this.up || this.flushed >= index) return;
      // Flushing one record flushes what is before it, and it is in this order that they become visible.
      this.flushed = index;
      while (this.replayed < index) {
        this.state.apply(this.wal[this.replayed++] as WalRecord);
        this.#onVisible.shift()?.();
      }
      for (const standby of this.#standbys) standby.#pump();
      this.#tell();
    });
  }

  /** Somebody fences these organizations, or waits for their writers to. */
  isFencing(migrationId: string): boolean {
    return this.#fences.some((fence) => fence.migrationId === migrationId);
  }

  // The fence ---------------------------------------------------------------------------------------------------

  /** Queues for the lock that every admitted writer shares; from now on nobody new is admitted. */
  queueFence(migrationId: string, granted: () => void): WaitingFence {
    const fence: WaitingFence = { migrationId, granted, held: false };
    this.#fences.push(fence);
    this.#grant();
    return fence;
  }

  /** Gives the lock back, or gives up waiting for it. */
  leaveQueue(fence: WaitingFence): void {
    const at = this.#fences.indexOf(fence);
    if (at >= 0) this.#fences.splice(at, 1);
    this.#grant();
  }

  /** Writers that a fence waits for and that can be terminated: those that commit already end by themselves. */
  terminateHolders(migrationId: string): number {
    let count = 0;
    for (const transaction of [...this.#transactions]) {
      if (!transaction.locks.has(migrationId) || transaction.status !== "open") continue;
      count += 1;
      this.#end(transaction);
    }
    return count;
  }

  hasHolders(migrationId: string): boolean {
    for (const transaction of this.#transactions) if (transaction.locks.has(migrationId)) return true;
    return false;
  }

  olderThan(at: number): boolean {
    for (const transaction of this.#transactions) if (transaction.startedAt <= at) return true;
    return false;
  }

  #grant(): void {
    const first = this.#fences[0];
    if (!first || first.held || this.hasHolders(first.migrationId)) return;
    first.held = true;
    const { starts } = this;
    this.#world.after(0.05, `${this.podId} lock granted`, () => {
      if (this.starts === starts) first.granted();
    });
  }

  /** A change of Cleave's own tables. `done` when durable; a server that is down takes no order and answers nothing. */
  administer(changes: readonly Change[], done: () => void): void {
    if (!this.up) return;
    this.administering += 1;
    this.#writeWal(changes, () => {
      this.administering -= 1;
      done();
    });
  }

  // Crashes -----------------------------------------------------------------------------------------------------

  crash(): void {
    if (!this.up) return;
    this.up = false;
    this.starts += 1;
    this.logical.crash();
    for (const transaction of this.#transactions) transaction.status = "ended";
    this.#transactions.clear();
    this.#fences.length = 0;
    this.administering = 0;
    this.#onVisible.length = 0;
    this.wal.length = this.flushed;
    this.#tell();
  }

  start(): void {
    if (this.up || this.role === "absent" || this.role === "copying") return;
    this.up = true;
    this.starts += 1;
    this.state = new PostgresState();
    this.replayed = this.flushed;
    for (let i = 0; i < this.flushed; i++) this.state.apply(this.wal[i] as WalRecord);
    if (this.role === "standby") this.#pump();
    for (const standby of this.#standbys) standby.#pump();
    this.#tell();
  }

  // Replication -------------------------------------------------------------------------------------------------

  /** What pg_basebackup leaves: a consistent copy as of its end. */
  becomeStandbyOf(upstream: PostgresServer): void {
    this.crash();
    this.role = "standby";
    this.systemId = upstream.systemId;
    this.timeline = upstream.timeline;
    this.guarded = upstream.guarded;
    this.wal.length = 0;
    this.wal.push(...upstream.wal.slice(0, upstream.flushed));
    this.flushed = this.wal.length;
    this.#upstream = upstream;
    upstream.#standbys.add(this);
  }

  beginCopy(): void {
    this.remove();
    this.role = "copying";
  }

  remove(): void {
    this.crash();
    this.role = "absent";
    this.systemId = "";
    this.wal.length = 0;
    this.flushed = 0;
    this.replayed = 0;
    this.state = new PostgresState();
    this.logical.slots.clear();
    this.#detach();
  }

  #detach(): void {
    if (this.#upstream !== null) this.#upstream.#standbys.delete(this);
    this.#upstream = null;
  }

  /** It streams from its source now. */
  get streaming(): boolean {
    const upstream = this.#upstream;
    return this.up && this.role === "standby" && upstream?.up === true && this.#hears(upstream);
  }

  #hears(upstream: PostgresServer): boolean {
    if (upstream.lostFor.has(this.podId)) return false;
    return upstream.timeline === this.timeline && this.#network.connected(upstream.podId, this.podId);
  }

  #pump(): void {
    const upstream = this.#upstream;
    if (this.#pumping || !upstream || this.role !== "standby" || !this.up) return;
    if (this.flushed >= upstream.flushed && this.replayed >= this.flushed) return;
    this.#pumping = true;
    const { starts } = this;
    const ready = this.streaming;
    const delayMs = ready ? this.#network.delayMs(upstream.podId, this.podId) : 200;
    this.#network.note("wal");
    this.#world.after(delayMs, `${this.podId} walreceiver`, () => {
      this.#pumping = false;
      if (this.starts !== starts) {
        this.#pump();
        return;
      }
      if (this.streaming && ready) {
        for (let i = this.flushed; i < upstream.flushed; i++) this.wal.push(upstream.wal[i] as WalRecord);
        this.flushed = this.wal.length;
      }
      this.#replay();
      this.#pump();
    });
  }

  #replay(): void {
    if (this.replayStallsUntil > this.#world.now) return;
    const before = this.replayed;
    while (this.replayed < this.flushed) this.state.apply(this.wal[this.replayed++] as WalRecord);
    if (this.replayed !== before) this.#tell();
  }

  /** Ends recovery after everything received is replayed; a new timeline begins. */
  promote(done: () => void): void {
    if (this.role === "primary") {
      done();
      return;
    }
    const { starts } = this;
    this.#world.after(this.promotionMs, `${this.podId} promotion`, () => {
      if (this.starts !== starts || this.role === "absent") return;
      if (this.role === "standby") {
        this.replayStallsUntil = 0;
        this.#replay();
        this.role = "primary";
        this.timeline += 1;
        this.#detach();
        this.#tell();
      }
      done();
    });
  }

  requirePrimary(what: string): void {
    if (!this.up || this.role !== "primary")
      throw new CleaveError("POSTGRES_UNREACHABLE", `${what}: the server of ${this.podId} does not answer`);
  }
}
