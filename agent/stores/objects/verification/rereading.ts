/** Reads a target's copies again, slowly and for ever, to find what the disk or somebody else changed. */
import type { Problem } from "../../../../protocol/evidence.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import { RateLimit } from "../../common/rate-limit.ts";
import type { ObjectBackend } from "../backend/backend.ts";
import { hashObject } from "../backend/hashing.ts";
import type { Inventory } from "../inventory/inventory.ts";
import { quoteKey } from "../inventory/keys.ts";
import type { Replica } from "../replication/replica.ts";

export interface VerificationOptions {
  readonly backend: ObjectBackend;
  readonly inventory: Inventory;
  readonly replica: Replica;
  readonly clock: Clock;
  readonly log: Logger;
  readonly bytesPerSecond: number;
  readonly pauseMs: number;
  /** What this migration copied: others' objects on this Pod are theirs to change. */
  readonly isCopy: (key: string) => boolean;
  /** A key that must not be here unless it was copied. */
  readonly isForeign: (key: string) => boolean;
  readonly onChange: () => void;
}

export class Verification {
  readonly #options: VerificationOptions;
  readonly #ended = new AbortController();
  readonly #repairing = new Set<string>();
  /** Objects that the source never sent, and what could not be listed. */
  #foreign = new Map<string, string>();
  #passes = 0;
  #loop: Promise<void> | null = null;

  constructor(options: VerificationOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run().catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#ended.abort(new Error("no longer verified"));
    await this.#loop;
  }

  /** One pass since the base copy has read everything, and no difference is open. */
  get verified(): boolean {
    return this.#passes > 0 && this.#foreign.size === 0 && this.#openRepairs() === 0;
  }

  /** Whether what is here is only what was copied; false makes evidence impossible. */
  get clean(): boolean {
    return this.#foreign.size === 0;
  }

  problems(): Problem[] {
    return [...this.#foreign].slice(0, 10).map(([name, reason]) => ({
      code: "MISMATCH",
      message: `${quoteKey(name)} on this Pod did not come from the source: ${reason}`,
    }));
  }

  #openRepairs(): number {
    for (const key of this.#repairing) if (!this.#options.replica.isPending(key)) this.#repairing.delete(key);
    return this.#repairing.size;
  }

  async #run(): Promise<void> {
    const { clock, log, pauseMs, onChange } = this.#options;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        await this.#pass();
        this.#passes += 1;
        onChange();
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ err: error }, "a verification of the copied objects failed");
      }
      await clock.sleep(this.#foreign.size > 0 ? Math.min(pauseMs, 5_000) : pauseMs, signal);
    }
  }

  async #pass(): Promise<void> {
    const { backend, inventory, clock, bytesPerSecond, replica, isCopy } = this.#options;
    const { signal } = this.#ended;
    const limit = new RateLimit(clock, bytesPerSecond);
    for (const key of [...inventory.keys()]) {
      signal.throwIfAborted();
      const expected = inventory.get(key);
      if (expected === undefined || !isCopy(key) || replica.isPending(key)) continue;
      let actual: Awaited<ReturnType<typeof hashObject>> | "unreadable";
      try {
        actual = await hashObject(backend, key, (bytes) => limit.take(bytes, signal));
      } catch (error) {
        signal.throwIfAborted();
        this.#options.log.warn({ key, err: error }, "a copied object cannot be read");
        actual = "unreadable";
      }
      // Replaced meanwhile: its digest was taken when it was written.
      if (inventory.get(key) !== expected || replica.isPending(key)) continue;
      if (actual === "unreadable") this.#repair(key, "unreadable");
      else if (actual === null) this.#repair(key, "missing");
      else if (actual.sha256 !== expected.sha256) this.#repair(key, "damaged");
      else inventory.set(key, actual);
    }
    await this.#findForeign();
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

  #repair(key: string, why: string): void {
    this.#repairing.add(key);
    this.#options.replica.repair(key, why);
  }
}
