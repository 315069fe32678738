/** The source's side of one migration: tracked while it seeds and follows, drained and final at the fence. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Evidence, OwnProblem, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { enforce } from "../common/fence/shares.ts";
import { orAborted } from "../common/or-aborted.ts";
import type { Followers } from "../common/reverse/followers.ts";
import type { Role } from "../common/roles.ts";
import type { InventoryDigest } from "../common/verification/inventory-digest.ts";
import { waitedFor } from "../file-fence/unseen-writers.ts";
import { type ObjectsContext, scopeOf } from "./context.ts";
import { raiseFence, type SourceFinal } from "./fence/raise.ts";
import type { Inventory } from "./inventory/inventory.ts";
import type { SourceTracker } from "./inventory/tracker.ts";
import { ObjectsRemoval } from "./removal/remove.ts";
import { objectFollowers } from "./reverse/followers.ts";

/** What a target is answered from. */
export interface PeerView {
  readonly inventory: Inventory;
  readonly final: SourceFinal | null;
  /** Told of these keys alone; null: of all. */
  readonly only: ((key: string) => boolean) | null;
  /** What is there and cannot be told: without it a listing would look like a deletion. Null: nothing. */
  readonly problem: OwnProblem | null;
}

export class ObjectsSource implements Role {
  readonly #context: ObjectsContext;
  readonly #tracker: SourceTracker;
  #inventory: Inventory | null = null;
  readonly #inScope: (key: string) => boolean;
  #scope: { digest: InventoryDigest; remove: () => void } | null = null;
  readonly #removal: ObjectsRemoval;
  readonly #reverseReplication: Followers;
  #duty: Duty;
  #reached = false;
  #final: SourceFinal | null = null;
  #details: Evidence["details"] = {};
  #stragglers: string[] = [];
  #serving = false;

  constructor(context: ObjectsContext, tracker: SourceTracker, duty: Duty) {
    this.#context = context;
    this.#tracker = tracker;
    this.#duty = duty;
    this.#inScope = scopeOf(duty, context.ownerLookup);
    this.#removal = new ObjectsRemoval(context);
    this.#reverseReplication = objectFollowers(context, tracker);
  }

  /** Null while targets may not be answered: an incomplete inventory would look like deletions. */
  peerView(): PeerView | null {
    if (!this.#serving || !this.#tracker.scanned || this.#inventory === null) return null;
    // What cannot be read is in the inventory as it was; what is not there may be missing from it.
    return { inventory: this.#inventory, final: this.#final, only: null, problem: this.#tracker.problem() };
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    this.#reached = false;
    switch (duty.goal) {
      case "prepare":
      case "serve":
        this.#lower();
        await enforce(this.#context.fence, duty);
        await this.#track(signal);
        break;
      case "fence":
        await this.#fence(duty, signal);
        break;
      default:
        // In this order: whoever is refused from now on changes nothing of what flows back.
        await enforce(this.#context.fence, duty);
        this.#serving = false;
        await this.#reverseReplication.update(duty);
        this.#context.changed();
        if (duty.goal === "removeFiles") await this.#removal.run(duty, signal);
    }
    this.#reached = true;
    this.#context.changed();
  }

  status(): StoreStatus {
    const faults = this.#tracker.faults();
    const { goal, epoch } = this.#duty;
    const changed = this.#changedInTheFence();
    const evidence: Evidence | null =
      goal === "fence" &&
      this.#final !== null &&
      this.#final.epoch === epoch &&
      changed === null &&
      this.#tracker.problem() === null
        ? { epoch: this.#final.epoch, digest: this.#final.digest, details: this.#details }
        : null;
    const progress = this.#tracker.progress;
    return {
      goal,
      reached: this.#reached,
      progress:
        goal === "removeFiles"
          ? this.#removal.progress
          : progress && !this.#tracker.scanned
            ? { ...progress, unit: "objects" }
            : null,
      lag: null,
      verified: this.#tracker.scanned && faults.length === 0,
      evidence,
      problems: [
        // At the deadline it is why the fence was lowered.
        ...(goal === "fence" && this.#final === null ? waitedFor(this.#stragglers) : []),
        ...(changed === null ? [] : [changed]),
        ...faults,
        ...this.#tracker.outsideWrites(),
        ...(goal === "removeFiles" ? this.#removal.problems : []),
      ].slice(0, 50),
      stragglers: this.#stragglers.slice(0, 50),
      ...this.#reverseReplication.status(),
    };
  }

  /** A writer that the fence did not stop: what it wrote is in no evidence, so there is none. */
  #changedInTheFence(): OwnProblem | null {
    // Later the copy that is left here follows the new Pod.
    if (this.#duty.goal !== "fence") return null;
    if (this.#final === null || this.#scope === null) return null;
    if (this.#scope.digest.countedRoot === this.#final.digest) return null;
    return {
      code: "MISMATCH",
      message:
        "objects of fenced organizations changed after their writers had ended; their writers asked no fence, or another's",
    };
  }

  async close(): Promise<void> {
    this.#serving = false;
    await this.#reverseReplication.close();
    this.#scope?.remove();
    this.#scope = null;
  }

  #lower(): void {
    this.#final = null;
    this.#stragglers = [];
  }

  async #track(signal: AbortSignal): Promise<InventoryDigest> {
    const inventory = await this.#context.inventory();
    await orAborted(this.#tracker.start(), signal);
    this.#inventory = inventory;
    this.#scope ??= inventory.addScope(this.#inScope);
    this.#serving = true;
    this.#context.changed();
    return this.#scope.digest;
  }

  async #fence(duty: Duty, signal: AbortSignal): Promise<void> {
    const { epoch } = duty;
    if (epoch === null) throw new CleaveError("INTERNAL", "a fence without an epoch");
    if (this.#final?.epoch === epoch) return;
    this.#lower();
    const raised = await raiseFence(
      {
        context: this.#context,
        tracker: this.#tracker,
        inScope: this.#inScope,
        track: (tracking) => this.#track(tracking),
        onStragglers: (texts) => {
          this.#stragglers = texts;
        },
      },
      { ...duty, epoch },
      signal,
    );
    this.#final = raised.final;
    this.#details = raised.details;
    this.#context.changed();
  }
}
