/**
 * One process's copy of the cluster's state: reads the log in order, folds it, has every assignment at hand that
 * the state names, and appends decisions by compare-and-set (rule 1). Coordinator and agent both stand on it.
 */
import { type Assignments, type AssignmentsOf, decodeAssignments } from "./assignments.ts";
import { type ClusterState, emptyCluster, isUnderstood } from "./cluster.ts";
import { CleaveError } from "./errors.ts";
import type { ClusterEvent, ReadRecord } from "./events.ts";
import { evolve, isPlanned } from "./evolve.ts";
import type { Digest } from "./ids.ts";
import { mark } from "./marks.ts";
import type { Blobs } from "./ports/blobs.ts";
import type { Clock } from "./ports/clock.ts";
import type { EventLog, LogSubscription } from "./ports/event-log.ts";

export interface FollowerPorts {
  readonly log: EventLog;
  readonly blobs: Blobs;
  readonly clock: Clock;
}

export type OnFold = (state: ClusterState, record: ReadRecord, sequence: number) => void;

/** Pure; called again with the newer state after a conflict. What it throws is a refusal. */
export type Decide = (state: ClusterState, now: number) => readonly ClusterEvent[];

export class LogFollower {
  readonly #ports: FollowerPorts;
  readonly #actor: string;
  readonly #onFold: OnFold;
  readonly #assignments = new Map<Digest, Assignments>();
  readonly #waiters = new Set<{ readonly sequence: number; readonly resolve: () => void }>();
  #state: ClusterState;
  #subscription: LogSubscription | null = null;
  /** Appends of this process go one after another; others are held off by the log itself. */
  #appending: Promise<unknown> = Promise.resolve();
  #stopped = new AbortController();

  /** `actor` is written into every record; `initial` is a checkpoint, or nothing. */
  constructor(ports: FollowerPorts, actor: string, onFold: OnFold, initial: ClusterState = emptyCluster) {
    this.#ports = ports;
    this.#actor = actor;
    this.#onFold = onFold;
    this.#state = initial;
  }

  get state(): ClusterState {
    return this.#state;
  }

  readonly assignmentsOf: AssignmentsOf = (digest) => {
    const assignments = this.#assignments.get(digest);
    if (!assignments) throw new CleaveError("BLOB_CORRUPT", `the assignments ${digest} are not loaded`);
    return assignments;
  };

  /** Whether all assignments that the state names are loaded; false only before `start` on a checkpoint. */
  get ready(): boolean {
    return Object.values(this.#state.migrations).every((m) => this.#assignments.has(m.assignments.digest));
  }

  /** Makes assignments known that this process has just put, or kept beside its checkpoint. */
  keep(digest: Digest, assignments: Assignments): void {
    this.#assignments.set(digest, assignments);
  }

  /** Loads what the checkpoint names; resolves when it may be acted on, as on any prefix of the log. */
  async load(): Promise<void> {
    for (const migration of Object.values(this.#state.migrations)) {
      await this.#load(migration.assignments.digest);
    }
  }

  /** Subscribes and resolves when everything that was in the log at the time of the call is folded. */
  async start(): Promise<void> {
    await this.load();
    const last = await this.#lastSequence();
    if (last < this.#state.sequence) {
      throw new CleaveError(
        "LOG_CUT",
        `the log ends at ${last}, but this process has already folded ${this.#state.sequence}: this is another log, or it was cut`,
      );
    }
    if (!isUnderstood(this.#state)) await this.#foldAnew(last);
    this.#subscription = await this.#ports.log.subscribe(this.#state.sequence, (record, sequence) =>
      this.#fold(record, sequence),
    );
    await this.#folded(last);
  }

  /**
   * The checkpoint was made by a version that did not know an event, so it lacks what that event means. Whether this
   * version knows it or not: only the log can tell. Nobody sees the folds in between, for they are long past.
   */
  async #foldAnew(last: number): Promise<void> {
    mark("log-folded-anew");
    let state = emptyCluster;
    const done = Promise.withResolvers<void>();
    this.#stopped.signal.addEventListener("abort", () => done.reject(this.#stopped.signal.reason), {
      once: true,
    });
    const subscription = await this.#ports.log.subscribe(0, async (record, sequence) => {
      if (sequence !== state.sequence + 1 || sequence > last) return;
      for (const event of record.events) if (isPlanned(event)) await this.#load(event.assignments.digest);
      state = evolve(state, record, sequence);
      if (sequence === last) done.resolve();
    });
    await done.promise.finally(() => subscription.close());
    this.#state = state;
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CleaveError("COMMAND_NOT_POSSIBLE", "the process is stopping"));
    await this.#subscription?.close();
    for (const waiter of this.#waiters) waiter.resolve();
    this.#waiters.clear();
  }

  /**
   * Decides on the folded state and appends the events as one record; on a conflict it reads on, folds, and
   * decides again. Resolves with the folded sequence, or null when `decide` found nothing to do.
   * `by` is who decided, where that is not this process itself (an operator).
   * Whatever `decide` throws (a refusal) is thrown on, with nothing appended.
   */
  decideAndAppend(decide: Decide, by = this.#actor): Promise<number | null> {
    const turn = this.#appending.then(() => this.#decideAndAppend(decide, by));
    this.#appending = turn.catch(() => undefined);
    return turn;
  }

  async #decideAndAppend(decide: Decide, by: string): Promise<number | null> {
    for (;;) {
      this.#stopped.signal.throwIfAborted();
      const before = this.#state;
      const now = this.#ports.clock.now();
      const events = decide(before, now);
      if (events.length === 0) return null;
      const record = { v: 1 as const, at: now, by, events };
      try {
        const result = await this.#ports.log.append(record, before.sequence);
        if (result.outcome === "appended") {
          // Folded at once: the window must not wait for the record to come back. Its delivery is then skipped.
          await this.#fold(record, result.sequence);
          return result.sequence;
        }
        mark("append-conflict");
      } catch (error) {
        // It may have happened: what the log holds decides, after everything up to its end is folded.
        if (!(error instanceof CleaveError && error.code === "LOG_APPEND_UNKNOWN")) throw error;
        mark("append-unanswered");
      }
      await this.#readOn();
    }
  }

  /** Folds everything that the log holds now. */
  async #readOn(): Promise<void> {
    await this.#folded(await this.#lastSequence());
  }

  /** Asks until the log answers: without it there is nothing to decide on. */
  async #lastSequence(): Promise<number> {
    for (;;) {
      try {
        return await this.#ports.log.lastSequence();
      } catch {
        mark("log-asked-again");
        await this.#ports.clock.sleep(200, this.#stopped.signal);
      }
    }
  }

  #folded(sequence: number): Promise<void> {
    if (this.#state.sequence >= sequence) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.add({ sequence, resolve }));
  }

  async #fold(record: ReadRecord, sequence: number): Promise<void> {
    if (sequence <= this.#state.sequence) {
      mark("record-known-already");
      return;
    }
    for (const event of record.events) if (isPlanned(event)) await this.#load(event.assignments.digest);
    if (sequence <= this.#state.sequence) return;
    if (sequence !== this.#state.sequence + 1) {
      // Our own append overtook the subscription: what lies between is on its way and comes in order.
      await this.#folded(sequence - 1);
      if (sequence <= this.#state.sequence) return;
    }
    this.#state = evolve(this.#state, record, sequence);
    this.#onFold(this.#state, record, sequence);
    for (const waiter of this.#waiters) {
      if (waiter.sequence > sequence) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  async #load(digest: Digest): Promise<void> {
    for (let waitMs = 50; !this.#assignments.has(digest); waitMs = Math.min(waitMs * 2, 5_000)) {
      try {
        this.#assignments.set(digest, decodeAssignments(await this.#ports.blobs.get(digest), digest));
      } catch {
        // Without the assignments nothing may be folded: a state that cannot name its owners would be a guess.
        mark("assignments-asked-again");
        await this.#ports.clock.sleep(waitMs, this.#stopped.signal);
      }
    }
  }
}
