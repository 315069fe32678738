/** Keeps the newest fold on the disk, as fast as the disk takes it, and knows up to where it is there. */
import type { ClusterState } from "../../protocol/cluster.ts";
import { mark } from "../../protocol/marks.ts";
import type { Checkpoints } from "../../protocol/ports/checkpoints.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Logger } from "../../protocol/ports/logger.ts";

const AGAIN_MS = 500;

export interface DurableFoldOptions {
  readonly checkpoints: Checkpoints;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What is on the disk already. */
  readonly sequence: number;
  readonly newest: () => ClusterState;
  readonly onSaved: () => void;
}

export class DurableFold {
  readonly #options: DurableFoldOptions;
  readonly #stopping = new AbortController();
  #sequence: number;
  #saving: Promise<void> | null = null;

  constructor(options: DurableFoldOptions) {
    this.#options = options;
    this.#sequence = options.sequence;
  }

  /** Of the last record that a crash cannot make this process forget. */
  get sequence(): number {
    return this.#sequence;
  }

  /** A record was folded. Folds that come while one is written are written together afterwards. */
  save(): void {
    if (this.#saving !== null || this.#sequence >= this.#options.newest().sequence) return;
    this.#saving = this.#run();
  }

  /** Resolves when what is being written is there; what fails from now on is not tried again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#saving;
  }

  async #run(): Promise<void> {
    const { checkpoints, clock, logger, newest, onSaved } = this.#options;
    try {
      while (this.#sequence < newest().sequence) {
        const state = newest();
        try {
          await checkpoints.save(state);
          this.#sequence = state.sequence;
          onSaved();
        } catch (error) {
          mark("checkpoint-failed");
          logger.error({ err: error }, "the checkpoint cannot be written; nothing is reported until it can");
          if (this.#stopping.signal.aborted) return;
          await clock.sleep(AGAIN_MS, this.#stopping.signal).catch(() => undefined);
        }
      }
    } finally {
      // In the same turn as the last look: a record that is folded after that look finds nobody saving, and is saved.
      this.#saving = null;
    }
  }
}
