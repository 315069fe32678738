/**
 * The coordinator's loop: folds the log, listens to reports, decides, appends. It holds nothing that the log does
 * not, so any number may run at once: the log's compare-and-set lets one decision through (rule 1).
 */
import { type Assignments, digestOf, encodeAssignments } from "../../protocol/assignments.ts";
import { type ClusterState, emptyCluster, type Route, routeOf } from "../../protocol/cluster.ts";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import type { ClusterEvent, ReadRecord } from "../../protocol/events.ts";
import type { MigrationId, OrganizationId, PodId, StoreName } from "../../protocol/ids.ts";
import { LogFollower } from "../../protocol/log-follower.ts";
import { Pause } from "../../protocol/pause.ts";
import type { Plan } from "../../protocol/plan.ts";
import type { Blobs } from "../../protocol/ports/blobs.ts";
import type { Bus } from "../../protocol/ports/bus.ts";
import type { Checkpoints } from "../../protocol/ports/checkpoints.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { EventLog } from "../../protocol/ports/event-log.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import { fieldsOf } from "../../protocol/telemetry/log-fields.ts";
import { Organizations } from "../api/organizations.ts";
import type { CoordinatorService, StoredRecord } from "../api/ports.ts";
import { type Command, decideCommand, decidePlan, findMigration } from "../domain/commands.ts";
import { decideNext, nextDeadlineAt, observe } from "../domain/decide.ts";
import { accept, noObservations, type Observations } from "../domain/observations.ts";
import { noPaces, notePace, type Paces } from "../domain/pace.ts";
import { decideRollback, findRollback, type RollbackRequest } from "../domain/rollback.ts";
import { type ClusterStatus, clusterStatus } from "../domain/status.ts";

export interface CoordinatorOptions {
  /** Names this process in the log: `coordinator:<id>`. */
  readonly id: string;
  readonly log: EventLog;
  readonly bus: Bus;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly checkpoints: Checkpoints | null;
  readonly logger: Logger;
  readonly cluster: {
    readonly pods: readonly PodId[];
    readonly defaultPodId: PodId;
    readonly stores: readonly StoreName[];
  };
}

/** Bounded memory for `events`: the log holds decisions only, tens for each migration. */
const KEPT_RECORDS = 20_000;

export class Coordinator implements CoordinatorService {
  readonly #options: CoordinatorOptions;
  readonly #follower: LogFollower;
  readonly #organizations = new Organizations();
  readonly #records: StoredRecord[] = [];
  readonly #listeners = new Set<() => void>();
  #observations: Observations = noObservations;
  #paces: Paces = noPaces;
  #unsubscribe: () => void = () => undefined;
  readonly #pause: Pause;
  #stopping = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #started = false;

  private constructor(options: CoordinatorOptions, initial: ClusterState) {
    this.#options = options;
    this.#pause = new Pause(options.clock);
    const onFold = (_state: ClusterState, record: ReadRecord, sequence: number) =>
      this.#onFold(record, sequence);
    this.#follower = new LogFollower(options, `coordinator:${options.id}`, onFold, initial);
  }

  /** `events` then begin after the checkpoint; state and routes are whole. */
  static async create(options: CoordinatorOptions): Promise<Coordinator> {
    const checkpoint = await options.checkpoints?.load();
    return new Coordinator(options, checkpoint ?? emptyCluster);
  }

  /** Resolves when the log is folded and the cluster's configuration is in it; waits for NATS as long as it takes. */
  async start(): Promise<void> {
    const { bus, clock, logger } = this.#options;
    await this.#follower.start();
    await this.#follower.decideAndAppend((state) => this.#configuration(state));
    this.#unsubscribe = bus.onReport(
      (report) => {
        try {
          const now = clock.now();
          this.#observations = accept(this.#observations, this.#follower.state, report, now);
          this.#paces = notePace(this.#paces, report, now);
          this.#pause.wake();
        } catch (error) {
          logger.warn({ code: toCleaveError(error).code, pod: report.podId }, toCleaveError(error).message);
        }
      },
      (error) =>
        logger.warn(
          { code: toCleaveError(error, "MESSAGE_MALFORMED").code },
          `a report was ignored: ${error.message}`,
        ),
    );
    this.#started = true;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#stopping.abort();
    this.#pause.wake();
    await this.#follower.stop();
    await this.#loop;
    if (this.#started && this.#follower.state.sequence > 0)
      await this.#options.checkpoints?.save(this.#follower.state);
  }

  #configuration(state: ClusterState): ClusterEvent[] {
    const { pods, defaultPodId, stores } = this.#options.cluster;
    if (state.defaultPodId !== null && state.defaultPodId !== defaultPodId) {
      throw new CleaveError(
        "CONFIG_INVALID",
        `cluster.defaultPod is ${defaultPodId}, but the log says ${state.defaultPodId}`,
      );
    }
    // Pods are only ever added here: another coordinator's newer configuration must not be undone.
    const all = [...new Set([...state.pods, ...pods])];
    if (all.length === state.pods.length && state.defaultPodId !== null) return [];
    return [{ type: "ClusterConfigured", v: 1, pods: all, defaultPodId, stores: [...stores] }];
  }

  #onFold(record: ReadRecord, sequence: number): void {
    this.#records.push({ sequence, at: record.at, by: record.by, events: record.events });
    if (this.#records.length > KEPT_RECORDS) this.#records.splice(0, this.#records.length - KEPT_RECORDS);
    for (const event of record.events)
      this.#options.logger.info({ sequence, by: record.by, ...fieldsOf(event), event }, event.type);
    this.#pause.wake();
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#pause.look();
      try {
        const appended = await this.#follower.decideAndAppend((state, now) => {
          this.#observations = observe(state, this.#observations, now);
          return decideNext(state, this.#observations, now);
        });
        for (const listener of this.#listeners) listener();
        if (appended !== null) continue;
      } catch (error) {
        if (signal.aborted) return;
        logger.error({ err: error }, "deciding failed; it is tried again");
        await clock.sleep(500, signal).catch(() => undefined);
        continue;
      }
      const deadline = nextDeadlineAt(this.#follower.state, this.#observations);
      // Once a second at the latest: an agent's silence is noticed by nothing but time.
      const waitMs = Math.min(1_000, deadline === null ? 1_000 : Math.max(1, deadline - clock.now()));
      await this.#pause.wait(waitMs);
    }
  }

  async createPlan(plan: Plan, assignments: Assignments, by: string): Promise<{ migrationId: MigrationId }> {
    const bytes = encodeAssignments(assignments);
    const digest = digestOf(bytes);
    // The blob is there before the event that names it.
    await this.#options.blobs.put(bytes);
    this.#follower.keep(digest, assignments);
    await this.#append(by, (state) =>
      decidePlan(state, plan, assignments, digest, this.#follower.assignmentsOf),
    );
    return { migrationId: plan.migration };
  }

  async rollback(request: RollbackRequest, by: string): Promise<{ migrationId: MigrationId }> {
    const { assignmentsOf } = this.#follower;
    // What goes back may change until it is decided: then it is found anew, since its digest is named in the event.
    for (;;) {
      const { assignments, migrationId } = findRollback(this.#follower.state, request, assignmentsOf);
      const bytes = encodeAssignments(assignments);
      const digest = digestOf(bytes);
      await this.#options.blobs.put(bytes);
      this.#follower.keep(digest, assignments);
      let changed = false;
      await this.#append(by, (state) => {
        const now = findRollback(state, request, assignmentsOf);
        changed = now.migrationId !== migrationId || digestOf(encodeAssignments(now.assignments)) !== digest;
        return changed ? [] : decideRollback(state, request, digest, assignmentsOf);
      });
      if (!changed) return { migrationId };
    }
  }

  async command(migrationId: MigrationId, command: Command, by: string): Promise<void> {
    await this.#append(by, (state) =>
      decideCommand(state, migrationId, command, this.#follower.assignmentsOf),
    );
  }

  async #append(by: string, decide: (state: ClusterState) => readonly ClusterEvent[]): Promise<void> {
    await this.#follower.decideAndAppend(decide, by);
  }

  state(): ClusterState {
    return this.#follower.state;
  }

  status(): ClusterStatus {
    const { bus, clock } = this.#options;
    const { state } = this.#follower;
    return clusterStatus(state, this.#observations, this.#paces, bus.connected(), clock.now());
  }

  route(organizationId: OrganizationId): Route | null {
    return routeOf(this.#follower.state, organizationId, this.#follower.assignmentsOf);
  }

  routes: CoordinatorService["routes"] = (after, limit) => {
    const { state, assignmentsOf } = this.#follower;
    return this.#organizations.routes(state, assignmentsOf, after, limit);
  };

  organizations: CoordinatorService["organizations"] = async (migrationId, page) => {
    const { state, assignmentsOf } = this.#follower;
    const migration = findMigration(state, migrationId);
    return this.#organizations.ofMigration(state, migration, assignmentsOf, page);
  };

  events(afterSequence: number, limit: number): readonly StoredRecord[] {
    return this.#records.filter((record) => record.sequence > afterSequence).slice(0, limit);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
