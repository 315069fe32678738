/** A target's copy of a source's repositories or objects: follows the feed of the source's agent, copies from its disk. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { Run } from "../host.ts";
import type { Network } from "../network.ts";
import { type FileServer, withoutItsNewest } from "./server.ts";

const POLL_MS = 600;
const COPIED_AT_ONCE = 8;

/** The peer endpoint of a source's agent. */
export interface Source {
  /** Null while it may not be answered. */
  feed(migrationId: string): Feed | null;
  onNews(listener: () => void): () => void;
}

export interface Entry {
  readonly digest: string;
  readonly organization: string;
  readonly generation: number;
}

/** What the source agent's peer endpoint answers. */
export interface Feed {
  readonly incarnation: Run;
  readonly generation: number;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly final: { readonly epoch: number; readonly generation: number; readonly digest: string } | null;
}

export interface FileStoreParts {
  readonly run: Run;
  readonly own: FileServer;
  readonly serverOf: (podId: string) => FileServer;
  /** The store in the agent that runs on that Pod now, or null. */
  readonly peerOf: (podId: string) => Source | null;
  readonly network: Network;
  readonly copyMs: number;
  readonly failsUntil: () => number;
  /** Of a move: only what these have. */
  readonly onRemoved: (organizations?: readonly string[]) => void;
}

export class Replica {
  readonly #parts: FileStoreParts;
  readonly #duty: Duty;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  readonly #waiting = new Set<() => void>();
  #wake: () => void = () => undefined;
  #incarnation: Run | null = null;
  #since = 0;
  #feed: Feed | null = null;
  #unlisten: () => void = () => undefined;
  /** Key to the newest digest that the source named, where it differs from what is here. */
  readonly pending = new Map<string, Entry>();
  connected = false;
  complete = false;
  #finalEpoch: number | null = null;
  #finalGeneration = 0;
  finalDigest: string | null = null;

  constructor(parts: FileStoreParts, duty: Duty, onChange: () => void) {
    this.#parts = parts;
    this.#duty = duty;
    this.#onChange = onChange;
  }

  start(): void {
    void this.#loop();
  }

  stop(): void {
    this.#stopping.abort(new CleaveError("COMMAND_NOT_POSSIBLE", "not followed any more"));
    this.#unlisten();
    this.#wake();
  }

  assignedPending(): number {
    let count = 0;
    for (const { organization } of this.pending.values())
      if (this.#duty.assignments.has(organization as never)) count += 1;
    return count;
  }

  matched(epoch: number): boolean {
    const heard = this.#finalEpoch === epoch && this.#since >= this.#finalGeneration;
    return heard && this.connected && this.complete && this.assignedPending() === 0;
  }

  resync(): void {
    this.#incarnation = null;
    this.complete = false;
    this.#wake();
  }

  async until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    while (!condition()) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const go = () => {
          this.#waiting.delete(go);
          signal.removeEventListener("abort", go);
          resolve();
        };
        this.#waiting.add(go);
        signal.addEventListener("abort", go, { once: true });
      });
    }
  }

  async #loop(): Promise<void> {
    const { run, network, own, peerOf } = this.#parts;
    const { signal } = this.#stopping;
    const source = this.#duty.sourcePodId;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const peer = network.connected(source, own.podId) ? peerOf(source) : null;
      this.#feed = peer?.feed(this.#duty.migrationId) ?? null;
      if (peer && this.#feed) this.#hear(peer, this.#feed);
      else this.connected = false;
      this.#notice();
      try {
        if (this.connected && this.pending.size > 0) {
          await this.#copySome(signal);
          continue;
        }
        const pause = new AbortController();
        await Promise.race([
          woken,
          run.clock.sleep(this.connected ? POLL_MS : 100, pause.signal).catch(() => undefined),
        ]);
        pause.abort();
        await run.clock.sleep(network.delayMs(source, own.podId), signal);
      } catch {
        // Only the end of following, which the loop looks at.
      }
    }
  }

  #hear(peer: Source, feed: Feed): void {
    const { own, run, network } = this.#parts;
    network.note("feed");
    if (feed.incarnation !== this.#incarnation) {
      this.#incarnation = feed.incarnation;
      this.#since = 0;
      this.pending.clear();
      this.#unlisten();
      this.#unlisten = peer.onNews(() => {
        if (run.alive) this.#wake();
      });
      for (const [key, { organization }] of [...own.items])
        if (this.#isMeant(organization) && !feed.entries.has(key)) own.delete(key);
    }
    for (const [key, entry] of feed.entries) {
      if (entry.generation <= this.#since || !this.#isMeant(entry.organization)) continue;
      if (own.items.get(key)?.digest !== entry.digest) this.pending.set(key, entry);
      else this.pending.delete(key);
    }
    this.#since = feed.generation;
    this.complete = true;
    this.connected = true;
    this.#finalEpoch = feed.final?.epoch ?? null;
    this.#finalGeneration = feed.final?.generation ?? 0;
    this.finalDigest = feed.final?.digest ?? null;
  }

  /** A split's target gets everything; a move's, what the assigned organizations own, beside what others have there. */
  #isMeant(organization: string): boolean {
    return this.#duty.kind === "split" || this.#duty.assignments.has(organization as never);
  }

  async #copySome(signal: AbortSignal): Promise<void> {
    const { own, serverOf, run, network, copyMs } = this.#parts;
    const source = serverOf(this.#duty.sourcePodId);
    const some = [...this.pending.keys()].slice(0, COPIED_AT_ONCE);
    // What breaks off in between leaves a part of a copy.
    for (const key of some) {
      const entry = this.pending.get(key) as Entry;
      const before = own.items.get(key);
      own.put(key, { organization: entry.organization, writes: before?.writes ?? [], digest: "partial" });
    }
    await run.clock.sleep(copyMs, signal);
    if (!network.connected(source.podId, own.podId)) return;
    for (const key of some) {
      const item = source.items.get(key);
      if (!item) continue;
      own.put(key, own.isRotten(key) ? withoutItsNewest(item) : item);
      if (this.pending.get(key)?.digest === item.digest) this.pending.delete(key);
    }
    this.#notice();
  }

  #notice(): void {
    for (const go of [...this.#waiting]) go();
    this.#onChange();
  }
}
