/**
 * A migration's end in a store of files, source or target: nothing dormant is left, and then nothing of the migration
 * is but who is authoritative.
 */
import type { Problem, StoreStatus } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { FileFence } from "../../file-fence/file-fence.ts";
import { endOf } from "../reverse/claims.ts";
import { requireRemoval } from "./scope.ts";

export interface FilesRemoval {
  readonly progress: StoreStatus["progress"];
  readonly problems: readonly Problem[];
  run(duty: Duty, signal: AbortSignal): Promise<void>;
  /** @throws CleaveError REMOVAL_DISAGREES when something dormant is here all the same. */
  requireNothingLeft(duty: Duty, signal: AbortSignal): Promise<void>;
}

export interface EndingOptions {
  readonly removal: FilesRemoval;
  readonly fence: FileFence;
  /** What tells the migration's files from others; before the fence forgets the migration. */
  readonly removeMarks: (duty: Duty, signal: AbortSignal) => Promise<void>;
  /** What this store remembers of the migration; last. */
  readonly removeRecord: (duty: Duty) => Promise<void>;
  readonly changed: () => void;
}

export class Ending {
  readonly #options: EndingOptions;
  #reached = false;

  constructor(options: EndingOptions) {
    this.#options = options;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const { removal, fence, removeMarks, removeRecord, changed } = this.#options;
    this.#reached = false;
    requireRemoval(duty);
    // What somebody made since the files were removed: the rows still tell whose it is, or it stays.
    await removal.run(duty, signal);
    await removal.requireNothingLeft(duty, signal);
    await removeMarks(duty, signal);
    signal.throwIfAborted();
    await fence.settleMigration(duty.migrationId, endOf(duty));
    await removeRecord(duty);
    this.#reached = true;
    changed();
  }

  status(): StoreStatus {
    const { progress, problems } = this.#options.removal;
    return {
      goal: "removeRows",
      reached: this.#reached,
      progress,
      lag: null,
      verified: this.#reached,
      evidence: null,
      problems: [...problems],
      stragglers: [],
    };
  }

  async close(): Promise<void> {}
}
