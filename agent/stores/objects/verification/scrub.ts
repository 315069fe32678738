/** The scrub of a copy of objects: hashes what the disk has, and looks for what was never copied. */
import type { Problem, ScrubStatus } from "../../../../protocol/evidence.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import { Scrub } from "../../common/verification/scrub.ts";
import type { Limits, Reading, Scrubbed, ScrubMemory } from "../../common/verification/scrubbed.ts";
import type { ObjectBackend } from "../backend/backend.ts";
import { hashObject } from "../backend/hashing.ts";
import type { Inventory } from "../inventory/inventory.ts";
import { quoteKey } from "../inventory/keys.ts";
import type { Replica } from "../replication/replica.ts";

/** While there is something that was not copied, nothing is evidence: it is looked for again this soon. */
const FOREIGN_AGAIN_MS = 5_000;

export interface VerificationOptions {
  readonly backend: ObjectBackend;
  readonly inventory: Inventory;
  readonly replica: Replica;
  readonly memory: ScrubMemory;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: Limits;
  /** What this migration copied: others' objects on this Pod are theirs to change. */
  readonly isCopy: (key: string) => boolean;
  /** What evidence is about. */
  readonly inScope: (key: string) => boolean;
  /** A key that must not be here unless it was copied. */
  readonly isForeign: (key: string) => boolean;
  readonly onChange: () => void;
}

export class Verification implements Scrubbed {
  readonly #options: VerificationOptions;
  readonly #ended = new AbortController();
  readonly #scrub: Scrub;
  /** Of the inventory: looked at up to here. */
  #seen = { incarnation: "", generation: 0 };
  /** Objects that the source never sent, and what could not be listed. */
  #foreign = new Map<string, string>();
  #isLookingForForeign = false;

  constructor(options: VerificationOptions) {
    this.#options = options;
    const { memory, clock, log, limits, onChange } = options;
    this.#scrub = new Scrub({ scrubbed: this, memory, clock, log, ...limits, onChange });
  }

  start(): void {
    this.#scrub.start();
    this.#scrub.wake();
  }

  async stop(): Promise<void> {
    this.#ended.abort(new Error("no longer verified"));
    await this.#scrub.stop();
  }

  /** One pass since the base copy has read everything, and no difference is open. */
  get verified(): boolean {
    return this.#scrub.verified && this.#foreign.size === 0;
  }

  /** At the fence of that epoch: see `Scrub`. What is here is only what was copied. */
  confirms(epoch: number): boolean {
    return this.#scrub.confirms(epoch) && this.#foreign.size === 0;
  }

  relax(): void {
    this.#scrub.relax();
  }

  status(): ScrubStatus {
    return this.#scrub.status();
  }

  problems(): Problem[] {
    return [...this.#foreign].slice(0, 10).map(([name, reason]) => ({
      code: "MISMATCH",
      message: `${quoteKey(name)} on this Pod did not come from the source: ${reason}`,
    }));
  }

  // What is scrubbed --------------------------------------------------------------------------------------------

  *names(): Generator<string> {
    const { inventory, isCopy } = this.#options;
    for (const key of inventory.keys()) if (isCopy(key)) yield key;
  }

  get size(): number {
    return this.#options.inventory.size;
  }

  *changed(): Generator<string> {
    const { inventory, isCopy } = this.#options;
    const { incarnation, generation } = inventory;
    if (this.#seen.incarnation === incarnation && this.#seen.generation === generation) return;
    const since = this.#seen.incarnation === incarnation ? this.#seen.generation : 0;
    this.#seen = { incarnation, generation };
    for (const { key, deleted } of inventory.changes(since, generation, Infinity).changes)
      if (!deleted && isCopy(key)) yield key;
  }

  belief(key: string): object | null {
    const { inventory, replica } = this.#options;
    return replica.isPending(key) ? null : (inventory.get(key) ?? null);
  }

  isGone(key: string): boolean {
    const { inventory, replica } = this.#options;
    return inventory.get(key) === undefined && !replica.isPending(key);
  }

  isAssigned(key: string): boolean {
    return this.#options.inScope(key);
  }

  bytes(key: string): number {
    return this.#options.inventory.get(key)?.bytes ?? 0;
  }

  async looksSame(key: string): Promise<boolean> {
    const { backend, inventory } = this.#options;
    const stat = await backend.stat(key);
    return stat !== null && stat.version === inventory.get(key)?.version;
  }

  async read(key: string, signal: AbortSignal, take: (bytes: number) => Promise<void>): Promise<Reading> {
    const { backend, inventory, log } = this.#options;
    const expected = inventory.get(key);
    if (expected === undefined) return { why: null, belief: null };
    let actual: Awaited<ReturnType<typeof hashObject>> | "unreadable";
    try {
      actual = await hashObject(backend, key, take);
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ key, err: error }, "a copied object cannot be read");
      actual = "unreadable";
    }
    // Replaced meanwhile: that is another belief.
    if (this.belief(key) !== expected) return { why: null, belief: null };
    if (actual === "unreadable") return { why: actual, belief: expected };
    if (actual === null) return { why: "missing", belief: expected };
    if (actual.sha256 !== expected.sha256) return { why: "damaged", belief: expected };
    inventory.set(key, actual);
    return { why: null, belief: inventory.get(key) ?? null };
  }

  damaged(key: string, why: string): void {
    this.#options.replica.repair(key, why);
  }

  async passed(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    await this.#findForeign();
    if (this.#foreign.size === 0 || this.#isLookingForForeign) return;
    this.#isLookingForForeign = true;
    const again = async () => {
      while (this.#foreign.size > 0) {
        await clock.sleep(Math.min(this.#options.limits.pauseMs, FOREIGN_AGAIN_MS), signal);
        await this.#findForeign();
      }
    };
    void again()
      .catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error }, "what does not belong to a copy cannot be looked for");
      })
      .finally(() => {
        this.#isLookingForForeign = false;
      });
  }

  async #findForeign(): Promise<void> {
    const { backend, inventory, replica, isForeign, onChange } = this.#options;
    const foreign = new Map<string, string>();
    const onUnlistable = (name: string, reason: string) => {
      if (isForeign(name)) foreign.set(name, reason);
    };
    for await (const { key } of backend.list({ onUnlistable })) {
      this.#ended.signal.throwIfAborted();
      if (isForeign(key) && inventory.get(key) === undefined && !replica.isPending(key))
        foreign.set(key, "it is not in the inventory");
    }
    // What was just being written while it was listed is known by now.
    for (const key of foreign.keys())
      if (inventory.get(key) !== undefined || replica.isPending(key)) foreign.delete(key);
    const noted = foreign.size > 0 || this.#foreign.size > 0;
    this.#foreign = foreign;
    if (noted) onChange();
  }
}
