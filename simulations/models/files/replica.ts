/**
 * A target's copy of a source's repositories or objects: follows the feed of the source's agent, copies from its disk.
 * Of a way back: the dormant copy on the source follows the target, and rollbacks are proved by it.
 */
import type { Assignments } from "../../../protocol/assignments.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { Pause } from "../../../protocol/pause.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { Run } from "../host.ts";
import type { Network } from "../network.ts";
import { type FileServer, withoutItsNewest } from "./server.ts";

const POLL_MS = 600;
const COPIED_AT_ONCE = 8;
const HELD_LOOK_MS = 50;

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
  /** Where fences ended: of this migration, and of its rollbacks. */
  readonly finals: ReadonlyMap<string, Final>;
}

export interface Final {
  readonly epoch: number;
  readonly generation: number;
  readonly digest: string;
}

/** Whose feed it follows, and what of it is meant. */
export interface Following {
  readonly migrationId: string;
  readonly sourcePodId: string;
  isMeant(organization: string): boolean;
}

/** A split's target gets everything; a move's, what the assigned organizations own, beside what others have there. */
export function followingOf(duty: Duty): Following {
  const { migrationId, sourcePodId, kind, assignments } = duty;
  return {
    migrationId,
    sourcePodId,
    isMeant: (organization) => kind === "split" || assignments.has(organization as never),
  };
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
  readonly #following: Following;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #pause: Pause;
  #incarnation: Run | null = null;
  #since = 0;
  #feed: Feed | null = null;
  #unlisten: () => void = () => undefined;
  /** Key to the newest digest that the source named, where it differs from what is here. */
  readonly pending = new Map<string, Entry>();
  connected = false;
  complete = false;
  #finals: Feed["finals"] = new Map();
  /** Nothing is taken over for now. */
  held: () => boolean = () => false;

  constructor(parts: FileStoreParts, following: Following, onChange: () => void) {
    this.#parts = parts;
    this.#following = following;
    this.#onChange = onChange;
    this.#pause = new Pause(parts.run.clock);
  }

  start(): void {
    void this.#loop();
  }

  stop(): void {
    this.#stopping.abort(new CleaveError("COMMAND_NOT_POSSIBLE", "not followed any more"));
    this.#unlisten();
    this.#pause.wake();
  }

  pendingOf(assignments: Assignments): number {
    let count = 0;
    for (const { organization } of this.pending.values())
      if (assignments.has(organization as never)) count += 1;
    return count;
  }

  finalDigest(migrationId: string): string | null {
    return this.#finals.get(migrationId)?.digest ?? null;
  }

  /** Everything that these had at the fence of that epoch is here. */
  matched(migrationId: string, epoch: number, assignments: Assignments): boolean {
    const final = this.#finals.get(migrationId);
    const heard = final?.epoch === epoch && this.#since >= final.generation;
    return heard && this.connected && this.complete && this.pendingOf(assignments) === 0;
  }

  /** What is meant changed: what is not any more is left as it is. */
  forgetOthers(): void {
    for (const [key, { organization }] of [...this.pending])
      if (!this.#following.isMeant(organization)) this.pending.delete(key);
  }

  resync(): void {
    this.#incarnation = null;
    this.complete = false;
    this.#pause.wake();
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
    const source = this.#following.sourcePodId;
    while (!signal.aborted) {
      if (this.held()) {
        await run.clock.sleep(HELD_LOOK_MS, signal).catch(() => undefined);
        continue;
      }
      this.#pause.look();
      const peer = network.connected(source, own.podId) ? peerOf(source) : null;
      this.#feed = peer?.feed(this.#following.migrationId) ?? null;
      if (peer && this.#feed) this.#hear(peer, this.#feed);
      else this.connected = false;
      this.#notice();
      try {
        if (this.connected && this.pending.size > 0) {
          await this.#copySome(signal);
          continue;
        }
        await this.#pause.wait(this.connected ? POLL_MS : 100);
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
        if (run.alive) this.#pause.wake();
      });
      for (const [key, { organization }] of [...own.items])
        if (this.#following.isMeant(organization) && !feed.entries.has(key)) own.delete(key);
    }
    for (const [key, entry] of feed.entries) {
      if (entry.generation <= this.#since || !this.#following.isMeant(entry.organization)) continue;
      if (own.items.get(key)?.digest !== entry.digest) this.pending.set(key, entry);
      else this.pending.delete(key);
    }
    this.#since = feed.generation;
    this.complete = true;
    this.connected = true;
    this.#finals = feed.finals;
  }

  async #copySome(signal: AbortSignal): Promise<void> {
    const { own, serverOf, run, network, copyMs } = this.#parts;
    const source = serverOf(this.#following.sourcePodId);
    const some = [...this.pending.keys()].slice(0, COPIED_AT_ONCE);
    // What breaks off in between leaves a part of a copy.
    for (const key of some) {
      const entry = this.pending.get(key) as Entry;
      const before = own.items.get(key);
      own.put(key, { organization: entry.organization, writes: before?.writes ?? [], digest: "partial" });
    }
    await run.clock.sleep(copyMs, signal);
    if (!network.connected(source.podId, own.podId) || this.held()) return;
    for (const key of some) {
      // Not meant any more.
      if (!this.pending.has(key)) continue;
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
