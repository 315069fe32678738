/** A migration's end on this Pod, source or target: nothing dormant is left, and then nothing of the migration is. */
import { rm } from "node:fs/promises";
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { requireRemoval } from "../removal-scope.ts";
import { emptyRecord, type GitContext, type Role } from "./context.ts";
import { isMirrorOf, removeMark } from "./mirror.ts";
import { GitRemoval } from "./removal.ts";
import { ignoring, scanRoot } from "./repository-path.ts";

export class GitEnding implements Role {
  readonly #context: GitContext;
  readonly #removal: GitRemoval;
  #reached = false;

  constructor(context: GitContext) {
    this.#context = context;
    this.#removal = new GitRemoval(context);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#reached = false;
    requireRemoval(duty);
    // What somebody made since the files were removed: the rows still tell whose it is, or it stays.
    await this.#removal.run(duty, signal);
    await this.#removal.requireNothingLeft(duty, signal);
    await this.#removeMarks(duty, signal);
    signal.throwIfAborted();
    await this.#context.fence.settleMigration(duty.migrationId);
    await rm(emptyRecord(this.#context, duty), { force: true });
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

  async #removeMarks({ migrationId }: Duty, signal: AbortSignal): Promise<void> {
    const { config, inventory } = this.#context;
    const { repositories } = await scanRoot(config.root, ignoring(config.ignore), signal);
    for (const path of repositories) {
      signal.throwIfAborted();
      const directory = inventory.gitDirectory(path);
      if (await isMirrorOf(directory, migrationId)) await removeMark(directory);
    }
  }
}
