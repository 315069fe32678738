/**
 * What flows back to a source that yielded, kept running: the change stream of one target that opened, applied to the
 * dormant copy here, and the comparison of the two. One for each migration and target; it outlives goals.
 */
import type { ReverseReplicationStatus } from "../../../protocol/evidence.ts";
import type { PodId } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { BackSession } from "./back-session.ts";
import { MoveFollower } from "./move-follower.ts";
import type { Lent } from "./move-session.ts";
import { MoveVerifier } from "./move-verifier.ts";
import type { PostgresStoreParts } from "./parts.ts";

export class ReverseReplication {
  readonly session: BackSession;
  readonly follower: MoveFollower;
  readonly #verifier: MoveVerifier;

  constructor(parts: PostgresStoreParts, lent: Lent, duty: Duty, peerPodId: PodId) {
    this.session = new BackSession(parts, lent, duty, peerPodId);
    this.follower = new MoveFollower(this.session, () => undefined);
    this.#verifier = new MoveVerifier(this.session, this.follower, () => undefined);
  }

  start(): void {
    this.follower.start();
    this.#verifier.start();
  }

  stop(): void {
    this.follower.stop();
    this.#verifier.stop();
  }

  get status(): ReverseReplicationStatus {
    const { own, source, parts, isHeld } = this.session;
    const { problem, position } = this.follower;
    const [different] = this.#verifier.differences;
    const known =
      source.up && own.up && position !== null && parts.network.connected(source.podId, own.podId);
    const found = isHeld ? null : problem;
    return {
      lag: { amount: known ? Math.max(0, source.position - position) : null, unit: "bytes" },
      verified: this.#verifier.verified && found === null,
      problem:
        found !== null
          ? { code: found.code, message: found.message }
          : different === undefined
            ? null
            : { code: "MISMATCH", message: `the row ${different.write} differs` },
    };
  }
}

export class ReverseReplications {
  readonly #parts: PostgresStoreParts;
  readonly #lent: Lent;
  /** By migration, then by target. */
  readonly #ways = new Map<string, Map<PodId, ReverseReplication>>();

  constructor(parts: PostgresStoreParts, lent: Lent) {
    this.#parts = parts;
    this.#lent = lent;
  }

  of(migrationId: string | null, podId: PodId): ReverseReplication | null {
    return this.#ways.get(migrationId ?? "")?.get(podId) ?? null;
  }

  /** As a source's duty asks for it: what is not in its `reverseReplication` is forgotten here. */
  async keep(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId } = duty;
    const known = this.#ways.get(migrationId) ?? new Map<PodId, ReverseReplication>();
    this.#ways.set(migrationId, known);
    for (const podId of duty.targetPodIds) {
      const way = known.get(podId);
      if (duty.reverseReplication.includes(podId) && duty.shares[podId] === "opened") {
        if (way) way.session.told(duty);
        else known.set(podId, this.#start(duty, podId));
      } else if (!duty.reverseReplication.includes(podId)) await this.#forget(duty, podId, signal);
    }
  }

  /** By migration and target; empty where nothing flows back. */
  statusOf(migrationId: string): Record<PodId, ReverseReplicationStatus> | undefined {
    const ways = this.#ways.get(migrationId);
    if (!ways || ways.size === 0) return undefined;
    return Object.fromEntries([...ways].map(([podId, way]) => [podId, way.status])) as Record<
      PodId,
      ReverseReplicationStatus
    >;
  }

  #start(duty: Duty, podId: PodId): ReverseReplication {
    const way = new ReverseReplication(this.#parts, this.#lent, duty, podId);
    way.start();
    return way;
  }

  async #forget(duty: Duty, podId: PodId, signal: AbortSignal): Promise<void> {
    const known = this.#ways.get(duty.migrationId);
    known?.get(podId)?.stop();
    known?.delete(podId);
    const { slot } = new BackSession(this.#parts, this.#lent, duty, podId);
    if (this.#parts.own.state.origins.has(slot))
      await this.#lent.administer([{ type: "origin", name: slot, position: null }], signal);
  }

  close(): void {
    for (const ways of this.#ways.values()) for (const way of ways.values()) way.stop();
    this.#ways.clear();
  }
}
