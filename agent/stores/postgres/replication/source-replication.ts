/** What a source keeps for its targets to replicate from; the same for every kind of migration but for these steps. */
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { RaisedFence } from "../fence/raise.ts";
import { ensurePublication } from "../move/publication.ts";
import type { Database } from "../server/connection.ts";
import type { ServerPosition } from "../split/lineage.ts";
import { backPublication, dropSlots, ensureSlots, type SlotState, slotName } from "../split/slots.ts";
import { evidenceDigest } from "../split/target.ts";

export interface SourceReplication {
  /** Rows that writers change are noted, to be compared one by one. */
  readonly logical: boolean;
  /** Makes what targets need before they begin to copy. Idempotent. */
  prepare(db: Database, duty: Duty): Promise<void>;
  /** After a change of the schema: brings what targets need to it. Idempotent. */
  renew?(db: Database, duty: Duty): Promise<void>;
  /** Names of the slots that this migration's targets stream from. */
  slots(duty: Duty): readonly string[];
  /** Names of slots that are not there although a target needs them. */
  missing(duty: Duty, present: readonly SlotState[]): readonly string[];
  /** What the source says of the fence that is up. `db` may be used freely. */
  evidence(
    db: Database,
    duty: Duty,
    position: ServerPosition,
    fence: RaisedFence,
  ): Promise<Pick<Evidence, "digest" | "details">>;
  /** Removes what was made for these targets. Idempotent. */
  remove(db: Database, duty: Duty, clock: Clock, signal: AbortSignal): Promise<void>;
}

export function slotsOf(duty: Duty): string[] {
  return duty.targetPodIds.map((target) => slotName(duty.migrationId, target));
}

/** Of a split: targets are standbys, each with a physical slot. What they will publish for the way back comes with the copy. */
export function physicalReplication(ownership: Ownership): SourceReplication {
  const publish = async (db: Database, duty: Duty) => {
    if (duty.reverseReplication.length > 0)
      await ensurePublication(db, backPublication(duty.migrationId), ownership);
  };
  return {
    logical: false,
    slots: slotsOf,
    prepare: async (db, duty) => {
      await publish(db, duty);
      await ensureSlots(db, slotsOf(duty));
    },
    renew: publish,
    missing: (duty, present) => slotsOf(duty).filter((name) => !present.some((slot) => slot.name === name)),
    evidence: async (_db, _duty, position, { token, lsn }) => ({
      digest: evidenceDigest(position, token),
      details: { lsn, timeline: position.timeline },
    }),
    remove: (db, duty, clock, signal) => dropSlots(db, slotsOf(duty), clock, signal),
  };
}
