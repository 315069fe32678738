/**
 * Everything that flows back in one migration, on its source: one carrier for each target. Shared by the migration's own
 * part of the store and those of its rollbacks, which stop a carrier for a moment and read markers from it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ReverseReplicationStatus } from "../../../../protocol/evidence.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Duty, RollbackShare } from "../../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { dropOrigin } from "../move/seed.ts";
import type { Database } from "../server/connection.ts";
import { backName } from "../split/slots.ts";
import { type Cargo, Carrier } from "./carrier.ts";

const ASK_EVERY_MS = 20;
const NOT_FLOWING: ReverseReplicationStatus = {
  lag: { amount: null, unit: "bytes" },
  verified: false,
  problem: null,
};

export class Carriers {
  readonly #options: PostgresStoreOptions;
  readonly #carriers = new Map<PodId, Carrier>();
  /** Rollbacks that were transferred here before the migration's own part was told of it, with their sources. */
  readonly #held = new Map<MigrationId, PodId>();
  /** Changes of what is carried come one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #duty: Duty | null = null;
  #closed = false;
  onChange: () => void = () => undefined;

  constructor(options: PostgresStoreOptions) {
    this.#options = options;
  }

  /** Rollbacks for which something is held. */
  get held(): readonly MigrationId[] {
    return [...this.#held.keys()];
  }

  /**
   * Brings what is carried to what the duty says. What takes longer goes on in the background. `known` are the rollbacks
   * that were held when the duty came: it is newer than theirs, and so says what became of them.
   */
  async follow(duty: Duty, known: readonly MigrationId[]): Promise<void> {
    this.#duty = duty;
    for (const rollback of known) this.#held.delete(rollback);
    await this.#settle();
  }

  /** Nothing flows back from the rollback's source once this resolves, until a newer duty says so. */
  async hold(rollback: Pick<RollbackShare, "migrationId" | "podId">): Promise<void> {
    this.#held.set(rollback.migrationId, rollback.podId);
    await this.#settle();
  }

  /** Forgets where the copy is: of targets from which nothing flows back any more. */
  async forget(db: Database, duty: Duty): Promise<void> {
    const over = duty.targetPodIds.filter((podId) => !duty.reverseReplication.includes(podId));
    for (const podId of over) await dropOrigin(db, backName(duty.migrationId, podId));
  }

  carrier(podId: PodId): Carrier | null {
    return this.#carriers.get(podId) ?? null;
  }

  /** Resolves when everything up to `lsn` of that Pod is durable here. @throws the signal's reason. */
  async reached(podId: PodId, lsn: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const follower = this.carrier(podId)?.follower;
      if (follower) {
        const done = await follower.reached(lsn, signal).then(
          () => true,
          () => false,
        );
        if (done) return;
      }
      await sleep(ASK_EVERY_MS, undefined, { signal });
    }
  }

  /** Of the targets in the duty's way back that are open; undefined when there are none. */
  get status(): Record<PodId, ReverseReplicationStatus> | undefined {
    const duty = this.#duty;
    const opened = duty?.reverseReplication.filter((podId) => duty.shares[podId] === "opened") ?? [];
    if (opened.length === 0) return undefined;
    return Object.fromEntries(
      opened.map((podId) => [podId, this.carrier(podId)?.status ?? NOT_FLOWING]),
    ) as Record<PodId, ReverseReplicationStatus>;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#settle();
  }

  #settle(): Promise<void> {
    const turn = this.#turn.then(() => this.#settleNow());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #settleNow(): Promise<void> {
    const wanted = new Map(this.#wanted().map((cargo) => [cargo.podId, cargo]));
    const stopped: Promise<void>[] = [];
    for (const [podId, carrier] of this.#carriers) {
      const cargo = wanted.get(podId);
      if (cargo !== undefined && same(cargo, carrier.cargo)) continue;
      this.#carriers.delete(podId);
      stopped.push(carrier.stop());
    }
    await Promise.all(stopped);
    for (const [podId, cargo] of wanted) {
      if (this.#carriers.has(podId)) continue;
      const carrier = new Carrier(this.#options, cargo, () => this.onChange());
      this.#carriers.set(podId, carrier);
      carrier.start();
    }
    this.onChange();
  }

  #wanted(): Cargo[] {
    const duty = this.#duty;
    if (duty === null || this.#closed) return [];
    // One that the duty knows as opened is over: it may be held by what was asked for before, and only now was done.
    const isOpened = (id: MigrationId) =>
      duty.rollbacks.some(({ migrationId, phase }) => migrationId === id && phase === "opened");
    const held = new Set([
      ...[...this.#held].flatMap(([id, podId]) => (isOpened(id) ? [] : [podId])),
      ...duty.rollbacks.filter(({ phase }) => phase === "transferred").map(({ podId }) => podId),
    ]);
    return duty.reverseReplication
      .filter((podId) => duty.shares[podId] === "opened" && !held.has(podId))
      .map((podId) => cargoOf(duty, podId));
  }
}

function cargoOf({ migrationId, defaultPodId, assignments, rollbacks }: Duty, podId: PodId): Cargo {
  const back = rollbacks.filter((one) => one.podId === podId && one.phase === "opened");
  const organizations = [...assignments].flatMap(([id, target]): OrganizationId[] =>
    target === podId && !back.some((one) => one.assignments.has(id)) ? [id] : [],
  );
  return { migrationId, defaultPodId, podId, organizations, without: back.map((one) => one.migrationId) };
}

/** What a rollback took out is all that ever changes. */
function same(a: Cargo, b: Cargo): boolean {
  return a.without.join() === b.without.join();
}
