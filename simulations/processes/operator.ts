/** The person: plans, starts, approves; sometimes aborts or revokes; plans again after a failure. */
import type { Coordinator } from "../../coordinator/loop/coordinator.ts";
import type { Migration } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { isOver, type Lifecycle } from "../../protocol/migration-machine.ts";
import { Plan } from "../../protocol/plan.ts";
import type { Incident, Scenario } from "../scenario.ts";
import { type Cluster, SOURCE } from "./cluster.ts";
import { RollbackOperator } from "./rollback-operator.ts";

const LOOK_MS = 350;
const MAX_PLANS = 12;
const PAUSED_MS = 900;
const MOST_CHECKS = 20;
const SAYS_SO = "the operator says so";
/** What a move says when it cannot go on, however often it is tried; a copy that differs is not repaired. */
const NEEDS_A_NEW_PLAN: ReadonlySet<string> = new Set([
  "MEMBERSHIP_CHANGED",
  "SCHEMA_DIFFERS",
  "CHANGE_NOT_APPLICABLE",
  "MISMATCH",
]);

export class Operator {
  readonly #cluster: Cluster;
  readonly #scenario: Scenario;
  readonly #fired = new Set<number>();
  #plans = 1;
  #checked = 0;
  #busy = 0;
  #turn = 0;
  #failedAt: number | null = null;
  #pausedAt: number | null = null;
  readonly #rollbacks: RollbackOperator | null;

  constructor(cluster: Cluster, scenario: Scenario) {
    this.#cluster = cluster;
    this.#scenario = scenario;
    const ask = (what: string, order: (coordinator: Coordinator) => Promise<unknown>) =>
      this.#ask(what, order);
    this.#rollbacks = scenario.reverseReplication
      ? new RollbackOperator(cluster, scenario.reverseReplication, ask)
      : null;
  }

  /** What the operator still wants beside the end of the newest plan, in words. */
  wants(): string[] {
    return this.#rollbacks?.wants() ?? [];
  }

  start(): void {
    this.#cluster.world.after(LOOK_MS, "operator", () => {
      this.#look();
      this.start();
    });
  }

  get migrationId(): MigrationId {
    return `${this.#scenario.move ? "move" : "split"}-${this.#plans}` as MigrationId;
  }

  appended(record: ReadRecord): void {
    this.#rollbacks?.appended(record);
    for (const event of record.events)
      this.#scenario.incidents.forEach((incident, i) => {
        if (incident.on !== event.type || this.#fired.has(i)) return;
        this.#fired.add(i);
        this.#cluster.world.after(incident.afterMs, "operator incident", () => {
          const { destinations } = this.#cluster;
          const podId = destinations[incident.target % destinations.length] as PodId;
          this.#ask(`${incident.command} ${podId}`, (coordinator) =>
            this.#orderOf(incident, podId, coordinator),
          );
        });
      });
  }

  #orderOf({ command }: Incident, podId: PodId, coordinator: Coordinator): Promise<unknown> {
    const { migrationId } = this;
    const by = "operator:sim";
    switch (command) {
      case "revoke":
      case "giveUp":
        return coordinator.command(migrationId, { type: command, podId, reason: SAYS_SO }, by);
      case "finalize":
        return coordinator.command(migrationId, { type: command, dryRun: false }, by);
      case "rollback":
        return coordinator.rollback(
          { of: migrationId, as: null, organizations: null, podId, approval: "auto", acceptLoss: null },
          by,
        );
      default:
        return coordinator.command(migrationId, { type: command, reason: SAYS_SO }, by);
    }
  }

  /** Level-triggered, as the rest: looks at the newest migration and does what it waits for. */
  #look(): void {
    const { world } = this.#cluster;
    if (this.#busy > world.now) return;
    const state = this.#reachable()?.state();
    if (!state || state.defaultPodId === null) return;
    const migration = state.migrations[this.migrationId];
    if (!migration) {
      this.#ask("plan", (coordinator) => {
        const plan = this.#plan();
        return coordinator.createPlan(plan, new Map(this.#assignments()), "operator:sim");
      });
      return;
    }
    const { lifecycle, context } = migration;
    const command = (type: "check" | "start" | "approve" | "resume") =>
      this.#ask(type, (coordinator) => coordinator.command(this.migrationId, { type }, "operator:sim"));
    const approvesEarly = this.#scenario.approvesEarly && lifecycle === "following";
    if (context.paused !== null) {
      this.#pausedAt ??= world.now;
      if (world.now - this.#pausedAt >= PAUSED_MS) command("resume");
      return;
    }
    this.#pausedAt = null;
    if (lifecycle === "planned") command(this.#checks(migration) ? "check" : "start");
    else if (approvesEarly && context.approvedBy === null) command("approve");
    else if (this.#isBeyondHelp(lifecycle)) this.#abort("a target can never catch up");
    else if (this.#waitsForNobody(migration)) this.#abort("a target is gone for good");
    else if (lifecycle === "ready" && context.approvedBy === null) {
      const { approval, attempts } = migration.settings.cutover;
      if (approval === "manual" || context.attempts >= attempts) command("approve");
    } else if (lifecycle === "retaining") {
      const coordinator = this.#reachable();
      if (this.#rollbacks === null || (coordinator && this.#rollbacks.look(coordinator, migration)))
        this.#finalize(migration);
    } else if (lifecycle === "aborted" || lifecycle === "refused") {
      this.#failedAt ??= world.now;
      if (world.now - this.#failedAt < 3_000 || this.#plans >= MAX_PLANS) return;
      this.#failedAt = null;
      this.#plans += 1;
    }
  }

  /** Before it starts a plan, and again while something speaks against it; not for ever. */
  #checks({ context }: Migration): boolean {
    const refused = context.findings.some(({ severity }) => severity === "error");
    const again = context.preflightSequence === 0 || (refused && this.#checked < MOST_CHECKS);
    if (!this.#scenario.checksFirst || !again) return false;
    this.#checked += 1;
    return true;
  }

  /** As often as it takes: what speaks against it in a cluster with faults passes. */
  #finalize({ context }: Migration): void {
    const { retention } = this.#scenario;
    if (!retention || context.removalCheck?.open) return;
    // The plan ends it once by itself; after that it is the operator's.
    if (retention.forMs !== null && !context.removalCheck) return;
    const dryRun = retention.dryRunFirst && context.removalCheck === null;
    const despiteReverseReplication = this.#scenario.reverseReplication?.finalizesDespite ?? false;
    this.#ask(dryRun ? "finalize (dry run)" : "finalize", (coordinator) =>
      coordinator.command(
        this.migrationId,
        { type: "finalize", dryRun, despiteReverseReplication },
        "operator:sim",
      ),
    );
  }

  /** What the program itself says that nothing but a new plan helps with. */
  #isBeyondHelp(lifecycle: Lifecycle): boolean {
    // Most of a run; and a status is much to compute.
    if (lifecycle === "retaining" || isOver(lifecycle)) return false;
    const status = this.#reachable()?.status();
    const migration = status?.migrations.find(({ migrationId }) => migrationId === this.migrationId);
    return (
      migration?.possibleCommands.includes("abort") === true &&
      migration.pods.some(({ stores }) =>
        Object.values(stores).some((store) =>
          store?.problems.some(
            ({ code, message }) =>
              message.includes("plan it again") || (migration.kind === "move" && NEEDS_A_NEW_PLAN.has(code)),
          ),
        ),
      )
    );
  }

  /** Of a target that does not come back, before anything is its own: after the transfer the program gives it back. */
  #waitsForNobody({ lifecycle, context }: Migration): boolean {
    if (isOver(lifecycle) || context.transfer !== null) return false;
    return context.targetPodIds.some((podId) => this.#cluster.outOfCore.has(podId));
  }

  /** Without those that would go to a Pod that is gone for good. */
  #assignments(): [OrganizationId, PodId][] {
    const all = [...this.#cluster.assignments] as [OrganizationId, PodId][];
    return all.filter(([, podId]) => !this.#cluster.outOfCore.has(podId));
  }

  #abort(reason: string): void {
    this.#ask("abort", (coordinator) =>
      coordinator.command(this.migrationId, { type: "abort", reason }, "operator:sim"),
    );
  }

  #plan(): Plan {
    const { settings, approval, lagBytes = 2_000, retention, reverseReplication } = this.#scenario;
    const { settlingMs, ...cutover } = settings;
    return Plan.parse({
      migration: this.migrationId,
      kind: this.#scenario.move ? "move" : "split",
      source: SOURCE,
      assignments: [...Map.groupBy(this.#assignments(), ([, podId]) => podId)].map(([pod, theirs]) => ({
        pod,
        organizations: theirs.map(([id]) => id),
      })),
      settings: {
        settlingMs,
        retention: {
          forMs: retention?.forMs ?? null,
          reverseReplication: reverseReplication ? "replicated" : "none",
        },
        walBudget: { bytes: reverseReplication?.walBudgetBytes ?? null },
        cutover: { approval, ...cutover },
        lagBounds: { postgresBytes: lagBytes },
      },
    });
  }

  #reachable(): Coordinator | null {
    const { servers, coordinators } = this.#cluster;
    this.#turn += 1;
    for (let i = 0; i < coordinators.length; i++) {
      const found = coordinators[(i + this.#turn) % coordinators.length];
      if (found?.current?.run.responsive && servers.network.connected("operator", found.id))
        return found.current.coordinator;
    }
    return null;
  }

  #ask(what: string, order: (coordinator: Coordinator) => Promise<unknown>): void {
    const { world } = this.#cluster;
    const coordinator = this.#reachable();
    if (!coordinator) return;
    this.#busy = world.now + 2_000;
    world.say("operator", what);
    order(coordinator).then(
      () => {
        this.#busy = 0;
      },
      (error: unknown) => {
        this.#busy = world.now + 500;
        world.say("operator", `${what} refused: ${error instanceof Error ? error.message : String(error)}`);
      },
    );
  }
}
