/** PostgreSQL behind the store port, as agent/stores/postgres drives it: goal by goal. */
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { ModelStore } from "../store-base.ts";
import { slotName } from "./move-session.ts";
import { MoveTarget } from "./move-target.ts";
import { moveEvidence, readTouched } from "./move-verifier.ts";
import { checkPostgres, type PostgresStoreParts } from "./parts.ts";
import { reachRemoval } from "./removal.ts";
import type { PostgresServer } from "./server.ts";
import type { Change } from "./state.ts";

const QUERY_MS = 1_000;
const LOOK_EVERY_MS = 500;
const LAG_EVERY_MS = 250;
const TERMINATION_MS = 3_000;

export class ModelPostgresStore extends ModelStore {
  readonly name = "postgres";
  readonly #own: PostgresServer;
  readonly #parts: PostgresStoreParts;
  readonly #moves = new Map<string, MoveTarget>();

  constructor(parts: PostgresStoreParts) {
    super(parts.run);
    this.#parts = parts;
    this.#own = parts.own;
    this.failsUntil = parts.failsUntil;
  }

  protected check(duty: Duty, stage: CheckStage): Finding[] {
    return checkPostgres(this.#own, duty, stage);
  }

  /** The part that is a move's target; its background goes on between goals. */
  #moveTarget(duty: Duty): MoveTarget {
    const known = this.#moves.get(duty.migrationId);
    if (known) return known;
    const made = new MoveTarget({
      parts: this.#parts,
      set: (change) => this.set(duty, { goal: this.status(duty.migrationId)?.goal ?? duty.goal, ...change }),
      lent: {
        call: (what, timeoutMs, signal, start) => this.call(what, timeoutMs, signal, start),
        administer: (changes, signal) => this.#administer(changes, signal),
        setShares: (newest, signal) => this.#setShares(newest, signal),
      },
    });
    this.#moves.set(duty.migrationId, made);
    return made;
  }

  override async close(): Promise<void> {
    for (const target of this.#moves.values()) target.close();
    await super.close();
  }

  protected async towards(duty: Duty, signal: AbortSignal): Promise<void> {
    if (duty.goal === "removeFiles" || duty.goal === "removeRows") {
      const set = (change: Partial<StoreStatus>) => this.set(duty, change);
      const administer = (changes: readonly Change[]) => this.#administer(changes, signal);
      this.unwatch(duty);
      const enforce = () => this.#setShares(duty, signal);
      return reachRemoval({ parts: this.#parts, administer, enforce, set }, duty, signal);
    }
    if (duty.kind === "move" && duty.role === "target") return this.#moveTarget(duty).reach(duty, signal);
    switch (duty.goal) {
      case "prepare":
      case "serve":
        return this.#serve(duty, signal);
      case "fence":
        return this.#fence(duty, signal);
      case "yield":
        this.#own.requirePrimary("yield");
        await this.#setShares(duty, signal);
        this.set(duty, { reached: true, stragglers: [] });
        this.#watchSource(duty);
        return;
      case "seed":
      case "follow":
        return this.#follow(duty, signal);
      case "match":
        return this.#match(duty, signal);
      case "activate":
        return this.#activate(duty, signal);
      case "open":
        this.unwatch(duty);
        await this.#ensureRunning(signal);
        await this.#setShares(duty, signal);
        this.set(duty, { reached: true, lag: null, verified: true });
        return;
      case "release":
        return duty.role === "source" ? this.#releaseSource(duty, signal) : this.#releaseTarget(duty, signal);
    }
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
    const logical = duty.kind === "move";
    const kept = logical ? server.logical.publications : server.slots;
    for (const target of duty.targetPodIds) kept.add(slotName(duty.migrationId, target));
    if (!server.state.routes.has(duty.migrationId)) {
      const { migrationId, sourcePodId, assignments } = duty;
      for (const [other, staged] of server.state.routes)
        if ([...assignments.keys()].some((organization) => staged.assignments.has(organization)))
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

  #watchSource(duty: Duty): void {
    const server = this.#own;
    this.watch(duty, LOOK_EVERY_MS, () => {
      server.requirePrimary("watching");
      if (duty.goal === "yield") {
        for (const target of duty.targetPodIds)
          if (duty.shares[target] !== "transferred") this.#dropSlot(duty, target);
        this.set(duty, { problems: [] });
      } else {
        const lost = duty.targetPodIds.filter(
          (target) =>
            server.lostFor.has(target) ||
            server.logical.slots.get(slotName(duty.migrationId, target))?.lost === true,
        );
        const message = `WAL that ${lost.join(", ")} needs is gone: abort the migration and plan it again`;
        const problems = lost.length === 0 ? [] : [{ code: "POSTGRES_SETTING" as const, message }];
        this.set(duty, { problems, verified: true });
      }
    });
  }

  /** Rule 4: one message to the server, which goes on with it although the agent may die. */
  async #fence(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, epoch, targetPodIds } = duty;
    const server = this.#own;
    if (epoch === null) throw new CleaveError("INTERNAL", "the goal fence has no epoch");
    this.set(duty, { evidence: null, stragglers: [] });
    await this.run.clock.sleep(0.3, signal);
    server.requirePrimary("fence");
    const { clock } = this.run;
    const startedAt = clock.monotonic();
    const graceMs = duty.settings.cutover.drainGraceMs;
    const token = `${this.run.host.id}-${Math.floor(this.#parts.chance.next() * 1e9)}`;
    let outcome: { token: string } | Error | null = null;
    const { starts } = server;
    const fence = server.queueFence(migrationId, () => flip());
    const flip = () => {
      // The lock of flips: a change whose commit is on its way, though its agent may be gone, comes first.
      if (server.administering > 0) {
        this.run.world.after(0.5, `${server.podId} flip waits`, () => {
          if (server.starts === starts) flip();
        });
        return;
      }
      const shares = [...(server.state.shares.get(migrationId) ?? [])].filter(([target]) =>
        targetPodIds.includes(target as never),
      );
      const finish = (value: { token: string } | Error) => {
        server.leaveQueue(fence);
        outcome = value;
      };
      const late = shares.find(
        ([, share]) =>
          (share.epoch ?? 0) > epoch ||
          share.phase === "transferred" ||
          share.phase === "opened" ||
          // Each epoch is raised once: it may have been lowered while this waited for writers.
          (share.epoch === epoch && share.phase !== "fenced"),
      );
      if (late || shares.length !== targetPodIds.length) {
        finish(new CleaveError("COMMAND_NOT_POSSIBLE", "the fence comes too late or is not staged"));
        return;
      }
      const known = server.state.markers.get(`${migrationId}/${epoch}`);
      const isUp = shares.every(([, share]) => share.phase === "fenced" && share.epoch === epoch);
      if (isUp && known !== undefined) {
        finish({ token: known });
        return;
      }
      const phases = Object.fromEntries(targetPodIds.map((target) => [target, "fenced" as const]));
      const changes: Change[] = [
        { type: "shares", migrationId, epoch, phases },
        {
          type: "marker",
          migrationId,
          epoch,
          token,
          verified: server.state.verified.get(migrationId) ?? null,
        },
      ];
      server.administer(changes, () => finish({ token }));
    };
    let stragglers = 0;
    try {
      while (outcome === null) {
        await clock.sleep(outcome === null && stragglers === 0 ? 1.5 : 10, signal);
        if (server.starts !== starts) throw new CleaveError("POSTGRES_UNREACHABLE", "the server went away");
        const elapsedMs = clock.monotonic() - startedAt;
        if (outcome !== null || elapsedMs < graceMs) continue;
        stragglers += server.terminateHolders(migrationId);
        if (elapsedMs > graceMs + TERMINATION_MS)
          throw new CleaveError("DRAIN_INCOMPLETE", "still in flight");
      }
    } catch (error) {
      // The cancel reaches the server a moment later: the flip may have happened by then.
      this.run.world.after(1, `${server.podId} fence cancelled`, () => {
        if (!fence.held) server.leaveQueue(fence);
      });
      throw error;
    }
    const settled = outcome as { token: string } | Error;
    if (settled instanceof Error) throw settled;
    const verified = server.state.verifiedAt.get(`${migrationId}/${epoch}`) ?? null;
    const evidence = {
      epoch,
      digest:
        duty.kind === "move"
          ? moveEvidence(server, { ...settled, verified }, readTouched(server, migrationId, verified))
          : `${server.systemId}/${server.timeline}/${settled.token}`,
      details: { position: server.position },
    };
    const names = stragglers === 0 ? [] : [`terminated ${stragglers} transactions`];
    this.set(duty, { reached: true, evidence, stragglers: names });
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
    this.set(duty, { reached: true, lag: null, verified: true });
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
