/** A migration's end on this Pod, source or target: nothing dormant is left, and then nothing of the migration is. */
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { requireRemoval } from "../removal-scope.ts";
import type { ObjectsContext, Role } from "./context.ts";
import { removeCopyRecord } from "./copy-record.ts";
import { ObjectsRemoval } from "./removal.ts";

export class ObjectsEnding implements Role {
  readonly #context: ObjectsContext;
  readonly #removal: ObjectsRemoval;
  #reached = false;

  constructor(context: ObjectsContext) {
    this.#context = context;
    this.#removal = new ObjectsRemoval(context);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#reached = false;
    requireRemoval(duty);
    // What somebody made since the files were removed.
    await this.#removal.run(duty, signal);
    await this.#removal.requireNothingLeft(duty, signal);
    signal.throwIfAborted();
    await this.#context.fence.settleMigration(duty.migrationId);
    await removeCopyRecord(this.#context.stateDirectory, duty.migrationId);
    this.#reached = true;
    this.#context.changed();
  }

  status(): StoreStatus {
    return {
      goal: "removeRows",
      reached: this.#reached,
      progress: this.#removal.progress,
      lag: null,
      verified: this.#reached,
      evidence: null,
      problems: [...this.#removal.problems],
      stragglers: [],
    };
  }

  async close(): Promise<void> {}
}
