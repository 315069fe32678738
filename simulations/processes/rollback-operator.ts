/** The person, while a migration retains: rolls organizations back, one step after another; gives a way back up. */
import type { Coordinator } from "../../coordinator/loop/coordinator.ts";
import { type Migration, reverseReplicationOf } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import type { PlannedRollback, ReverseReplicationScenario } from "../scenario-reverse-replication.ts";
import type { Cluster } from "./cluster.ts";

type Ask = (what: string, order: (coordinator: Coordinator) => Promise<unknown>) => void;

const BY = "operator:sim";
const AGAIN_AFTER_MS = 1_500;
/** From the loss of a Pod until somebody says that it is for ever. */
const CERTAIN_AFTER_MS = 1_500;

export class RollbackOperator {
  readonly #cluster: Cluster;
  readonly #scenario: ReverseReplicationScenario;
  readonly #ask: Ask;
  #since: number | null = null;
  /** The step that is being made, and its newest attempt. */
  #step = 0;
  #attempts = 0;
  #newest: MigrationId | null = null;
  #failedAt: number | null = null;
  #isAborted = false;
  #gaveUp = false;
  #lostAt: number | null = null;
  #isTakenOver = false;

  constructor(cluster: Cluster, scenario: ReverseReplicationScenario, ask: Ask) {
    this.#cluster = cluster;
    this.#scenario = scenario;
    this.#ask = ask;
  }

  /** Aborts the first attempt of a step where its scenario says so. */
  appended(record: ReadRecord): void {
    const { world } = this.#cluster;
    for (const event of record.events) {
      const abort = this.#scenario.rollbacks[this.#step]?.abort;
      if (!abort || this.#isAborted || event.type !== abort.on || !("migrationId" in event)) continue;
      if (event.migrationId !== this.#newest) continue;
      this.#isAborted = true;
      const { migrationId } = event;
      world.after(abort.afterMs, "operator aborts a rollback", () =>
        this.#ask(`abort ${migrationId}`, (coordinator) =>
          coordinator.command(migrationId, { type: "abort", reason: "the operator says so" }, BY),
        ),
      );
    }
  }

  wants(): string[] {
    const { rollbacks, lost } = this.#scenario;
    const wanted = rollbacks.slice(this.#step).map((_, i) => `rollback ${this.#step + i + 1} to succeed`);
    return lost !== null && !this.#isTakenOver ? [...wanted, "what a lost Pod had to be taken over"] : wanted;
  }

  /** Asked again and again while the migration retains. @returns whether nothing is left to do */
  look(coordinator: Coordinator, migration: Migration): boolean {
    const { world } = this.#cluster;
    this.#since ??= world.now;
    if (this.#scenario.lost !== null) return this.#lookAtLoss(coordinator, migration, this.#scenario.lost);
    if (this.#givesUp(coordinator, migration)) return false;
    const step = this.#scenario.rollbacks[this.#step];
    if (step === undefined) return true;
    if (this.#newest !== null) this.#drive(coordinator, step, this.#newest);
    else if (world.now - this.#since >= step.afterMs) this.#begin(coordinator, migration, step);
    return false;
  }

  #target(place: number): PodId {
    const { destinations } = this.#cluster;
    return destinations[place % destinations.length] as PodId;
  }

  #lookAtLoss(
    coordinator: Coordinator,
    { migrationId, context }: Migration,
    lost: NonNullable<ReverseReplicationScenario["lost"]>,
  ): boolean {
    const { world } = this.#cluster;
    const podId = this.#target(lost.target);
    if (context.shares[podId] !== "opened") {
      this.#isTakenOver = true;
      return true;
    }
    if (this.#lostAt === null) {
      if (world.now - (this.#since ?? 0) < lost.afterMs) return false;
      world.say("FAULT", `${podId} is lost for ever`);
      this.#cluster.pod(podId).lose();
      this.#lostAt = world.now;
    }
    const taking = `${migrationId}-lost` as MigrationId;
    const found = coordinator.state().migrations[taking];
    this.#isTakenOver = found?.lifecycle === "retaining";
    if (found !== undefined || world.now - this.#lostAt < CERTAIN_AFTER_MS) return this.#isTakenOver;
    const request = {
      of: migrationId,
      as: taking,
      organizations: null,
      podId,
      approval: "auto" as const,
      acceptLoss: "its machine burnt down",
    };
    this.#ask("take over from a lost Pod", (other) => other.rollback(request, BY));
    return false;
  }

  /** By its own will, and where the program says that nothing can flow back any more. @returns whether it asked */
  #givesUp(coordinator: Coordinator, migration: Migration): boolean {
    const { world } = this.#cluster;
    const { giveUp } = this.#scenario;
    const { migrationId } = migration;
    const kept = reverseReplicationOf(migration);
    const status = coordinator.status().migrations.find((other) => other.migrationId === migrationId);
    const gone = status?.reverseReplication.find(({ stores, givenUp }) => {
      const problem = stores.postgres?.problem?.message ?? "";
      return givenUp === null && problem.includes("is gone");
    });
    const isDue = giveUp !== null && !this.#gaveUp && world.now - (this.#since ?? 0) >= giveUp.afterMs;
    const podId = gone?.podId ?? (isDue ? this.#target(giveUp.target) : null);
    if (isDue) this.#gaveUp = true;
    if (podId === null || !kept.includes(podId)) return false;
    this.#ask(`give up reverse replication from ${podId}`, (other) =>
      other.command(migrationId, { type: "giveUp", podId, reason: "the operator says so" }, BY),
    );
    return true;
  }

  #begin(coordinator: Coordinator, migration: Migration, step: PlannedRollback): void {
    const podId = this.#target(step.target);
    const theirs = [...this.#cluster.assignments].flatMap(([id, at]) =>
      at === podId && coordinator.route(id as OrganizationId)?.podId === podId ? [id as OrganizationId] : [],
    );
    const { migrationId } = migration;
    const name = `${migrationId}-back-${this.#step + 1}-`;
    const as = `${name}${this.#attempts + 1}` as MigrationId;
    // Also an earlier one, which was given up for lost and was decided after all.
    const known = Object.values(coordinator.state().migrations).find(
      (other) => other.migrationId === as || (other.migrationId.startsWith(name) && !isOver(other.lifecycle)),
    );
    if (known !== undefined) {
      this.#newest = known.migrationId;
      return;
    }
    const flows =
      migration.context.shares[podId] === "opened" && reverseReplicationOf(migration).includes(podId);
    if (!flows || theirs.length === 0) {
      this.#next();
      return;
    }
    if (this.#failedAt !== null && this.#cluster.world.now - this.#failedAt < AGAIN_AFTER_MS) return;
    const organizations = step.organizations === null ? null : theirs.slice(0, step.organizations);
    const { approval } = step;
    const request = { of: migrationId, as, organizations, podId, approval, acceptLoss: null };
    // Also where no answer comes: it may have been decided.
    this.#newest = as;
    this.#ask(`roll ${organizations?.join(", ") ?? "all"} back from ${podId}`, (other) =>
      other.rollback(request, BY).catch((error: unknown) => {
        if (this.#newest === as) this.#newest = null;
        throw error;
      }),
    );
  }

  #next(): void {
    this.#step += 1;
    this.#attempts = 0;
    this.#newest = null;
    this.#failedAt = null;
    this.#isAborted = false;
    this.#since = this.#cluster.world.now;
  }

  #drive(coordinator: Coordinator, step: PlannedRollback, id: MigrationId): void {
    const rollback = coordinator.state().migrations[id];
    if (rollback === undefined) {
      // The answer was lost, and so was the order.
      this.#failedAt ??= this.#cluster.world.now;
      if (this.#cluster.world.now - this.#failedAt > 4 * AGAIN_AFTER_MS) this.#again();
      return;
    }
    const { lifecycle, context, settings } = rollback;
    const isOpened = Object.values(context.shares).includes("opened");
    if (lifecycle === "refused" || lifecycle === "aborted") this.#again();
    else if (lifecycle === "completed") {
      if (isOpened) this.#next();
      else this.#again();
    } else if (lifecycle === "retaining" && isOpened && !step.finalized) this.#next();
    else if (lifecycle === "retaining" && !context.removalCheck?.open)
      this.#ask(`finalize ${id}`, (other) => other.command(id, { type: "finalize", dryRun: false }, BY));
    else if (this.#isBeyondHelp(coordinator, id))
      this.#ask(`abort ${id}`, (other) =>
        other.command(id, { type: "abort", reason: "nothing can flow back any more" }, BY),
      );
    else if (lifecycle === "ready" && context.approvedBy === null) {
      const { approval, attempts } = settings.cutover;
      if (approval === "manual" || context.attempts >= attempts)
        this.#ask(`approve ${id}`, (other) => other.command(id, { type: "approve" }, BY));
    }
  }

  #again(): void {
    this.#attempts += 1;
    this.#newest = null;
    this.#failedAt = this.#cluster.world.now;
  }

  #isBeyondHelp(coordinator: Coordinator, id: MigrationId): boolean {
    const status = coordinator.status().migrations.find(({ migrationId }) => migrationId === id);
    return (
      status?.possibleCommands.includes("abort") === true &&
      status.pods.some(({ stores }) =>
        Object.values(stores).some((store) =>
          store?.problems.some(({ message }) => message.includes("is gone")),
        ),
      )
    );
  }
}
