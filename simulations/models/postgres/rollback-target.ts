/**
 * A rollback's target: the source of the migration that is rolled back. Nothing is copied: what flows back already is
 * compared, brings the marker of the rollback's fence, and is held from the transfer until it is known how that ended.
 */
import { type TargetSteps, takeTargetStep } from "../../../agent/stores/postgres/steps.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { MoveFollower } from "./move-follower.ts";
import { type Lent, MoveSession } from "./move-session.ts";
import { awaitMarker } from "./move-target.ts";
import { MoveVerifier, moveEvidence, readTouched } from "./move-verifier.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { ReverseReplication, ReverseReplications } from "./reverse-replication.ts";

const LOOK_EVERY_MS = 250;
const COPY_ENDS_WITHIN_MS = 2_000;

export interface RollbackTargetOptions {
  readonly parts: PostgresStoreParts;
  readonly lent: Lent & {
    setShares(duty: Duty, signal: AbortSignal): Promise<void>;
    stage(duty: Duty, signal: AbortSignal): Promise<void>;
  };
  readonly ways: ReverseReplications;
  readonly set: (change: Partial<StoreStatus>) => void;
}

interface Comparing {
  readonly follower: MoveFollower;
  readonly verifier: MoveVerifier;
  readonly stop: AbortController;
}

export class RollbackTarget implements TargetSteps {
  readonly #options: RollbackTargetOptions;
  #comparing: Comparing | null = null;

  constructor(options: RollbackTargetOptions) {
    this.#options = options;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#options.parts.own.requirePrimary(duty.goal);
    return takeTargetStep(this, duty, signal);
  }

  async follow(duty: Duty, signal: AbortSignal): Promise<void> {
    const { lent, set } = this.#options;
    await lent.stage(duty, signal);
    await lent.setShares(duty, signal);
    this.#compare(duty).verifier.paused = false;
    set({ evidence: null, reached: true, progress: null });
  }

  close(): void {
    this.#comparing?.stop.abort(new Error("closing"));
    this.#comparing?.verifier.stop();
    this.#comparing = null;
  }

  #way(duty: Duty): ReverseReplication {
    const way = this.#options.ways.of(duty.of, duty.sourcePodId);
    if (way === null) throw new CleaveError("PEER_UNREACHABLE", "nothing flows back yet");
    return way;
  }

  #compare(duty: Duty): Comparing {
    const { follower } = this.#way(duty);
    if (this.#comparing?.follower === follower) return this.#comparing;
    this.close();
    const { parts, lent } = this.#options;
    const session = new MoveSession(parts, lent, duty);
    const verifier = new MoveVerifier(session, follower, () => this.#tell(duty));
    const stop = new AbortController();
    this.#comparing = { follower, verifier, stop };
    verifier.start();
    void (async () => {
      while (!stop.signal.aborted) {
        this.#tell(duty);
        await parts.run.clock.sleep(LOOK_EVERY_MS, stop.signal).catch(() => undefined);
      }
    })();
    return this.#comparing;
  }

  #tell(duty: Duty): void {
    const way = this.#options.ways.of(duty.of, duty.sourcePodId);
    if (this.#comparing === null || way === null) return;
    const { lag, problem } = way.status;
    const { verifier } = this.#comparing;
    const [row] = verifier.differences;
    const difference =
      row === undefined ? [] : [{ code: "MISMATCH" as const, message: `the row ${row.write} differs` }];
    const problems = [...(problem === null ? [] : [problem]), ...difference];
    this.#options.set({ lag, verified: verifier.verified && problem === null, problems });
  }

  /** As a move's, by the stream of the migration that is rolled back. */
  async match(duty: Duty, signal: AbortSignal): Promise<void> {
    const { epoch, migrationId } = duty;
    const { parts, lent, set } = this.#options;
    const { own } = parts;
    if (epoch === null) throw new CleaveError("INTERNAL", "the goal match has no epoch");
    const { follower, verifier } = this.#compare(duty);
    set({ evidence: null });
    verifier.paused = true;
    const session = new MoveSession(parts, lent, duty);
    const marker = await awaitMarker(session, follower, epoch, signal);
    const rows = await session.ask(signal, (source) => readTouched(source, migrationId, marker.verified));
    own.requirePrimary("comparing");
    const digest = moveEvidence(own, marker, rows);
    if (!own.state.markers.has(`${migrationId}/${epoch}`))
      await lent.administer([{ type: "marker", migrationId, epoch, ...marker }], signal);
    set({ reached: true, evidence: { epoch, digest, details: {} } });
  }

  /** Closed still, and from here on to what flows back as well. */
  async activate(duty: Duty, signal: AbortSignal): Promise<void> {
    const { parts, lent, ways, set } = this.#options;
    const { own, run } = parts;
    if (duty.forced) await lent.stage(duty, signal);
    else if (!own.state.markers.has(`${duty.migrationId}/${duty.epoch}`))
      throw new CleaveError("POSTGRES_LINEAGE", "this Pod never matched the fence of this epoch");
    this.close();
    ways.of(duty.of, duty.sourcePodId)?.session.hold(duty.migrationId);
    const waitsUntil = run.world.now + COPY_ENDS_WITHIN_MS;
    while (own.hasHolders(duty.migrationId) && run.world.now < waitsUntil) await run.clock.sleep(1, signal);
    await lent.setShares(duty, signal);
    set({ reached: true, lag: null, verified: true, problems: [] });
  }

  async open(duty: Duty, signal: AbortSignal): Promise<void> {
    const { lent, set } = this.#options;
    this.close();
    await lent.setShares(duty, signal);
    set({ reached: true, lag: null, verified: true, problems: [] });
  }

  /** Everything is again as the migration before has it. */
  async release(duty: Duty, signal: AbortSignal): Promise<void> {
    const { parts, lent, set } = this.#options;
    const { own, run } = parts;
    this.close();
    await run.clock.sleep(1, signal);
    while (own.administering > 0) await run.clock.sleep(1, signal);
    own.requirePrimary("release");
    if (own.state.routes.has(duty.migrationId))
      await lent.administer([{ type: "unstage", migrationId: duty.migrationId }], signal);
    set({
      reached: true,
      progress: null,
      lag: null,
      verified: false,
      evidence: null,
      problems: [],
      stragglers: [],
    });
  }
}
