/** A migration's source: keeps the inventory true, fences, drains, and says what it held when nothing could change. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, OwnProblem, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { enforceShares, stageRoutes } from "../common/fence/shares.ts";
import { wentBack } from "../common/reverse/claims.ts";
import type { Followers } from "../common/reverse/followers.ts";
import type { Role } from "../common/roles.ts";
import { waitedFor } from "../file-fence/unseen-writers.ts";
import type { HeadLocks } from "./backend/backend.ts";
import { assignedOwners, type GitContext } from "./context.ts";
import { raiseFence } from "./fence/raise.ts";
import { ownerText } from "./inventory/repository-entry.ts";
import type { Tracker } from "./inventory/tracker.ts";
import { GitRemoval } from "./removal/remove.ts";
import { gitFollowers } from "./reverse/followers.ts";
import type { InventoryView } from "./verification/inventory-view.ts";

export interface SourceFinal {
  readonly epoch: number;
  readonly generation: number;
  readonly digest: string;
}

export class GitSource implements Role {
  readonly #context: GitContext;
  readonly #tracker: Tracker;
  #headLocks: HeadLocks | null = null;
  readonly #removal: GitRemoval;
  readonly #reverseReplication: Followers;
  #view: InventoryView | null = null;
  #goal: Goal;
  #reached = false;
  #fenced: Epoch | null = null;
  #stragglers: string[] = [];

  constructor(context: GitContext, tracker: Tracker, duty: Duty) {
    this.#context = context;
    this.#tracker = tracker;
    this.#goal = duty.goal;
    this.#reverseReplication = gitFollowers(context, () => tracker.start());
    // A lock that is gone with its repository would be missing in one that comes to the same place.
    this.#removal = new GitRemoval(context, async (path) => this.#headLocks?.release([path]));
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#goal = duty.goal;
    this.#reached = false;
    if (duty.goal !== "fence" || this.#fenced !== duty.epoch) this.#fenced = null;
    const enforced = enforceShares(this.#context.fence, duty);
    // Before whatever takes long, since others wait for what is not followed any more.
    await this.#reverseReplication.update(duty);
    this.#headLocks = await this.#context.backend.headLocks();
    if (duty.goal === "fence") await this.#fence(duty, enforced, signal);
    else {
      await enforced;
      await stageRoutes(this.#context.fence, duty);
      signal.throwIfAborted();
      await this.#tracker.start();
      const view = this.#viewOf(duty);
      signal.throwIfAborted();
      if (duty.goal === "yield" || duty.goal === "removeFiles") await this.#yield(duty, view, signal);
      else if (duty.goal === "release") await this.#release(view);
      else await this.#unlock(view);
    }
    if (duty.goal === "removeFiles") await this.#removal.run(duty, signal);
    signal.throwIfAborted();
    this.#reached = true;
    this.#context.changed();
  }

  /** What targets may rely on: everything up to `generation` is all that there is, for the organizations fenced. */
  final(): SourceFinal | null {
    if (this.#fenced === null || this.#view === null) return null;
    return {
      epoch: this.#fenced,
      generation: this.#context.inventory.generation,
      digest: this.#view.digest,
    };
  }

  status(): StoreStatus {
    const { done, total } = this.#tracker.progress;
    const view = this.#view;
    const unreadable = this.#unreadable();
    const known = new Set(unreadable.map(({ message }) => message));
    const others = this.#tracker.problems().filter(({ message }) => !known.has(message));
    const evidence =
      this.#fenced === null || view === null || unreadable.length > 0
        ? null
        : {
            epoch: this.#fenced,
            digest: view.digest,
            details: { repositories: view.size, generation: this.#context.inventory.generation },
          };
    return {
      goal: this.#goal,
      reached: this.#reached && (this.#goal !== "fence" || unreadable.length === 0),
      progress: (this.#goal === "removeFiles" ? this.#removal.progress : null) ?? {
        done,
        total,
        unit: "repositories",
      },
      lag: null,
      verified: this.#tracker.complete && this.#context.root.problem === null,
      evidence,
      problems: [
        ...this.#waiting(),
        ...unreadable,
        ...others,
        ...(this.#goal === "removeFiles" ? this.#removal.problems : []),
      ].slice(0, 50),
      stragglers: this.#stragglers.slice(0, 50),
      ...this.#reverseReplication.status(),
    };
  }

  async close(): Promise<void> {
    await this.#reverseReplication.close();
    if (this.#view !== null) this.#context.inventory.dropView(this.#view);
  }

  /** Named as a problem too: at the deadline it is why the fence was lowered. */
  #waiting(): OwnProblem[] {
    return this.#goal === "fence" && this.#fenced === null ? waitedFor(this.#stragglers) : [];
  }

  #unreadable(): OwnProblem[] {
    if (this.#view === null) return [];
    const unreadable = [...this.#view.unreadable].slice(0, 50).map(([path, detail]) => ({
      code: "REPOSITORY_UNREADABLE" as const,
      message: `${path}: ${detail || "its owner is not known"}`.slice(0, 2_000),
    }));
    return [...this.#tracker.absent(), ...this.#tracker.blocking(this.#view), ...unreadable];
  }

  #viewOf(duty: Duty): InventoryView {
    this.#view ??= this.#context.inventory.view(assignedOwners(duty));
    return this.#view;
  }

  async #fence(duty: Duty, enforced: Promise<void>, signal: AbortSignal): Promise<void> {
    await raiseFence(
      {
        context: this.#context,
        tracker: this.#tracker,
        enforced,
        headLocks: this.#headLocks,
        viewOf: (fenced) => this.#viewOf(fenced),
        onStragglers: (texts) => {
          this.#stragglers = texts;
        },
      },
      duty,
      signal,
    );
    signal.throwIfAborted();
    this.#fenced = duty.epoch;
    const [first] = this.#unreadable();
    if (first !== undefined) {
      this.#context.changed();
      throw new CleaveError(first.code, first.message);
    }
  }

  /** Dormant now, or served where a target's share went back, or a rollback brought it back. */
  async #yield(duty: Duty, view: InventoryView, signal: AbortSignal): Promise<void> {
    if (this.#headLocks === null) return;
    const back = new Set<string>();
    for (const [organizationId, podId] of duty.assignments)
      if (duty.shares[podId] === "source" || wentBack(duty, organizationId))
        back.add(ownerText({ kind: "organization", organizationId }));
    const serving: string[] = [];
    const dormant: string[] = [];
    for (const path of view.paths)
      (back.has(this.#context.inventory.get(path)?.owner ?? "") ? serving : dormant).push(path);
    await this.#headLocks.release(serving);
    await this.#headLocks.hold(dormant, { graceMs: 1_000, signal });
  }

  async #unlock(view: InventoryView): Promise<void> {
    await this.#headLocks?.release(view.paths);
  }

  /** The share says `source` by now, and goes last: no route ever names a share that is gone. */
  async #release(view: InventoryView): Promise<void> {
    await this.#unlock(view);
    this.#context.inventory.dropView(view);
    this.#view = null;
  }
}
