/** A move's target: copies the organizations' rows, follows, compares, and serves them; or removes them again. */
import { type CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Background } from "../background.ts";
import { epochOf, type PostgresStoreOptions, peerOf } from "../context.ts";
import { installGuard, removeGuard } from "../fence/install.ts";
import { waitsForOlder } from "../fence/older-transactions.ts";
import { waitsForLock } from "../fence/patience.ts";
import { isStaged, releaseRoutes, setShares, stageRoutes } from "../fence/staging.ts";
import { readSchema } from "../inventory/schema.ts";
import { removeDormant } from "../removal/remove.ts";
import { beginRemoval, enforceShares, settle } from "../removal/settle.ts";
import { forgetCopy } from "../replication/copy-journal.ts";
import { type Moving, planRemoval } from "../replication/moved-tables.ts";
import { ReverseReplicationKeeper } from "../reverse/keeper.ts";
import { requireArmed } from "../reverse/slot.ts";
import { lagBytes } from "../split/lineage.ts";
import { slotName } from "../split/slots.ts";
import type { StatusBoard } from "../status-board.ts";
import { type RemovingTarget, reachAsTarget } from "../target.ts";
import { SharedRows } from "../verification/references.ts";
import { Verifier } from "../verification/verifier.ts";
import { applySession, ensureApplyRole } from "./apply-role.ts";
import { Follower } from "./follower.ts";
import { matchRows, requireMatched } from "./match.ts";
import { PlanKeeper } from "./plan.ts";
import { requireWatched } from "./publication.ts";
import { dropOrigin, type MoveSeed, removeMoved, Seeding } from "./seed.ts";
import { TargetConnections } from "./target-connections.ts";

const LOOK_EVERY_MS = 250;
/** What the copy had begun, of neighbours' changes that it was about to pass over. */
const COPY_ENDS_WITHIN_MS = 2_000;

interface Following {
  readonly keeper: PlanKeeper;
  readonly shared: SharedRows;
  readonly follower: Follower;
  readonly verifier: Verifier;
}

export class MoveTarget implements RemovingTarget {
  readonly #options: PostgresStoreOptions;
  readonly #board: StatusBoard;
  readonly #connections: TargetConnections;
  #seeding: { readonly shape: string; readonly seeding: Seeding } | null = null;
  #following: Following | null = null;
  readonly #watch: Background;
  readonly #reverseReplication: ReverseReplicationKeeper;
  #duty: Duty;

  constructor(options: PostgresStoreOptions, board: StatusBoard, duty: Duty) {
    this.#options = options;
    this.#board = board;
    this.#duty = duty;
    this.#connections = new TargetConnections(options);
    this.#watch = new Background(options.clock, LOOK_EVERY_MS, () => this.#look());
    this.#reverseReplication = new ReverseReplicationKeeper(options, board);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    return reachAsTarget(this, this.#board, duty, signal);
  }

  /** Ends what waits for a server that does not answer. */
  cut(): void {
    this.#connections.cut();
    this.#reverseReplication.cut();
  }

  async close(): Promise<void> {
    await this.#stop();
    this.#connections.close();
    await this.#reverseReplication.close();
  }

  async follow(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#guard(duty, signal);
    const { verifier } = await this.#start(duty, signal);
    verifier.paused = false;
    if (duty.reverseReplication.includes(duty.podId)) await this.#reverseReplication.prepare(duty);
    this.#board.set({ evidence: null, reached: true, progress: null });
  }

  /** Before the first row comes, so that nobody else can write to the organizations here. */
  async #guard(duty: Duty, signal: AbortSignal): Promise<void> {
    const { ownership } = this.#options;
    const { migrationId, sourcePodId, defaultPodId, targetPodIds, assignments } = duty;
    await this.#connections.own.use(async (db) => {
      const onLocked = (what: string, who: readonly string[]) => this.#board.problem(waitsForLock(what, who));
      await installGuard(db, { ownership, defaultPodId, migrationId, signal, onWaiting: onLocked });
      await ensureApplyRole(db);
      const { reverseReplication } = duty;
      const onWaiting = (older: readonly string[]) => this.#board.problem(waitsForOlder(older));
      const staging = {
        migrationId,
        sourcePodId,
        defaultPodId,
        targetPodIds,
        assignments,
        reverseReplication,
      };
      await stageRoutes(db, { ...staging, logical: true }, { signal, onWaiting });
    });
  }

  async #start(duty: Duty, signal: AbortSignal): Promise<Following> {
    if (this.#following !== null) return this.#following;
    const options = this.#options;
    const source = peerOf(this.#options, duty);
    const slot = slotName(duty.migrationId, duty.podId);
    const session = applySession(duty.migrationId, duty.podId);
    const { migrationId, defaultPodId } = duty;
    const keeper = new PlanKeeper({
      options,
      source,
      migrationId,
      defaultPodId,
      organizations: organizationsOf(duty),
    });
    const first = await keeper.renew(signal);
    const seeding = this.#seedingOf({ options, source, board: this.#board, session }, duty, first.moving);
    await this.#connections.own.use((db) => seeding.run(db, signal));
    const { config, log } = options;
    const follower = new Follower({
      source,
      target: config,
      plan: async () => ({ ...(await keeper.renew()), changes: keeper }),
      slot,
      publication: slot,
      session,
      log,
    });
    follower.start();
    const shared = new SharedRows();
    const verifier = new Verifier({
      migrationId: duty.migrationId,
      source,
      target: config,
      plan: () => keeper.plan,
      suspects: keeper.suspects,
      // What the source has that is new comes by the stream.
      onStale: (side) => side === "target" && follower.renew(),
      repair: session,
      requireWatched: (db) => requireWatched(db, slot, options.ownership),
      shared,
      neighboursStay: true,
      setup: session.setup,
      applied: (lsn, until) => follower.reached(lsn, until),
      log,
      onChange: () => this.#tell(),
    });
    verifier.start();
    this.#following = { keeper, shared, follower, verifier };
    this.#watch.start();
    return this.#following;
  }

  #seedingOf(seed: MoveSeed, duty: Duty, moving: Moving): Seeding {
    // What was copied by another schema is copied anew.
    const shape = JSON.stringify(moving.tables.map(({ name, columns, key }) => [name, columns, key]));
    if (this.#seeding?.shape !== shape) {
      this.#seeding?.seeding.close();
      this.#seeding = { shape, seeding: new Seeding(seed, duty, moving) };
    }
    return this.#seeding.seeding;
  }

  async #stop(): Promise<void> {
    this.#seeding?.seeding.close();
    this.#seeding = null;
    const following = this.#following;
    this.#following = null;
    await this.#watch.stop();
    await Promise.all([following?.follower.stop(), following?.verifier.stop()]);
    following?.keeper.close();
    this.#board.silence();
  }

  /** Rule 5: the marker of this epoch was applied, and whatever was touched since the last comparison is equal. */
  async match(duty: Duty, signal: AbortSignal): Promise<void> {
    const epoch = epochOf(duty);
    this.#board.awaitEvidence(epoch);
    const following = await this.#start(duty, signal);
    following.verifier.paused = true;
    const { keeper, shared, follower } = following;
    const matching = () => ({ ...keeper.plan, shared });
    const evidence = await matchRows(this.#connections, duty, matching, () => follower, signal);
    this.#board.set({ evidence, reached: true });
  }

  /** Rule 7: closed still, and from here on to the copy as well. Needs nothing of the source, which may be dead by now. */
  async activate(duty: Duty): Promise<void> {
    const epoch = epochOf(duty);
    const { migrationId, podId, reverseReplication } = duty;
    await requireMatched(this.#connections.own, migrationId, epoch);
    // Nobody could tell later from where on what is written here has to flow back.
    if (reverseReplication.includes(podId))
      await this.#connections.own.use((db) => requireArmed(db, migrationId, podId));
    await this.#stop();
    await this.#connections.own.use((db) =>
      setShares(db, duty.migrationId, duty.shares, epoch, COPY_ENDS_WITHIN_MS),
    );
    this.#board.set({ reached: true, lag: null, verified: true });
  }

  async open(duty: Duty): Promise<void> {
    await this.#stop();
    await this.#connections.own.use((db) => enforceShares(db, duty));
    this.#board.set({ reached: true, lag: null, verified: true });
    // After the window; the source drops the slot. The origin goes with the way back.
    this.#reverseReplication.keep(duty);
  }

  /** Rule 10: what was opened stays; what was copied in vain, because the share went back, is removed. */
  async removeRows(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#stop();
    await this.#connections.own.use((db) => beginRemoval(db, duty));
    await this.#reverseReplication.end(duty, signal);
    await removeDormant({ options: this.#options, board: this.#board }, duty, signal);
    const slot = slotName(duty.migrationId, this.#options.podId);
    await this.#connections.own.use(async (db) => {
      // After the rows, for these prove whose they are.
      await forgetCopy(db, slot);
      await dropOrigin(db, slot);
      await settle(db, duty, signal);
    });
    this.#board.set({ reached: true, lag: null, verified: false, evidence: null, problems: [] });
  }

  /** The source need not be there for this. */
  async release(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#stop();
    const { podId } = this.#options;
    const phase = duty.shares[podId];
    invariant(phase === "source", `${podId} may be authoritative (${phase}), so nothing is removed`);
    const { migrationId } = duty;
    await this.#reverseReplication.end(duty, signal);
    await this.#connections.own.use(async (db) => {
      if (!(await isStaged(db, migrationId))) return;
      await setShares(db, migrationId, { [podId]: "source" } as Duty["shares"], duty.epoch);
      const schema = await readSchema(db);
      const moving = planRemoval(schema, this.#options.ownership, organizationsOf(duty));
      const session = applySession(migrationId, podId);
      await removeMoved({ options: this.#options, session }, duty, moving, db);
      signal.throwIfAborted();
      if (!(await releaseRoutes(db, migrationId)).guardNeeded)
        await removeGuard(db, {
          signal,
          onWaiting: (what, who) => this.#board.problem(waitsForLock(what, who)),
        });
    });
    this.#board.released();
  }

  /** How far behind, and what keeps it from going on. */
  async #look(): Promise<void> {
    const following = this.#following;
    if (following === null) return;
    try {
      const [row] = await this.#connections
        .source(this.#duty)
        .query<{ lsn: string }>("SELECT pg_catalog.pg_current_wal_flush_lsn()::text AS lsn");
      const { position } = following.follower;
      const amount =
        position === null || row === undefined ? null : lagBytes(position as never, row.lsn as never);
      this.#board.set({ lag: { amount, unit: "bytes" } });
      this.#tell();
      if (this.#duty.goal === "follow") await this.#reverseReplication.advance(this.#duty);
      await this.#connections.keepWarm();
      this.#board.say("watch", null);
    } catch (error) {
      this.#board.set({ lag: { amount: null, unit: "bytes" } });
      this.#board.say("watch", error as CleaveError);
    }
  }

  #tell(): void {
    const following = this.#following;
    if (following === null) return;
    const { follower, verifier } = following;
    const { verified, problems } = verifier.status(follower.problem);
    this.#board.set({ verified });
    this.#board.say("comparison", problems);
  }
}

function organizationsOf({ assignments, podId }: Duty) {
  return [...assignments].flatMap(([organization, target]) => (target === podId ? [organization] : []));
}
