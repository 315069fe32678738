/** PostgreSQL behind the store port, as agent/stores/postgres drives it: goal by goal. */
import {
  type SourceSteps,
  type TargetSteps,
  takeSourceStep,
  takeTargetStep,
} from "../../../agent/stores/postgres/steps.ts";
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { ModelStore } from "../store-base.ts";
import { keepBackSlot, keptBytes } from "./back-slot.ts";
import { fence } from "./fence.ts";
import { guardAndStage, MoveTarget } from "./move-target.ts";
import { checkPostgres, type PostgresStoreParts } from "./parts.ts";
import { reachRemoval } from "./removal.ts";
import { ReverseReplications } from "./reverse-replication.ts";
import { RollbackTarget } from "./rollback-target.ts";
import type { PostgresServer } from "./server.ts";
import { backSlotName, slotName } from "./slot-names.ts";
import type { Change } from "./state.ts";

const QUERY_MS = 1_000;
const LOOK_EVERY_MS = 500;
const LAG_EVERY_MS = 250;

export class ModelPostgresStore extends ModelStore {
  readonly name = "postgres";
  readonly #own: PostgresServer;
  readonly #parts: PostgresStoreParts;
  /** Parts that are targets; their background goes on between goals. */
  readonly #targets = new Map<string, MoveTarget | RollbackTarget>();
  readonly #ways: ReverseReplications;

  readonly #asSource: SourceSteps = {
    serve: (duty, signal) => this.#serve(duty, signal),
    fence: (duty, signal) => this.#fence(duty, signal),
    yield: (duty, signal) => this.#yield(duty, signal),
    release: (duty, signal) => this.#releaseSource(duty, signal),
  };
  /** Of a split. */
  readonly #asTarget: TargetSteps = {
    follow: (duty, signal) => this.#follow(duty, signal),
    match: (duty, signal) => this.#match(duty, signal),
    activate: (duty, signal) => this.#activate(duty, signal),
    open: (duty, signal) => this.#open(duty, signal),
    release: (duty, signal) => this.#releaseTarget(duty, signal),
  };

  constructor(parts: PostgresStoreParts) {
    super(parts.run);
    this.#parts = parts;
    this.#own = parts.own;
    this.failsUntil = parts.failsUntil;
    this.#ways = new ReverseReplications(parts, this.#lent);
  }

  protected check(duty: Duty, stage: CheckStage): Finding[] {
    return checkPostgres(this.#own, duty, stage);
  }

  get #lent() {
    const lent = {
      call: <T>(what: string, ms: number, signal: AbortSignal, start: (done: (value: T) => void) => void) =>
        this.call(what, ms, signal, start),
      administer: (changes: readonly Change[], signal: AbortSignal) => this.#administer(changes, signal),
      setShares: (duty: Duty, signal: AbortSignal) => this.#setShares(duty, signal),
      stage: (duty: Duty, signal: AbortSignal): Promise<void> =>
        guardAndStage(this.#parts, lent, duty, signal),
    };
    return lent;
  }

  #target(duty: Duty): MoveTarget | RollbackTarget {
    const known = this.#targets.get(duty.migrationId);
    if (known) return known;
    const options = {
      parts: this.#parts,
      set: (change: Partial<StoreStatus>) =>
        this.set(duty, { goal: this.status(duty.migrationId)?.goal ?? duty.goal, ...change }),
      lent: this.#lent,
      ways: this.#ways,
    };
    const made = duty.kind === "move" ? new MoveTarget(options) : new RollbackTarget(options);
    this.#targets.set(duty.migrationId, made);
    return made;
  }

  override async close(): Promise<void> {
    for (const target of this.#targets.values()) target.close();
    this.#ways.close();
    await super.close();
  }

  protected async towards(duty: Duty, signal: AbortSignal): Promise<void> {
    if (duty.goal === "removeFiles" || duty.goal === "removeRows") {
      const set = (change: Partial<StoreStatus>) => this.set(duty, change);
      const administer = (changes: readonly Change[]) => this.#administer(changes, signal);
      this.unwatch(duty);
      const enforce = () => this.#setShares(duty, signal);
      const takeDown = () =>
        duty.role === "source" ? this.#ways.keep(duty, signal) : keepBackSlot(this.#parts, duty, signal);
      return reachRemoval({ parts: this.#parts, administer, enforce, takeDown, set }, duty, signal);
    }
    if (duty.kind !== "split" && duty.role === "target") {
      await this.#target(duty).reach(duty, signal);
      if (duty.goal === "open") this.#watchOpen(duty);
      return;
    }
    if (duty.role === "source") await takeSourceStep(this.#asSource, duty, signal);
    else await takeTargetStep(this.#asTarget, duty, signal);
  }

  // Source ------------------------------------------------------------------------------------------------------

  async #serve(duty: Duty, signal: AbortSignal): Promise<void> {
    const server = this.#own;
    const lowering = duty.epoch !== null;
    await this.run.clock.sleep(2, signal);
    server.requirePrimary(duty.goal);
    if (lowering) await this.#setShares(duty, signal);
    if (!server.guarded) {
      await this.run.clock.sleep(30, signal);
      server.requirePrimary("installing the guard");
      server.guarded = true;
    }
    const logical = duty.kind !== "split";
    const kept = logical ? server.logical.publications : server.slots;
    // A rollback has nothing to stream of its own.
    if (duty.kind !== "rollback")
      for (const target of duty.targetPodIds) kept.add(slotName(duty.migrationId, target));
    if (!server.state.routes.has(duty.migrationId)) {
      const { migrationId, sourcePodId, assignments } = duty;
      for (const [other, staged] of server.state.routes)
        if (
          other !== duty.of &&
          [...assignments.keys()].some((organization) => staged.assignments.has(organization))
        )
          throw new CleaveError("ORGANIZATION_CLAIMED", `organizations are staged for ${other}`);
      await this.#administer([{ type: "stage", migrationId, sourcePodId, assignments, logical }], signal);
    }
    // Older snapshots do not see the routes, so they must be over before any fence relies on them.
    const stagedAt = this.run.world.now;
    while (server.olderThan(stagedAt) && !lowering) {
      this.problem(
        duty,
        new CleaveError("DRAIN_INCOMPLETE", "waiting for transactions older than the routes"),
      );
      await this.run.clock.sleep(20, signal);
    }
    if (!lowering) await this.#setShares(duty, signal);
    this.#watchSource(duty);
    this.set(duty, { reached: true, evidence: null, stragglers: [], verified: true, problems: [] });
  }

  async #yield(duty: Duty, signal: AbortSignal): Promise<void> {
    const server = this.#own;
    server.requirePrimary("yield");
    if (duty.forced) {
      // It comes back although it was to be switched off: nobody is waited for.
      await guardAndStage(this.#parts, this.#lent, duty, signal);
      server.terminateHolders(duty.migrationId);
    }
    await this.#setShares(duty, signal);
    await this.#ways.keep(duty, signal);
    this.set(duty, { reached: true, stragglers: [] });
    this.#watchSource(duty);
  }

  #watchOpen(duty: Duty): void {
    this.unwatch(duty);
    const look = () => this.set(duty, { keptBytes: keptBytes(this.#own, duty) });
    if (duty.reverseReplication.includes(duty.podId)) this.watch(duty, LOOK_EVERY_MS, look);
    else look();
  }

  #watchSource(duty: Duty): void {
    const server = this.#own;
    this.watch(duty, LOOK_EVERY_MS, () => {
      server.requirePrimary("watching");
      if (duty.goal === "yield") {
        for (const target of duty.targetPodIds)
          if (duty.shares[target] !== "transferred") this.#dropSlot(duty, target);
        this.set(duty, { problems: [], reverseReplication: this.#ways.statusOf(duty.migrationId) ?? {} });
      } else {
        const lost = duty.targetPodIds.filter(
          (target) =>
            server.lostFor.has(target) ||
            server.logical.slots.get(slotName(duty.migrationId, target))?.lost === true ||
            server.logical.slots.get(backSlotName(duty.of ?? "", server.podId))?.lost === true,
        );
        const message = `WAL that ${lost.join(", ")} needs is gone: abort the migration and plan it again`;
        const problems = lost.length === 0 ? [] : [{ code: "POSTGRES_SETTING" as const, message }];
        this.set(duty, { problems, verified: true });
      }
    });
  }

  async #fence(duty: Duty, signal: AbortSignal): Promise<void> {
    this.set(duty, { evidence: null, stragglers: [] });
    const found = await fence(this.#parts, duty, signal);
    this.set(duty, { reached: true, ...found });
    this.#watchSource(duty);
  }

  async #releaseSource(duty: Duty, signal: AbortSignal): Promise<void> {
    const server = this.#own;
    this.unwatch(duty);
    await this.run.clock.sleep(1, signal);
    server.requirePrimary("release");
    // Takes the lock that a staging holds until it is committed, though its agent was cut off from it.
    while (server.administering > 0) await this.run.clock.sleep(1, signal);
    if (server.state.routes.has(duty.migrationId)) {
      await this.#setShares(duty, signal, "source");
      await this.#administer([{ type: "unstage", migrationId: duty.migrationId }], signal);
    }
    for (const target of duty.targetPodIds) {
      this.#dropSlot(duty, target);
      server.lostFor.delete(target);
      server.logical.publications.delete(slotName(duty.migrationId, target));
    }
    this.set(duty, { reached: true, evidence: null, stragglers: [], verified: false, problems: [] });
  }

  #dropSlot(duty: Duty, target: string): void {
    this.#own.slots.delete(slotName(duty.migrationId, target));
    this.#own.logical.drop(slotName(duty.migrationId, target));
  }

  /** Takes nothing away from writers in flight: that is the fence's business alone. */
  async #setShares(duty: Duty, signal: AbortSignal, all?: "source"): Promise<void> {
    const server = this.#own;
    server.requirePrimary("shares");
    while (server.administering > 0) await this.run.clock.sleep(0.5, signal);
    const staged = server.state.shares.get(duty.migrationId);
    invariant(staged !== undefined, `no share of ${duty.migrationId} is staged in this database`);
    const wanted = Object.entries(duty.shares).map(([target, phase]) => [target, all ?? phase] as const);
    const changes = wanted.filter(([target, phase]) => {
      const share = staged.get(target);
      return share?.phase !== phase || (duty.epoch !== null && share.epoch !== duty.epoch);
    });
    if (changes.length === 0) return;
    const closes = changes.some(([target, phase]) => {
      const before = staged.get(target)?.phase;
      return before !== phase && (before === "source" || before === "opened");
    });
    if (closes && server.hasHolders(duty.migrationId))
      throw new CleaveError("DRAIN_INCOMPLETE", "writers are in flight; it is tried again");
    const { migrationId, epoch } = duty;
    const change: Change = { type: "shares", migrationId, epoch, phases: Object.fromEntries(changes) };
    // Only what takes something away asks for the writers' lock; the rest is an update of the shares' rows.
    await this.#administer([change], signal);
  }

  async #administer(changes: readonly Change[], signal: AbortSignal): Promise<void> {
    await this.call<void>("administration", QUERY_MS, signal, (done) => this.#own.administer(changes, done));
  }

  // Target ------------------------------------------------------------------------------------------------------

  async #follow(duty: Duty, signal: AbortSignal): Promise<void> {
    const own = this.#own;
    if (own.role === "absent" || own.role === "copying") await this.#copy(duty, signal);
    await this.#ensureRunning(signal);
    this.set(duty, { evidence: null });
    this.#watchTarget(duty);
    while (!own.streaming) await this.run.clock.sleep(20, signal);
    this.set(duty, { reached: true, progress: null });
  }

  async #copy(duty: Duty, signal: AbortSignal): Promise<void> {
    const own = this.#own;
    const source = this.#parts.serverOf(duty.sourcePodId);
    const reachable = () => source.up && this.#parts.network.connected(source.podId, own.podId);
    while (!reachable() || !source.slots.has(slotName(duty.migrationId, own.podId))) {
      this.problem(duty, new CleaveError("PEER_UNREACHABLE", "the source has not made the slot yet"));
      await this.run.clock.sleep(100, signal);
    }
    own.beginCopy();
    const steps = 5;
    for (let step = 0; step < steps; step++) {
      await this.run.clock.sleep(this.#parts.copyMs / steps, signal);
      if (!reachable()) throw new CleaveError("POSTGRES_UNREACHABLE", "the base backup broke off");
      this.set(duty, { progress: { done: step + 1, total: steps, unit: "bytes" } });
    }
    own.becomeStandbyOf(source);
  }

  #watchTarget(duty: Duty): void {
    const own = this.#own;
    const source = this.#parts.serverOf(duty.sourcePodId);
    this.watch(duty, LAG_EVERY_MS, () => {
      if (!own.up) own.start();
      const known = own.streaming;
      const amount = known ? Math.max(0, source.position - own.replayPosition) : null;
      this.set(duty, { lag: { amount, unit: "bytes" }, verified: known, problems: [] });
    });
  }

  async #ensureRunning(signal: AbortSignal): Promise<void> {
    const own = this.#own;
    if (own.role !== "standby" && own.role !== "primary")
      throw new CleaveError("POSTGRES_LINEAGE", "there is no complete copy of the source here");
    if (own.up) return;
    await this.run.clock.sleep(100, signal);
    own.start();
  }

  /** Rule 5: this very marker was replayed here. */
  async #match(duty: Duty, signal: AbortSignal): Promise<void> {
    const own = this.#own;
    const { epoch, migrationId } = duty;
    if (epoch === null) throw new CleaveError("INTERNAL", "the goal match has no epoch");
    if (this.status(migrationId)?.evidence?.epoch !== epoch) this.set(duty, { evidence: null });
    await this.#ensureRunning(signal);
    this.#watchTarget(duty);
    let token: string | undefined;
    for (;;) {
      token = own.up ? own.state.markers.get(`${migrationId}/${epoch}`) : undefined;
      if (token !== undefined) break;
      await this.run.clock.sleep(2, signal);
    }
    invariant(own.role === "standby", "a target was promoted before the transfer");
    const digest = `${own.systemId}/${own.timeline}/${token}`;
    this.set(duty, { reached: true, evidence: { epoch, digest, details: {} } });
  }

  async #activate(duty: Duty, signal: AbortSignal): Promise<void> {
    const own = this.#own;
    this.unwatch(duty);
    await this.#ensureRunning(signal);
    if (!own.state.markers.has(`${duty.migrationId}/${duty.epoch}`))
      throw new CleaveError("POSTGRES_LINEAGE", "the marker is not in this server's history");
    await this.call<void>("promotion", 20_000, signal, (done) => own.promote(done));
    await this.#setShares(duty, signal);
    await keepBackSlot(this.#parts, duty, signal);
    this.set(duty, { reached: true, lag: null, verified: true });
  }

  async #open(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#ensureRunning(signal);
    await this.#setShares(duty, signal);
    await keepBackSlot(this.#parts, duty, signal);
    this.set(duty, { reached: true, lag: null, verified: true });
    this.#watchOpen(duty);
  }

  async #releaseTarget(duty: Duty, signal: AbortSignal): Promise<void> {
    this.unwatch(duty);
    await this.run.clock.sleep(5, signal);
    if (this.#own.role !== "absent") {
      this.#parts.onRemoved();
      this.#own.remove();
    }
    this.set(duty, {
      reached: true,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      problems: [],
    });
  }
}
