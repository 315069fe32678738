/** A source's part of one migration: guarded and replicated from, fenced, serving again or yielding. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { MigrationKind } from "../../../protocol/plan.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { Background } from "./background.ts";
import { forgetChecked, loadChecked } from "./checked-states.ts";
import { epochOf, type PostgresStoreOptions } from "./context.ts";
import { type CheckedState, readCheckedState } from "./fence/checked.ts";
import { installGuard, isGuarded, removeGuard, verifyGuard } from "./fence/install.ts";
import { waitsForOlder } from "./fence/older-transactions.ts";
import { waitsForLock } from "./fence/patience.ts";
import { raiseFence } from "./fence/raise.ts";
import { readSchemaGeneration } from "./fence/schema-journal.ts";
import {
  isStaged,
  releaseRoutes,
  returnRoutes,
  setShares,
  stageAtOnce,
  stageRoutes,
} from "./fence/staging.ts";
import { checkFenceable } from "./inventory/catalog-checks.ts";
import { dropPublication } from "./move/publication.ts";
import { logicalReplication } from "./move/replication.ts";
import { removeDormant } from "./removal/remove.ts";
import { beginRemoval, enforceShares, settle } from "./removal/settle.ts";
import { physicalReplication, type SourceReplication, slotsOf } from "./replication/source-replication.ts";
import type { Carriers } from "./reverse/carriers.ts";
import { endWriters, isBeyondFence, ofMigration, returnRevoked } from "./reverse/decided.ts";
import { rollbackReplication } from "./reverse/replication.ts";
import {
  connect,
  cutWhenAborted,
  type Database,
  discard,
  toPostgresError,
  WarmConnection,
} from "./server/connection.ts";
import { readPosition, type ServerPosition } from "./split/lineage.ts";
import { boundNumbers, layOutNumbers, numbersApart } from "./split/numbering.ts";
import { rehearseFence } from "./split/rehearsal.ts";
import { backPublication, readSlots, type SlotState } from "./split/slots.ts";
import type { StatusBoard } from "./status-board.ts";
import { type SourceSteps, takeSourceStep } from "./steps.ts";

const LOOK_EVERY_MS = 500;
/** Verifying the guard reads the catalog, so it is done less often. */
const VERIFY_EVERY_TURNS = 20;
const HANGS_AFTER_MS = 5_000;

const REPLICATIONS = {
  split: physicalReplication,
  move: logicalReplication,
  rollback: rollbackReplication,
} as const satisfies Record<MigrationKind, unknown>;

export class SourcePart implements SourceSteps {
  readonly #options: PostgresStoreOptions;
  readonly #board: StatusBoard;
  readonly #replication: SourceReplication;
  /** What flows back from this migration's targets. */
  readonly #carriers: Carriers;
  readonly #watch: Background;
  /** For what has to be quick: nothing slow is ever queued on it. */
  readonly #fast: WarmConnection;
  /** For looking at the server from time to time. */
  readonly #slow: WarmConnection;
  /** Fixed for the life of a connection: a primary changes its timeline only by being restarted. */
  #position: ServerPosition | null = null;
  /** Newest duty, for the watch. */
  #duty: Duty | null = null;
  #turns = 0;
  /** Of the schema, when the guard was last looked at whole. */
  #generation: number | null = null;
  /** The connection on which the fence was rehearsed. */
  #rehearsed: Database | null = null;

  constructor(options: PostgresStoreOptions, board: StatusBoard, kind: MigrationKind, carriers: Carriers) {
    this.#options = options;
    this.#replication = REPLICATIONS[kind](options.ownership);
    this.#board = board;
    this.#carriers = carriers;
    const { config, clock } = options;
    this.#fast = new WarmConnection(config, { applicationName: "cleave" }, (db) => this.#greet(db));
    this.#slow = new WarmConnection(config, {
      applicationName: "cleave-watch",
      queryTimeoutMs: HANGS_AFTER_MS,
    });
    this.#watch = new Background(clock, LOOK_EVERY_MS, (signal) => this.#turn(signal));
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    switch (duty.goal) {
      case "removeFiles":
        return this.yield(duty, signal);
      case "removeRows":
        return this.#removeRows(duty, signal);
      default:
        return takeSourceStep(this, duty, signal);
    }
  }

  /** Ends what waits for a server that does not answer. */
  cut(): void {
    this.#fast.reset();
    this.#slow.reset();
  }

  async close(): Promise<void> {
    this.#fast.close();
    this.#slow.close();
    this.#carriers.onChange = () => undefined;
    await this.#watch.stop();
  }

  /** Who the server is, once per connection, before anything is done on it. */
  async #greet(db: Database): Promise<void> {
    const { podId, config } = this.#options;
    const position = await readPosition(async (text) => (await db.query(text)).rows);
    if (position.clusterName !== podId)
      throw new CleaveError(
        "POSTGRES_IDENTITY",
        `the server on ${config.host}:${config.port} is ${position.clusterName || "nameless"}, not ${podId}`,
      );
    if (position.inRecovery)
      throw new CleaveError(
        "POSTGRES_UNREACHABLE",
        `the server on ${config.host}:${config.port} is a standby; the migration needs its primary`,
      );
    this.#position = position;
  }

  async serve(duty: Duty, signal: AbortSignal): Promise<void> {
    const { ownership } = this.#options;
    const { migrationId, sourcePodId, targetPodIds, defaultPodId } = duty;
    const lowering = duty.epoch !== null;
    const onWaiting = this.#onLocked;
    // A fence that was lowered in the log is lowered here before anything that takes longer.
    if (lowering) await this.#enforce(duty);
    await this.#apart(signal, async (db) => {
      // Installing locks every owned table for a moment, so it is done only when something is missing.
      const findings = (await isGuarded(db)) ? await verifyGuard(db, ownership) : null;
      signal.throwIfAborted();
      if (isIncomplete(findings))
        await installGuard(db, { ownership, defaultPodId, migrationId, signal, onWaiting });
      signal.throwIfAborted();
      // Before the routes, which wait for long transactions: the copies can be made meanwhile.
      await this.#replication.prepare(db, duty);
      signal.throwIfAborted();
      if (lowering) return;
      const { logical } = this.#replication;
      await stageRoutes(
        db,
        { ...duty, logical },
        { signal, onWaiting: (transactions) => this.#sayWaiting(transactions) },
      );
      if (duty.kind === "split" && duty.settings.numbering === "apart")
        await layOutNumbers(db, migrationId, sourcePodId, targetPodIds);
    });
    if (!lowering) await this.#enforce(duty);
    await this.#fast.use((db) => this.#rehearse(db, duty));
    this.#watch.start();
    this.#board.set({ reached: true, evidence: null, stragglers: [], verified: true, problems: [] });
  }

  readonly #onLocked = (what: string, who: readonly string[]): void =>
    this.#board.problem(waitsForLock(what, who));

  #sayWaiting(transactions: readonly string[]): void {
    this.#board.problem(waitsForOlder(transactions));
  }

  /** On a connection of its own: this takes as long as there are tables and organizations, and a fence must not wait for it. */
  async #apart<T>(signal: AbortSignal, work: (db: Database) => Promise<T>): Promise<T> {
    // First who the server is.
    await this.#fast.get();
    const db = await connect(this.#options.config, { applicationName: "cleave-prepare" });
    const cut = () => discard(db);
    try {
      return await cutWhenAborted(signal, cut, () => work(db));
    } finally {
      cut();
    }
  }

  async #enforce(duty: Duty): Promise<void> {
    await this.#fast.use((db) => enforceShares(db, duty));
  }

  /** Rule 4: fence, drain, and only then the position, which the marker is. */
  async fence(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, targetPodIds } = duty;
    const epoch = epochOf(duty);
    this.#board.set({ evidence: null, stragglers: [] });
    const graceMs = duty.settings.cutover.drainGraceMs;
    const checked = await this.#checked(duty);
    await this.#fast.use(async (db) => {
      // After a kill the fence of this epoch may be up already; raising it again changes nothing and waits for nobody new.
      const raised = await raiseFence(db, (work) => this.#slow.use(work), {
        migrationId,
        epoch,
        targetPodIds,
        graceMs,
        checked,
        signal,
      });
      this.#board.set({ stragglers: [...raised.stragglers] });
      const position = this.#position as ServerPosition;
      const { digest, details } = await this.#replication.evidence(db, duty, position, raised);
      const drainMs = Math.round(raised.drainMs * 10) / 10;
      this.#board.set({ reached: true, evidence: { epoch, digest, details: { ...details, drainMs } } });
    });
    this.#watch.start();
  }

  /** What the checks have looked at. What is not known to have been checked is checked now, before anybody has to wait. */
  async #checked({ migrationId }: Duty): Promise<CheckedState> {
    const { stateDirectory, ownership } = this.#options;
    const known = await loadChecked(stateDirectory, migrationId);
    if (known !== null) return known;
    return this.#slow.use(async (db) => {
      const state = await readCheckedState(db);
      const wrong = (await checkFenceable(db, ownership)).find(({ severity }) => severity === "error");
      if (state === null) throw new CleaveError("POSTGRES_GUARD_MISSING", "the write guard is not installed");
      if (wrong) throw new CleaveError("CHECKS_OUTDATED", `never checked before, and now: ${wrong.message}`);
      return state;
    });
  }

  async yield(duty: Duty, signal: AbortSignal): Promise<void> {
    const held = this.#carriers.held;
    if (duty.forced) await this.#refuse(duty, signal);
    await this.#enforce(duty);
    signal.throwIfAborted();
    await this.#flowBack(duty, held, signal);
    this.#board.set({ reached: true, stragglers: [] });
    this.#watch.start();
  }

  /** A rollback of this Pod's organizations was forced while it was lost: it begins with what a fence would have done. */
  async #refuse(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, targetPodIds } = duty;
    const raised = await this.#fast.use((db) => isBeyondFence(db, migrationId));
    if (raised) return;
    await this.#apart(signal, (db) => stageAtOnce(db, { ...duty, logical: true }, { signal }));
    const graceMs = duty.settings.cutover.drainGraceMs;
    const fence = { migrationId, epoch: epochOf(duty), targetPodIds, graceMs, signal };
    await this.#fast.use((db) => raiseFence(db, (work) => this.#slow.use(work), fence));
    // Those from before the routes were staged hold the lock of the migration before; what they wrote is lost either way.
    await this.#slow.use((db) => endWriters(db, ofMigration(duty)));
  }

  /** After the transfer: what targets change is applied to the copy here, for as long as there is a way back. */
  async #flowBack(duty: Duty, held: readonly MigrationId[], signal: AbortSignal): Promise<void> {
    if (duty.kind === "rollback") return;
    this.#carriers.onChange = () => this.#board.set({ reverseReplication: this.#carriers.status });
    const newlyHeld = () => this.#carriers.held.filter((rollback) => !held.includes(rollback));
    await this.#fast.use((db) => returnRevoked(db, duty, newlyHeld));
    signal.throwIfAborted();
    await this.#carriers.follow(duty, held);
    if (duty.reverseReplication.length > 0) return;
    await this.#fast.use(async (db) => {
      await this.#carriers.forget(db, duty);
      if (duty.kind === "split") await dropPublication(db, backPublication(duty.migrationId));
    });
  }

  /** Rule 10: what others opened is removed, and the migration leaves nothing but who is authoritative. */
  async #removeRows(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#watch.stop();
    await this.#fast.use((db) => beginRemoval(db, duty));
    await this.#flowBack(duty, this.#carriers.held, signal);
    // Before the rows, for a slot that nobody reads would keep the WAL of their removal.
    await this.#fast.use((db) => this.#replication.remove(db, duty, this.#options.clock, signal));
    await removeDormant({ options: this.#options, board: this.#board }, duty, signal);
    await this.#apart(signal, (db) => settle(db, duty, signal));
    await forgetChecked(this.#options.stateDirectory, duty.migrationId);
    this.#board.set({ reached: true, evidence: null, stragglers: [], verified: false, problems: [] });
  }

  /** Aborted: the source serves as before, and nothing of this migration is left. */
  async release(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, targetPodIds } = duty;
    void this.#watch.stop();
    await this.#fast.use(async (db) => {
      if (!(await isStaged(db, migrationId))) return;
      await setShares(
        db,
        migrationId,
        Object.fromEntries(targetPodIds.map((target) => [target, "source"])) as Duty["shares"],
        duty.epoch,
      );
    });
    await this.#watch.stop();
    await this.#fast.use((db) => this.#replication.remove(db, duty, this.#options.clock, signal));
    await this.#apart(signal, async (db) => {
      if (duty.kind === "split") await dropPublication(db, backPublication(migrationId));
      if (duty.of !== null) return await returnRoutes(db, migrationId, duty.of);
      // Organizations that an earlier migration moved away stay guarded.
      if ((await isGuarded(db)) && !(await releaseRoutes(db, migrationId)).guardNeeded)
        await removeGuard(db, { signal, onWaiting: this.#onLocked });
    });
    await forgetChecked(this.#options.stateDirectory, migrationId);
    this.#board.set({ reached: true, evidence: null, stragglers: [], verified: false, problems: [] });
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const duty = this.#duty;
    if (duty === null) return;
    try {
      const slots = await this.#slow.use((db) => readSlots(db, this.#replication.slots(duty)));
      this.#board.set({ keptBytes: Math.max(0, ...slots.map(({ keptBytes }) => keptBytes)) });
      if (duty.goal === "yield" || duty.goal === "removeFiles") return await this.#dropDecided(duty, slots);
      const lost = slots.filter((slot) => slot.walStatus === "lost").map((slot) => slot.name);
      const absent = this.#replication.missing(duty, slots);
      if (lost.length + absent.length > 0)
        throw new CleaveError(
          "POSTGRES_SETTING",
          `WAL that a target needs is gone (replication slots ${[...lost, ...absent].join(", ")}): raise max_slot_wal_keep_size, abort the migration and plan it again`,
        );
      // Also keeps the connection for the fence open.
      if (duty.goal === "serve" || duty.goal === "prepare") await this.#keepGuarded(duty, signal);
      this.#board.set({ verified: true });
      this.#board.say("watch", null);
    } catch (error) {
      if (signal.aborted) return;
      const problem = toPostgresError(error, `PostgreSQL of ${duty.podId}`);
      this.#options.log.warn({ code: problem.code, err: error }, problem.message);
      this.#board.set({ verified: false });
      this.#board.say("watch", problem);
    }
  }

  /** Promoted and revoked targets stream no more; their slots would keep the source's WAL for ever. */
  async #dropDecided(duty: Duty, slots: readonly SlotState[]): Promise<void> {
    if (duty.kind === "rollback") return void this.#watch.stop();
    const decided = duty.targetPodIds.filter((target) => duty.shares[target] !== "transferred");
    const part = { ...duty, targetPodIds: decided };
    if (numbersApart(duty)) await this.#slow.use((db) => boundNumbers(db, duty.migrationId, duty.podId));
    await this.#slow.use((db) =>
      this.#replication.remove(db, part, this.#options.clock, AbortSignal.timeout(30_000)),
    );
    this.#board.say("watch", null);
    const left = slots.filter((slot) => !slotsOf(part).includes(slot.name));
    if (left.length === 0) void this.#watch.stop();
  }

  async #rehearse(db: Database, duty: Duty): Promise<void> {
    if (this.#rehearsed === db) await db.query("SELECT 1");
    else await rehearseFence(db, duty.migrationId);
    this.#rehearsed = db;
  }

  async #keepGuarded(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#fast.use((db) => this.#rehearse(db, duty));
    this.#turns += 1;
    const generation = await this.#slow.use((db) => readSchemaGeneration(db));
    const changed = this.#generation !== generation;
    if (!changed && this.#turns % VERIFY_EVERY_TURNS !== 0) return;
    const { ownership } = this.#options;
    const { migrationId, defaultPodId } = duty;
    const findings = await this.#slow.use((db) => verifyGuard(db, ownership));
    if (isIncomplete(findings)) {
      // Says for whom it waits by itself when it has to give up.
      await this.#apart(signal, (db) => installGuard(db, { ownership, defaultPodId, migrationId, signal }));
      this.#options.log.warn({ findings }, "the guard was incomplete and has been installed again");
    }
    // After the guard: what its writers do is noted before it is streamed.
    const { renew } = this.#replication;
    if (changed && renew !== undefined) await this.#apart(signal, (db) => renew(db, duty));
    this.#generation = generation;
  }
}

function isIncomplete(findings: readonly Finding[] | null): boolean {
  return findings === null || findings.some((finding) => finding.severity === "error");
}
