/** What a store knows about one migration, kept in memory and told to others when it matters. */
import type { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch } from "../../../protocol/ids.ts";

/** Who says why it cannot go on: the step towards the goal, or one of the loops beside it. */
export type Loop =
  | "step"
  | "locks"
  | "watch"
  | "plan"
  | "stream"
  | "comparison"
  | "pace"
  | "reverse replication";

export class StatusBoard {
  readonly #onChange: () => void;
  /** Each loop's own: what one has got over says nothing of the others. */
  readonly #reasons = new Map<Loop, StoreStatus["problems"]>();
  #status: StoreStatus;
  #lagBoundBytes = 0;

  constructor(goal: Goal, onChange: () => void) {
    this.#onChange = onChange;
    this.#status = {
      goal,
      reached: false,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      problems: [],
      stragglers: [],
    };
  }

  get status(): StoreStatus {
    return this.#status;
  }

  /** A lag that crosses this bound is told at once; other changes of a lag are not. */
  set lagBoundBytes(bytes: number) {
    this.#lagBoundBytes = bytes;
  }

  /**
   * A `reach` begins: nothing of the former goal counts as reached. What kept the step to the same goal from going on
   * is held until it has got there, or says something else.
   */
  begin(goal: Goal): void {
    this.set({ goal, reached: false, ...(goal === this.#status.goal ? {} : { problems: [] }) });
  }

  /** `problems` are the step's own; what is reached has none. Other loops say theirs with `say`. */
  set(change: Partial<StoreStatus>): void {
    const { problems: own, ...rest } = change;
    const before = this.#gist();
    if (own !== undefined) this.#reasons.set("step", own);
    else if (change.reached === true) this.#reasons.delete("step");
    this.#status = { ...this.#status, ...rest, problems: [...this.#reasons.values()].flat() };
    if (this.#gist() !== before) this.#onChange();
  }

  /** What keeps one loop from going on: held until the same loop says otherwise. Nothing does when null or empty. */
  say(loop: Loop, reasons: CleaveError | StoreStatus["problems"] | null): void {
    const list = reasons === null ? [] : "code" in reasons ? [reasons] : reasons;
    this.#reasons.set(
      loop,
      list.map(({ code, message }) => ({ code, message: message.slice(0, 2_000) })),
    );
    this.set({});
  }

  /** The loops have ended, and so has what they said. */
  silence(): void {
    for (const loop of this.#reasons.keys())
      if (loop !== "step" && loop !== "locks") this.#reasons.delete(loop);
    this.set({});
  }

  /** Evidence of another fence is none of this one. */
  awaitEvidence(epoch: Epoch): void {
    if (this.#status.evidence?.epoch !== epoch) this.set({ evidence: null });
  }

  /** The migration was aborted, and nothing of it is left on its target. */
  released(): void {
    this.silence();
    this.set({
      reached: true,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      stragglers: [],
    });
  }

  /** What keeps the step from going on. */
  problem(error: CleaveError): void {
    this.say("step", error);
  }

  #gist(): string {
    const { keptBytes: _told, lag, progress, reverseReplication = {}, ...rest } = this.#status;
    const within = lag === null ? undefined : this.#within(lag.amount);
    const back = Object.entries(reverseReplication).map(([podId, one]) => [
      podId,
      { ...one, lag: this.#within(one.lag.amount) },
    ]);
    const percent =
      progress === null ? null : Math.floor((100 * progress.done) / Math.max(1, progress.total));
    return JSON.stringify([rest, within, percent, back]);
  }

  #within(amount: number | null): boolean | null {
    return amount === null ? null : amount <= this.#lagBoundBytes;
  }
}
