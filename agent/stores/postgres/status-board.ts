/** What a store knows about one migration, kept in memory and told to others when it matters. */
import type { CleaveError } from "../../../protocol/errors.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch } from "../../../protocol/ids.ts";

export class StatusBoard {
  readonly #onChange: () => void;
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

  /** A `reach` begins: nothing of the former goal counts as reached. */
  begin(goal: Goal): void {
    this.set({ goal, reached: false, problems: [] });
  }

  set(change: Partial<StoreStatus>): void {
    const before = this.#gist();
    this.#status = { ...this.#status, ...change };
    if (this.#gist() !== before) this.#onChange();
  }

  /** Evidence of another fence is none of this one. */
  awaitEvidence(epoch: Epoch): void {
    if (this.#status.evidence?.epoch !== epoch) this.set({ evidence: null });
  }

  /** The migration was aborted, and nothing of it is left on its target. */
  released(): void {
    this.set({
      reached: true,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      stragglers: [],
    });
  }

  problem(error: CleaveError): void {
    this.set({ problems: [{ code: error.code, message: error.message.slice(0, 2_000) }] });
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
