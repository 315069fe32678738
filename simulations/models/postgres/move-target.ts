/** A move's target: as agent/stores/postgres/move/target.ts reaches its goals. */
import { type TargetSteps, takeTargetStep } from "../../../agent/stores/postgres/steps.ts";
import { CleaveError, invariant } from "../../../protocol/errors.ts";
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { keepBackSlot } from "./back-slot.ts";
import { copyBase, removeCopied } from "./move-copy.ts";
import { type Marker, MoveFollower } from "./move-follower.ts";
import { type Lent, MoveSession } from "./move-session.ts";
import { MoveVerifier, moveEvidence, readTouched } from "./move-verifier.ts";
import type { PostgresStoreParts } from "./parts.ts";

const LOOK_EVERY_MS = 250;
const COPY_ENDS_WITHIN_MS = 2_000;
const ASK_EVERY_MS = 50;

/** What its store does for it. */
export interface MoveTargetOptions {
  readonly parts: PostgresStoreParts;
  readonly lent: Lent & { setShares(duty: Duty, signal: AbortSignal): Promise<void> };
  readonly set: (change: Partial<StoreStatus>) => void;
}

interface Following {
  readonly session: MoveSession;
  readonly follower: MoveFollower;
  readonly verifier: MoveVerifier;
}

export class MoveTarget implements TargetSteps {
  readonly #options: MoveTargetOptions;
  #following: Following | null = null;
  #watching = new AbortController();

  constructor(options: MoveTargetOptions) {
    this.#options = options;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.#options.parts.own.requirePrimary(duty.goal);
    return takeTargetStep(this, duty, signal);
  }

  close(): void {
    this.#watching.abort(new Error("closing"));
    this.#following?.follower.stop();
    this.#following?.verifier.stop();
    this.#following = null;
  }

  async follow(duty: Duty, signal: AbortSignal): Promise<void> {
    await guardAndStage(this.#options.parts, this.#options.lent, duty, signal);
    const { verifier } = await this.#start(duty, signal);
    // From here on nobody but the copy has written to the organizations, and that is left out.
    if (duty.goal === "follow") await keepBackSlot(this.#options.parts, duty, signal);
    verifier.paused = false;
    this.#options.set({ evidence: null, reached: true, progress: null });
  }

  async #start(duty: Duty, signal: AbortSignal): Promise<Following> {
    if (this.#following !== null) return this.#following;
    const { parts, lent, set } = this.#options;
    const session = new MoveSession(parts, lent, duty);
    await copyBase(session, signal, (done, total) => set({ progress: { done, total, unit: "bytes" } }));
    const follower = new MoveFollower(session, () => this.#tell());
    const verifier = new MoveVerifier(session, follower, () => this.#tell());
    this.#following = { session, follower, verifier };
    follower.start();
    verifier.start();
    void this.#watch();
    return this.#following;
  }

  #stop(): void {
    this.close();
    this.#watching = new AbortController();
  }

  async #watch(): Promise<void> {
    const { signal } = this.#watching;
    while (!signal.aborted) {
      this.#tell();
      await this.#options.parts.run.clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  #tell(): void {
    if (this.#following === null) return;
    const { session, follower, verifier } = this.#following;
    const { parts, own, source } = session;
    const { problem, position } = follower;
    const known =
      source.up && own.up && position !== null && parts.network.connected(source.podId, own.podId);
    const amount = known ? Math.max(0, source.position - position) : null;
    const problems = [
      ...(problem === null ? [] : [{ code: problem.code, message: problem.message }]),
      ...verifier.differences
        .slice(0, 3)
        .map((row) => ({ code: "MISMATCH" as const, message: `the row ${row.write} differs` })),
    ];
    const verified = verifier.verified && problem === null;
    this.#options.set({ lag: { amount, unit: "bytes" }, verified, problems });
  }

  /** Rule 5: the marker of this epoch was applied, and whatever was touched since the last comparison is equal. */
  async match(duty: Duty, signal: AbortSignal): Promise<void> {
    const { epoch, migrationId } = duty;
    const { own } = this.#options.parts;
    if (epoch === null) throw new CleaveError("INTERNAL", "the goal match has no epoch");
    const { session, follower, verifier } = await this.#start(duty, signal);
    this.#options.set({ evidence: null });
    verifier.paused = true;
    const marker = await awaitMarker(session, follower, epoch, signal);
    const rows = await session.ask(signal, (source) => readTouched(source, migrationId, marker.verified));
    own.requirePrimary("comparing");
    const digest = moveEvidence(own, marker, rows);
    // Before it is said, so that an activation after a restart knows that it was matched.
    if (!own.state.markers.has(`${migrationId}/${epoch}`))
      await this.#options.lent.administer([{ type: "marker", migrationId, epoch, ...marker }], signal);
    this.#options.set({ reached: true, evidence: { epoch, digest, details: {} } });
  }

  /** Rule 7: closed still, and from here on to the copy as well. */
  async activate(duty: Duty, signal: AbortSignal): Promise<void> {
    const { own, run } = this.#options.parts;
    if (!own.state.markers.has(`${duty.migrationId}/${duty.epoch}`))
      throw new CleaveError("POSTGRES_LINEAGE", "this Pod never matched the fence of this epoch");
    this.#stop();
    const waitsUntil = run.world.now + COPY_ENDS_WITHIN_MS;
    while (own.hasHolders(duty.migrationId) && run.world.now < waitsUntil) await run.clock.sleep(1, signal);
    await this.#options.lent.setShares(duty, signal);
    await keepBackSlot(this.#options.parts, duty, signal);
    this.#options.set({ reached: true, lag: null, verified: true, problems: [] });
  }

  async open(duty: Duty, signal: AbortSignal): Promise<void> {
    const { parts, lent } = this.#options;
    this.#stop();
    await lent.setShares(duty, signal);
    this.#options.set({ reached: true, lag: null, verified: true, problems: [] });
    const { slot } = new MoveSession(parts, lent, duty);
    if (parts.own.up && parts.own.state.origins.has(slot))
      parts.own.administer([{ type: "origin", name: slot, position: null }], () => undefined);
    await keepBackSlot(this.#options.parts, duty, signal);
  }

  /** The source need not be there for this. */
  async release(duty: Duty, signal: AbortSignal): Promise<void> {
    const { parts, lent } = this.#options;
    const { own, run } = parts;
    this.#stop();
    const phase = duty.shares[duty.podId];
    invariant(phase === "source", `${duty.podId} may be authoritative (${phase}), so nothing is removed`);
    await run.clock.sleep(1, signal);
    while (own.administering > 0) await run.clock.sleep(1, signal);
    own.requirePrimary("release");
    await keepBackSlot(this.#options.parts, duty, signal);
    if (own.state.routes.has(duty.migrationId)) {
      const session = new MoveSession(parts, lent, duty);
      await lent.setShares(duty, signal);
      if (session.rows(own).length > 0) parts.onRemoved([...duty.assignments.keys()]);
      await removeCopied(session, signal);
      own.damaged = false;
      await lent.administer(
        [
          { type: "origin", name: session.slot, position: null },
          { type: "unstage", migrationId: duty.migrationId },
        ],
        signal,
      );
    }
    this.#options.set({
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

/** By the stream; or what a former stream brought, with a position behind it that has to be reached. */
export async function awaitMarker(
  session: MoveSession,
  follower: MoveFollower,
  epoch: number,
  signal: AbortSignal,
): Promise<Marker> {
  const { migrationId } = session.duty;
  const key = `${migrationId}/${epoch}`;
  for (;;) {
    const heard = follower.marker(migrationId, epoch);
    if (heard !== null) return heard;
    const known = await session.ask(signal, ({ state, position }) => {
      const token = state.markers.get(key);
      return token === undefined ? null : { token, verified: state.verifiedAt.get(key) ?? null, position };
    });
    if (known !== null) {
      await follower.reached(known.position, signal);
      return { token: known.token, verified: known.verified };
    }
    await follower.news(ASK_EVERY_MS, signal);
  }
}

/** Before the first row comes, so that nobody else can write to the organizations here. */
export async function guardAndStage(
  { own, run }: PostgresStoreParts,
  lent: Lent,
  { migrationId, sourcePodId, assignments, goal }: Duty,
  signal: AbortSignal,
): Promise<void> {
  await run.clock.sleep(own.guarded ? 2 : 30, signal);
  own.requirePrimary(goal);
  own.guarded = true;
  while (own.administering > 0) await run.clock.sleep(0.5, signal);
  if (own.state.routes.has(migrationId)) return;
  await lent.administer([{ type: "stage", migrationId, sourcePodId, assignments, logical: true }], signal);
  const stagedAt = run.world.now;
  while (own.olderThan(stagedAt)) await run.clock.sleep(20, signal);
}
