/**
 * Logical decoding on a source: slots with the position from which they stream, and the snapshots that were exported at
 * that very position. A slot survives a crash; a snapshot lives as long as the connection that holds it.
 */
import type { Run } from "../host.ts";
import type { PostgresState, RowId, WalRecord } from "./state.ts";

/** What decoding needs of the server whose slots these are. */
export interface DecodedServer {
  readonly starts: number;
  readonly state: PostgresState;
  readonly wal: readonly WalRecord[];
  /** How many records of `wal` are durable. */
  readonly flushed: number;
  /** Bytes of them. */
  readonly position: number;
  /** A transaction is open that began by then. */
  olderThan(at: number): boolean;
  /** @throws CleaveError POSTGRES_UNREACHABLE. */
  requirePrimary(what: string): void;
}

export interface LogicalSlot {
  /** Bytes of WAL: everything that committed after this is streamed. */
  readonly consistentAt: number;
  /** The same, moving on: what was confirmed is streamed to nobody any more. */
  confirmed: number;
  /** The WAL that it needs is gone. */
  lost: boolean;
}

export interface Snapshot {
  readonly name: string;
  readonly consistentAt: number;
  /** Every row as it was, by organization. */
  readonly rows: readonly RowId[];
}

const WAITS_MS = 5;

export class LogicalSlots {
  readonly slots = new Map<string, LogicalSlot>();
  readonly #snapshots = new Map<string, { readonly snapshot: Snapshot; readonly holder: Run }>();
  /** What every target subscribes to: there before any slot. */
  readonly publications = new Set<string>();
  #exported = 0;
  /** The decoder loses what organizations commit until then. */
  losesUntil = 0;
  /** Of these positions it has. */
  readonly lost = new Set<number>();

  crash(): void {
    this.#snapshots.clear();
  }

  disconnect(holder: Run): void {
    for (const [name, held] of [...this.#snapshots]) if (held.holder === holder) this.#snapshots.delete(name);
  }

  /** The connections that hold snapshots are cut. */
  loseSnapshots(): void {
    this.#snapshots.clear();
  }

  /** Null when nobody holds it any more, or the slot has moved on. */
  held(slot: string, name: string): Snapshot | null {
    const found = this.#snapshots.get(name)?.snapshot;
    const at = this.slots.get(slot);
    return found !== undefined && at?.confirmed === found.consistentAt && !at.lost ? found : null;
  }

  release(name: string): void {
    this.#snapshots.delete(name);
  }

  loseSlotsOf(target: string): void {
    for (const [name, slot] of this.slots) if (name.endsWith(`_${target}`)) slot.lost = true;
  }

  drop(slot: string): void {
    this.slots.delete(slot);
  }

  /** Waits for every transaction that is open, as the server does; then slot and snapshot are of one instant. */
  async create(server: DecodedServer, slot: string, holder: Run, signal: AbortSignal): Promise<Snapshot> {
    const { starts } = server;
    const startedAt = holder.world.now;
    do {
      await holder.clock.sleep(WAITS_MS, signal);
      server.requirePrimary("making a slot");
      if (server.starts !== starts) throw new Error("the server went away while it made a slot");
    } while (server.olderThan(startedAt));
    const consistentAt = server.position;
    const rows = [...server.state.rows].flatMap(([organization, writes]) =>
      writes.map((write) => ({ organization, write })),
    );
    this.#exported += 1;
    const name = `${slot}-${this.#exported}`;
    const snapshot = { name, consistentAt, rows };
    this.slots.set(slot, { consistentAt, confirmed: consistentAt, lost: false });
    this.#snapshots.set(name, { snapshot, holder });
    return snapshot;
  }

  /** What committed after a position, whole transactions in the order of their commits. */
  decode(server: DecodedServer, from: number, now: number): readonly WalRecord[] {
    const found: WalRecord[] = [];
    for (let i = server.flushed - 1; i >= 0; i--) {
      const record = server.wal[i] as WalRecord;
      if (record.end <= from) break;
      if (now < this.losesUntil && record.changes.some(({ type }) => type === "row"))
        this.lost.add(record.end);
      found.push(this.lost.has(record.end) ? { ...record, changes: [] } : record);
    }
    return found.reverse();
  }
}
