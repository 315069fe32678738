/** On a source that yielded: its dormant copies follow the targets that opened. Rollbacks are proved by the same copies. */
import type { ReverseReplicationStatus } from "../../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../../protocol/ids.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { wentBack } from "./removal.ts";
import { type FileStoreParts, Replica } from "./replica.ts";

interface Way {
  readonly replica: Replica;
  duty: Duty;
  /** Rollbacks between their transfer and their opening. */
  readonly heldBy: Set<MigrationId>;
}

export class FileReverseReplications {
  readonly #parts: FileStoreParts;
  readonly #onChange: () => void;
  /** By migration, then by target. */
  readonly #ways = new Map<string, Map<PodId, Way>>();

  constructor(parts: FileStoreParts, onChange: () => void) {
    this.#parts = parts;
    this.#onChange = onChange;
  }

  of(migrationId: string | null, podId: PodId): Replica | null {
    return this.#ways.get(migrationId ?? "")?.get(podId)?.replica ?? null;
  }

  hold(migrationId: string | null, podId: PodId, rollback: MigrationId): void {
    this.#ways
      .get(migrationId ?? "")
      ?.get(podId)
      ?.heldBy.add(rollback);
  }

  /** As a source's duty asks for it. */
  keep(duty: Duty): void {
    const known = this.#ways.get(duty.migrationId) ?? new Map<PodId, Way>();
    this.#ways.set(duty.migrationId, known);
    for (const podId of duty.targetPodIds) {
      if (!duty.reverseReplication.includes(podId)) {
        known.get(podId)?.replica.stop();
        known.delete(podId);
      } else if (duty.shares[podId] === "opened") {
        const running = known.get(podId);
        const way = running ?? this.#make(duty, podId);
        known.set(podId, way);
        way.duty = duty;
        way.heldBy.clear();
        for (const rollback of duty.rollbacks)
          if (rollback.podId === podId && rollback.phase === "transferred")
            way.heldBy.add(rollback.migrationId);
        way.replica.forgetOthers();
        // Not before it knows what holds it.
        if (running === undefined) way.replica.start();
      }
    }
  }

  #make(duty: Duty, podId: PodId): Way {
    const following = {
      migrationId: duty.migrationId,
      sourcePodId: podId,
      isMeant: (organization: string) =>
        way.duty.assignments.get(organization as never) === podId && !wentBack(way.duty).has(organization),
    };
    const replica: Replica = new Replica(this.#parts, following, this.#onChange);
    const way: Way = { replica, duty, heldBy: new Set() };
    replica.held = () => way.heldBy.size > 0;
    return way;
  }

  statusOf(
    migrationId: string,
    unit: ReverseReplicationStatus["lag"]["unit"],
  ): Record<PodId, ReverseReplicationStatus> {
    const ways = [...(this.#ways.get(migrationId) ?? [])];
    return Object.fromEntries(
      ways.map(([podId, { replica, heldBy }]): [PodId, ReverseReplicationStatus] => {
        const { connected, complete, pending } = replica;
        const known = connected && complete;
        const isAway = !connected && heldBy.size === 0;
        return [
          podId,
          {
            lag: { amount: known ? pending.size : null, unit },
            verified: complete,
            problem: isAway ? { code: "PEER_UNREACHABLE", message: `${podId} does not answer` } : null,
          },
        ];
      }),
    ) as Record<PodId, ReverseReplicationStatus>;
  }

  close(): void {
    for (const ways of this.#ways.values()) for (const { replica } of ways.values()) replica.stop();
    this.#ways.clear();
  }
}
