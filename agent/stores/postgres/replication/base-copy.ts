/**
 * The base copy from beginning to end: slot, snapshot, rows; attempted as often as needed. As long as somebody holds the
 * snapshot, an attempt goes on where the last one was cut off. When nobody does (this process was killed, or the
 * source), rows of two moments would be mixed: then it says so and begins again.
 */
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Endpoint } from "../config.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { dropSlots } from "../split/slots.ts";
import { type CopyOptions, copyRows, removeRows } from "./copy.ts";
import { begunCopy, type CopyBegun, readRanges } from "./copy-journal.ts";
import { createSlot, hasSlotAt, isHeld, type Snapshot } from "./snapshot.ts";

export type BaseCopyOptions = Omit<CopyOptions, "snapshot" | "signal" | "record"> & {
  /** Names the slot and what the target remembers of this copy. */
  readonly slot: string;
  readonly clock: Clock;
  /** What was copied is of a snapshot that is gone: it is removed, and the copy begins again. */
  readonly onRestart?: (reason: string) => void;
};

/** Rows that it has copied are removed by its `remove` alone, so that nothing is remembered of rows that are not there. */
export class BaseCopy {
  readonly #options: BaseCopyOptions;
  #snapshot: Snapshot | null = null;

  constructor(options: BaseCopyOptions) {
    this.#options = options;
  }

  /**
   * Idempotent; to be called again after it failed, on the same object while there is one, since that holds the
   * snapshot. The publication has to be there before.
   * @returns the position from which the slot streams what came after the copy.
   * @throws what either server says; the signal's reason.
   */
  async run(signal: AbortSignal): Promise<string> {
    const { source, target, slot } = this.#options;
    const opened: Database[] = [];
    const cut = () => {
      for (const db of opened) discard(db);
    };
    signal.addEventListener("abort", cut, { once: true });
    try {
      const open = async (endpoint: Endpoint) => {
        const db = await connect(endpoint, { applicationName: "cleave-copy" });
        opened.push(db);
        signal.throwIfAborted();
        return db;
      };
      const [there, here] = [await open(source), await open(target)];
      const begun = await begunCopy(here, slot);
      if (begun !== null && (await this.#isComplete(there, here, begun))) {
        this.close();
        return begun.consistentLsn;
      }
      const snapshot = await this.#snapshotFor(there, begun, signal);
      await copyRows({ ...this.#options, snapshot, record: slot, signal });
      this.close();
      return snapshot.consistentLsn;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", cut);
      cut();
    }
  }

  /** Removes what was copied, and forgets it. @returns how many rows */
  async remove(): Promise<number> {
    const { target, moving, session, slot } = this.#options;
    return await removeRows(target, moving, session, slot);
  }

  /** Lets go of the snapshot. */
  close(): void {
    this.#snapshot?.release();
    this.#snapshot = null;
  }

  async #isComplete(source: Database, target: Database, begun: CopyBegun): Promise<boolean> {
    const ranges = await readRanges(target, this.#options.slot, begun);
    if (ranges === null || ranges.some(({ done }) => !done)) return false;
    return await hasSlotAt(source, this.#options.slot, begun.consistentLsn);
  }

  /** That of the copy which was begun, when it is still held; else a new one, and nothing on the target. */
  async #snapshotFor(source: Database, begun: CopyBegun | null, signal: AbortSignal): Promise<Snapshot> {
    const { slot, clock, onRestart } = this.#options;
    // Before its ranges were written down, nothing of it was copied.
    const candidate = begun ?? this.#snapshot;
    if (candidate !== null && (await isHeld(source, slot, candidate)))
      return this.#snapshot?.name === candidate.name
        ? this.#snapshot
        : { ...candidate, release: () => undefined };
    this.close();
    if (begun !== null)
      onRestart?.(
        `the snapshot of the source at ${begun.consistentLsn} is gone, for whoever held it has ended: what was copied from it is removed, and the copy begins again`,
      );
    await dropSlots(source, [slot], clock, signal);
    await this.remove();
    signal.throwIfAborted();
    this.#snapshot = await createSlot(this.#options.source, slot, signal);
    return this.#snapshot;
  }
}
