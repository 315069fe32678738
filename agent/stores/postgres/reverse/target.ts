/**
 * A rollback's target: the Pod that the organizations once left. Its copy of them is there and is kept level by the
 * carriers of the migration before; here it is compared, matched, and served again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Background } from "../background.ts";
import { epochOf, type PostgresStoreOptions, peerOf } from "../context.ts";
import { waitsForOlder } from "../fence/older-transactions.ts";
import { isStaged, returnRoutes, setShares, stageAtOnce, stageRoutes } from "../fence/staging.ts";
import { type Matching, matchRows, requireMatched } from "../move/match.ts";
import type { Plan } from "../move/plan.ts";
import { requireWatched } from "../move/publication.ts";
import { TargetConnections } from "../move/target-connections.ts";
import { removeDormant } from "../removal/remove.ts";
import { beginRemoval, enforceShares, settle } from "../removal/settle.ts";
import { type Moving, movingOnly } from "../replication/moved-tables.ts";
import { Suspects } from "../replication/suspects.ts";
import { backPublication } from "../split/slots.ts";
import type { StatusBoard } from "../status-board.ts";
import { type RemovingTarget, reachAsTarget } from "../target.ts";
import { SharedRows } from "../verification/references.ts";
import { Verifier } from "../verification/verifier.ts";
import type { Carriers } from "./carriers.ts";
import { ofMigration } from "./decided.ts";
import { backSession } from "./session.ts";

const LOOK_EVERY_MS = 250;
/** What the carrier had begun, of others' changes. */
const CARRIER_ENDS_WITHIN_MS = 2_000;
const ASK_EVERY_MS = 20;

interface Comparing {
  /** What flows back goes by it, of these organizations alone. */
  readonly matching: () => Matching & Plan;
  readonly verifier: Verifier;
}

export class RollbackTarget implements RemovingTarget {
  readonly #options: PostgresStoreOptions;
  readonly #board: StatusBoard;
  readonly #carriers: Carriers;
  readonly #connections: TargetConnections;
  readonly #watch: Background;
  #comparing: Comparing | null = null;
  #duty: Duty;

  constructor(options: PostgresStoreOptions, board: StatusBoard, duty: Duty, carriers: Carriers) {
    this.#options = options;
    this.#board = board;
    this.#duty = duty;
    this.#carriers = carriers;
    this.#connections = new TargetConnections(options);
    this.#watch = new Background(options.clock, LOOK_EVERY_MS, () => this.#look());
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#duty = duty;
    return reachAsTarget(this, this.#board, duty, signal);
  }

  /** Ends what waits for a server that does not answer. */
  cut(): void {
    this.#connections.cut();
  }

  async close(): Promise<void> {
    await this.#stop();
    this.#connections.close();
  }

  async follow(duty: Duty, signal: AbortSignal): Promise<void> {
    const onWaiting = (older: readonly string[]) => this.#board.problem(waitsForOlder(older));
    await this.#connections.own.use((db) =>
      stageRoutes(db, { ...duty, logical: true }, { signal, onWaiting }),
    );
    const { verifier } = await this.#start(duty, signal);
    verifier.paused = false;
    this.#board.set({ evidence: null, reached: true, progress: null });
  }

  /** What flows back is the migration's own; here it is compared for these organizations alone, and more often. */
  async #start(duty: Duty, signal: AbortSignal): Promise<Comparing> {
    if (this.#comparing !== null) return this.#comparing;
    const { ownership, config, log } = this.#options;
    const { migrationId, sourcePodId, assignments } = duty;
    const of = ofMigration(duty);
    const keeperOf = () => this.#carriers.carrier(sourcePodId)?.keeper ?? null;
    while (keeperOf() === null) await sleep(ASK_EVERY_MS, undefined, { signal });
    const shared = new SharedRows();
    let known: { readonly of: Plan; readonly moving: Moving } | null = null;
    const matching = () => {
      // Begun again it has no plan for a moment.
      const of = keeperOf()?.plan ?? known?.of;
      invariant(of !== undefined, "there was a plan before");
      const isSame = known?.of.moving === of.moving;
      known = { of, moving: isSame && known ? known.moving : movingOnly(of.moving, [...assignments.keys()]) };
      return { ...of, moving: known.moving, shared };
    };
    const verifier = new Verifier({
      migrationId,
      source: peerOf(this.#options, duty),
      target: config,
      plan: matching,
      // What differs by a change of the schema is put right by what flows back, for all organizations.
      suspects: new Suspects(keeperOf()?.suspects),
      onStale: (side) => side === "target" && this.#carriers.carrier(sourcePodId)?.follower?.renew(),
      requireWatched: (db) => requireWatched(db, backPublication(of), ownership),
      shared,
      setup: backSession(of, sourcePodId, []).setup,
      applied: (lsn, until) => this.#carriers.reached(sourcePodId, lsn, until),
      log,
      onChange: () => this.#tell(),
    });
    verifier.start();
    this.#comparing = { matching, verifier };
    this.#watch.start();
    return this.#comparing;
  }

  async #stop(): Promise<void> {
    const comparing = this.#comparing;
    this.#comparing = null;
    await this.#watch.stop();
    await comparing?.verifier.stop();
    this.#board.silence();
  }

  /** Rule 5: the marker of this epoch flowed back, and whatever was touched since the last comparison is equal. */
  async match(duty: Duty, signal: AbortSignal): Promise<void> {
    const epoch = epochOf(duty);
    const { sourcePodId } = duty;
    this.#board.awaitEvidence(epoch);
    const comparing = await this.#start(duty, signal);
    comparing.verifier.paused = true;
    const streamOf = () => this.#carriers.carrier(sourcePodId)?.follower ?? null;
    const { matching } = comparing;
    const evidence = await matchRows(this.#connections, duty, matching, streamOf, signal);
    this.#board.set({ evidence, reached: true });
  }

  /**
   * Rule 7: closed still, and from here on to what flows back as well, until the rollback is decided. Needs nothing of the
   * source, which may be dead by now; where it is lost, nothing was matched either.
   */
  async activate(duty: Duty, signal: AbortSignal): Promise<void> {
    const epoch = epochOf(duty);
    const { migrationId, sourcePodId } = duty;
    const of = ofMigration(duty);
    // Nobody can have written to them here, so nobody is waited for.
    if (duty.forced)
      await this.#connections.own.use((db) => stageAtOnce(db, { ...duty, logical: true }, { signal }));
    else await requireMatched(this.#connections.own, migrationId, epoch);
    await Promise.all([this.#stop(), this.#carriers.hold({ migrationId, podId: sourcePodId })]);
    await this.#connections.own.use((db) =>
      setShares(db, migrationId, duty.shares, epoch, CARRIER_ENDS_WITHIN_MS, [of, migrationId]),
    );
    this.#board.set({ reached: true, lag: null, verified: true });
  }

  async open(duty: Duty): Promise<void> {
    await this.#stop();
    await this.#connections.own.use((db) => enforceShares(db, duty));
    this.#board.set({ reached: true, lag: null, verified: true });
  }

  /** Nothing is dormant here: what went back is served, and what did not is still the copy of the migration before. */
  async removeRows(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#stop();
    await this.#connections.own.use((db) => beginRemoval(db, duty));
    await removeDormant({ options: this.#options, board: this.#board }, duty, signal);
    await this.#connections.own.use((db) => settle(db, duty, signal));
    this.#board.set({ reached: true, lag: null, verified: false, evidence: null, problems: [] });
  }

  /** The copy stays, and so does what flows back to it: they are the migration's before. */
  async release(duty: Duty): Promise<void> {
    await this.#stop();
    const { podId } = this.#options;
    const { migrationId } = duty;
    const phase = duty.shares[podId];
    invariant(phase === "source", `${podId} may be authoritative (${phase})`);
    await this.#connections.own.use(async (db) => {
      if (!(await isStaged(db, migrationId))) return;
      await setShares(db, migrationId, { [podId]: "source" } as Duty["shares"], duty.epoch);
      await returnRoutes(db, migrationId, ofMigration(duty));
    });
    this.#board.released();
  }

  async #look(): Promise<void> {
    if (this.#comparing === null) return;
    this.#tell();
    // Kept open for the match and the opening.
    try {
      await Promise.all([
        this.#connections.keepWarm(),
        this.#connections.source(this.#duty).query("SELECT 1"),
      ]);
      this.#board.say("watch", null);
    } catch (error) {
      this.#board.say("watch", error as CleaveError);
    }
  }

  #tell(): void {
    const comparing = this.#comparing;
    if (comparing === null) return;
    const carrier = this.#carriers.carrier(this.#duty.sourcePodId);
    const { verified, problems } = comparing.verifier.status(carrier?.problem ?? null);
    this.#board.set({ lag: { amount: carrier?.lagBytes ?? null, unit: "bytes" }, verified });
    this.#board.say("comparison", problems);
  }
}
