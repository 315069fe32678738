/**
 * The agent's loop, one per Pod: folds the same log as the coordinator, compares what should be with what is,
 * and closes the difference (rule 2). It acts on the log alone; reports are only said, never needed.
 */
import {
  type ClusterState,
  emptyCluster,
  isUnderstood,
  type Migration,
  type Route,
  routeOf,
} from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import type { OwnProblem } from "../../protocol/evidence.ts";
import { nextFenceDeadlineAt } from "../../protocol/fence-deadline.ts";
import type { Epoch, MigrationId, OrganizationId, PodId, StoreName } from "../../protocol/ids.ts";
import { LogFollower } from "../../protocol/log-follower.ts";
import { mark } from "../../protocol/marks.ts";
import type { Report } from "../../protocol/messages.ts";
import { Pause } from "../../protocol/pause.ts";
import type { AgentFacts, AgentMemory } from "../../protocol/ports/agent-memory.ts";
import type { Blobs } from "../../protocol/ports/blobs.ts";
import type { Bus } from "../../protocol/ports/bus.ts";
import type { Checkpoints } from "../../protocol/ports/checkpoints.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { EventLog } from "../../protocol/ports/event-log.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";
import { fieldsOf } from "../../protocol/telemetry/log-fields.ts";
import { type Access, decideAccess } from "../domain/guard.ts";
import {
  AGENT_LOWERS_AFTER_MS,
  decideLowering,
  decideOpening,
  leaseEndMs,
  leaseWanted,
  mayForget,
  mayOpen,
  sourceIsSilent,
} from "../domain/own-decisions.ts";
import { checkedDuty, dutiesOf, isOpen } from "../domain/react.ts";
import { DurableFold } from "./durable-fold.ts";
import { PreflightRunner } from "./preflight-runner.ts";
import { ReadLease } from "./read-lease.ts";
import { composeReport } from "./report.ts";
import { Reporter } from "./reporter.ts";
import { StoreWorker } from "./store-worker.ts";

export interface AgentOptions {
  readonly podId: PodId;
  readonly software: string;
  readonly stores: readonly Store[];
  readonly log: EventLog;
  readonly bus: Bus;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly checkpoints: Checkpoints;
  readonly memory: AgentMemory;
  readonly logger: Logger;
  /** What is wrong with the Pod itself, as of now; a store's `onChange` tells that it may be another. Default: nothing. */
  readonly podProblems?: () => readonly OwnProblem[];
}

interface Participation {
  duty: Duty;
  readonly workers: Map<StoreName, StoreWorker>;
  /** Monotonic time at which this process folded the transfer. */
  transferSeenAt: number | null;
  opening: boolean;
  /** The epoch for which all stores were once open. */
  openSince: Epoch | null;
}

export class Agent {
  readonly #options: AgentOptions;
  readonly #self: PodId;
  readonly #follower: LogFollower;
  readonly #lease: ReadLease;
  readonly #preflight: PreflightRunner;
  readonly #reporter: Reporter;
  readonly #participations = new Map<MigrationId, Participation>();
  readonly #dormant = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  readonly #stopping = new AbortController();
  #facts: AgentFacts;
  /** Last sequence whose fold is on disk: an agent never speaks of what it could forget. */
  readonly #durable: DurableFold;
  #unsubscribe: (() => void)[] = [];
  readonly #deadlines: Pause;

  private constructor(options: AgentOptions, initial: ClusterState, facts: AgentFacts) {
    this.#options = options;
    this.#self = options.podId;
    this.#facts = facts;
    this.#deadlines = new Pause(options.clock);
    this.#durable = new DurableFold({
      ...options,
      // A fold with gaps is not what this process will stand on.
      sequence: isUnderstood(initial) ? initial.sequence : 0,
      newest: () => this.#follower.state,
      onSaved: () => this.#changed(),
    });
    const onFold = (state: ClusterState, record: ReadRecord, sequence: number) =>
      this.#onFold(state, record, sequence);
    this.#follower = new LogFollower(options, `agent:${options.podId}`, onFold, initial);
    this.#lease = new ReadLease(options.log, options.clock, this.#follower);
    const changed = () => this.#changed();
    const dutyFor = (migration: Migration) =>
      checkedDuty(this.#follower.state, migration, this.#self, this.#follower.assignmentsOf);
    this.#preflight = new PreflightRunner(this.#self, options.stores, options.clock, dutyFor, changed);
    this.#reporter = new Reporter(options.clock, (reportSequence) =>
      options.bus.publishReport(this.#report(reportSequence)),
    );
  }

  /** Makes the next incarnation durable before anything is said under it. */
  static async create(options: AgentOptions): Promise<Agent> {
    const [checkpoint, before] = await Promise.all([options.checkpoints.load(), options.memory.load()]);
    const facts = {
      incarnation: Math.max((before?.incarnation ?? 0) + 1, options.clock.now()),
      released: before?.released ?? [],
    };
    await options.memory.save(facts);
    return new Agent(options, checkpoint ?? emptyCluster, facts);
  }

  /** Resolves when the log is folded and work has begun. The guard's answers are valid before that, from the checkpoint. */
  async start(): Promise<void> {
    const { bus, stores } = this.#options;
    for (const store of stores) this.#unsubscribe.push(store.onChange(() => this.#changed()));
    this.#unsubscribe.push(
      bus.onReport(
        (report) => this.#hear(report),
        () => undefined,
      ),
    );
    // A checkpoint is a prefix of the log, and duties of a prefix are safe: without NATS an open Pod stays open, a
    // fence stays up, and nothing new is decided.
    await this.#follower.load();
    if (this.#follower.state.sequence > 0) this.#update();
    await this.#follower.start();
    this.#durable.save();
    this.#update();
    this.#reporter.start();
    void this.#watchDeadlines();
  }

  /** Leaves every store as it is: a stopped agent changes nothing. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#deadlines.wake();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#lease.keep(null);
    this.#preflight.stop();
    this.#reporter.stop();
    await this.#follower.stop();
    for (const { workers } of this.#participations.values())
      await Promise.all([...workers.values()].map((worker) => worker.stop()));
    await Promise.all(this.#options.stores.map((store) => store.close()));
    await this.#durable.stop();
  }

  access(organizationId: OrganizationId | null, write: boolean): Access {
    // Before the assignments are loaded this agent does not know whose anything is.
    if (!this.#follower.ready) return { outcome: "unknownIdentity" };
    const local = {
      self: this.#self,
      openedHere: (id: MigrationId) => this.#isOpenHere(id),
      leaseValid: this.#lease.valid(),
      now: this.#options.clock.now(),
    };
    return decideAccess(this.#follower.state, local, { organizationId, write }, this.#follower.assignmentsOf);
  }

  route(organizationId: OrganizationId): Route | null {
    if (!this.#follower.ready) return null;
    return routeOf(this.#follower.state, organizationId, this.#follower.assignmentsOf);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All stores of this Pod enforce that its own share is open; what other targets do later does not close it. */
  #isOpenHere(migrationId: MigrationId): boolean {
    const part = this.#participations.get(migrationId);
    return part !== undefined && isOpen(part.duty, part.openSince);
  }

  #allReached(part: Participation): boolean {
    return this.#options.stores.every(
      (store) => part.workers.get(store.name)?.hasReached(part.duty) ?? false,
    );
  }

  #onFold(state: ClusterState, record: ReadRecord, sequence: number): void {
    for (const event of record.events)
      this.#options.logger.info({ sequence, by: record.by, type: event.type, ...fieldsOf(event) }, "folded");
    // In parallel with the work that follows: only the report waits for the disk.
    this.#durable.save();
    if (state.sequence === sequence) this.#update();
  }

  #update(): void {
    if (this.#stopping.signal.aborted) return;
    const { state } = this.#follower;
    const { assignmentsOf } = this.#follower;
    const newest = () => this.#follower.state;
    const duties = dutiesOf(state, this.#self, assignmentsOf, new Set(this.#facts.released), newest);
    for (const duty of duties) this.#assign(duty);
    for (const [migrationId, part] of this.#participations)
      if (state.migrations[migrationId]?.lifecycle === "completed") void this.#leave(migrationId, part);
    // Held ready before the fence goes up, so that reads go on without a gap.
    this.#lease.keep(leaseWanted(state, this.#self));
    this.#preflight.update(state);
    this.#reporter.urgent = duties.some(
      (duty) => duty.goal === "fence" || duty.goal === "match" || duty.goal === "activate",
    );
    this.#deadlines.wake();
    this.#changed();
  }

  #assign(duty: Duty): void {
    const { clock, logger, stores } = this.#options;
    const part = this.#participations.get(duty.migrationId);
    const transferred = Object.values(duty.shares).some(
      (phase) => phase === "transferred" || phase === "opened",
    );
    if (part) {
      part.duty = duty;
      part.transferSeenAt ??= transferred ? clock.monotonic() : null;
      for (const worker of part.workers.values()) worker.assign(duty);
      return;
    }
    const created: Participation = {
      duty,
      workers: new Map(),
      transferSeenAt: transferred ? clock.monotonic() : null,
      opening: false,
      openSince: null,
    };
    this.#participations.set(duty.migrationId, created);
    for (const store of stores)
      created.workers.set(store.name, new StoreWorker(store, duty, clock, logger, () => this.#changed()));
  }

  async #watchDeadlines(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#deadlines.look();
      const deadline = nextFenceDeadlineAt(this.#follower.state);
      const waitMs = deadline === null ? null : Math.max(0, deadline + AGENT_LOWERS_AFTER_MS - clock.now());
      await this.#deadlines.wait(waitMs);
      if (signal.aborted || deadline === null || clock.now() < deadline + AGENT_LOWERS_AFTER_MS) continue;
      try {
        await this.#follower.decideAndAppend((state, now) => decideLowering(state, this.#self, now));
      } catch (error) {
        logger.error({ err: error }, "the expired fence could not be lowered yet; only the log can lower it");
      }
      // Never busy while the log does not answer.
      await clock.sleep(100, signal).catch(() => undefined);
    }
  }

  #changed(): void {
    for (const part of this.#participations.values()) {
      if (part.duty.goal === "activate") void this.#open(part);
      if (part.duty.goal === "open" && this.#allReached(part)) part.openSince = part.duty.epoch;
      if (part.duty.goal === "release" && this.#allReached(part)) this.#forget(part).catch(() => undefined);
    }
    this.#reporter.now();
    for (const listener of this.#listeners) listener();
  }

  #hear(report: Report): void {
    for (const [migrationId, part] of Object.entries(report.migrations)) {
      const migration = this.#follower.state.migrations[migrationId as MigrationId];
      if (!migration || report.podId !== migration.sourcePodId) continue;
      this.#dormant.set(migrationId, Math.max(this.#dormant.get(migrationId) ?? 0, part.dormantEpoch));
    }
    for (const part of this.#participations.values())
      if (part.duty.goal === "activate") void this.#open(part);
  }

  /** Rule 7, in order: everything promoted and durable, the source silent, then `Opened`, and only then writable. */
  async #open(part: Participation): Promise<void> {
    if (part.opening || !this.#allReached(part) || part.transferSeenAt === null) return;
    const { migrationId } = part.duty;
    const migration = this.#follower.state.migrations[migrationId];
    // Being saved calls `#changed`.
    if (migration === undefined || !mayOpen(migration, this.#durable.sequence)) return;
    const epoch = part.duty.epoch as Epoch;
    part.opening = true;
    try {
      const { clock } = this.#options;
      const { readLeaseMs } = part.duty.settings.cutover;
      const silent = () =>
        sourceIsSilent(
          this.#dormant.get(migrationId) ?? 0,
          epoch,
          clock.monotonic() - (part.transferSeenAt ?? 0),
          readLeaseMs,
        );
      if (!silent()) {
        // The source's word arrives as a report and calls this again; the lease's end does not.
        void clock.sleep(leaseEndMs(readLeaseMs), this.#stopping.signal).then(
          () => this.#open(part),
          () => undefined,
        );
        return;
      }
      const opened = await this.#follower.decideAndAppend((state) =>
        decideOpening(state, migrationId, this.#self, epoch),
      );
      if (opened === null) mark("opening-came-too-late");
    } catch (error) {
      mark("opening-tried-again");
      this.#options.logger.error({ err: error }, "opening is not in the log yet; it is tried again");
      void this.#options.clock.sleep(100, this.#stopping.signal).then(
        () => this.#open(part),
        () => undefined,
      );
    } finally {
      part.opening = false;
    }
  }

  async #forget(part: Participation): Promise<void> {
    const { migrationId } = part.duty;
    const may = mayForget(this.#follower.state, this.#durable.sequence);
    if (!may || this.#facts.released.includes(migrationId)) return;
    this.#facts = { ...this.#facts, released: [...this.#facts.released, migrationId] };
    // A full disk, say: forgotten in memory alone, it would come back with a restart.
    const [yes, no] = [() => true, () => false];
    while (!(await this.#options.memory.save(this.#facts).then(yes, no))) {
      mark("forgetting-failed");
      await this.#options.clock.sleep(500, this.#stopping.signal);
    }
    mark("released");
    await this.#leave(migrationId, part);
    this.#update();
  }

  async #leave(migrationId: MigrationId, { workers }: Participation): Promise<void> {
    this.#participations.delete(migrationId);
    await Promise.all([...workers.values()].map((worker) => worker.stop()));
  }

  #report(reportSequence: number): Report {
    return composeReport({
      self: this.#self,
      state: this.#follower.state,
      durableSequence: this.#durable.sequence,
      incarnation: this.#facts.incarnation,
      reportSequence,
      at: this.#options.clock.now(),
      software: this.#options.software,
      problems: this.#options.podProblems?.() ?? [],
      storesOf: ({ migrationId }) => {
        const part = this.#participations.get(migrationId);
        if (!part) return null;
        return Object.fromEntries([...part.workers].map(([name, worker]) => [name, worker.status()]));
      },
      preflightOf: ({ migrationId }) => this.#preflight.result(migrationId),
    });
  }

  /** As far as this process has folded the log. */
  get state(): ClusterState {
    return this.#follower.state;
  }

  /** For health: everything that could be wrong with the agent itself. */
  health(): { readonly ready: boolean; readonly connected: boolean; readonly sequence: number } {
    const { ready, state } = this.#follower;
    return { ready, connected: this.#options.bus.connected(), sequence: state.sequence };
  }
}
