/** What a target keeps for the way back: a publication, and a slot from a point where nobody can have begun to write. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { isGuarded } from "../fence/install.ts";
import { APPLY_ROLE } from "../fence/names.ts";
import { ensureApplyRole } from "../move/apply-role.ts";
import { dropPublication, ensurePublication, hasPublication } from "../move/publication.ts";
import { dropOrigin } from "../move/seed.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";
import { backName, backPublication, dropSlots, readSlots, slotName } from "../split/slots.ts";

/** A Pod that serves nothing yet lets nobody alter anything but this role. */
async function asApplyRole(db: Database, work: () => Promise<void>): Promise<void> {
  await ensureApplyRole(db);
  await db.query(`SET SESSION AUTHORIZATION ${quoteIdentifier(APPLY_ROLE)}`);
  try {
    await work();
  } finally {
    await db.query("RESET SESSION AUTHORIZATION");
  }
}

/**
 * Of a move's target, while it follows: it serves neighbours, and making a slot waits for their transactions. Idempotent.
 */
export async function prepareReverseReplication(
  db: Database,
  duty: Duty,
  ownership: Ownership,
): Promise<void> {
  // Before the slot, for a stream looks it up as it was at each change.
  if (!(await hasPublication(db, backPublication(duty.migrationId))))
    await publishReverseReplication(db, duty.migrationId, ownership);
  await armReverseReplication(db, duty.migrationId, duty.podId);
}

/** Every owned table is in the publication of the way back, those too that came after it was made. Idempotent. */
export function publishReverseReplication(
  db: Database,
  migrationId: MigrationId,
  ownership: Ownership,
): Promise<void> {
  return asApplyRole(db, () => ensurePublication(db, backPublication(migrationId), ownership));
}

/**
 * One round trip, within the read-only window of a split. Nobody has written to the target's organizations yet, and
 * nobody can, so everything that will be written lies behind the slot's position. Idempotent.
 */
export async function armReverseReplication(
  db: Database,
  migrationId: MigrationId,
  podId: PodId,
): Promise<void> {
  const name = quoteLiteral(backName(migrationId, podId));
  await db.query(
    `SELECT pg_catalog.pg_create_logical_replication_slot(${name}, 'pgoutput') WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = ${name})`,
  );
}

/** @throws CleaveError REVERSE_REPLICATION_GONE when the slot is not there, or has lost what it should have kept. */
export async function requireArmed(db: Database, migrationId: MigrationId, podId: PodId): Promise<number> {
  const name = backName(migrationId, podId);
  const [slot] = await readSlots(db, [name]);
  if (slot !== undefined && slot.walStatus !== "lost") return slot.keptBytes;
  throw new CleaveError(
    "REVERSE_REPLICATION_GONE",
    `the replication slot ${name} on ${podId} ${slot === undefined ? "is not there" : "has lost WAL that it should have kept"}: what ${podId} changed since cannot flow back`,
  );
}

/** Until the target opens only the copy writes to its organizations, so nothing of what was written is needed. */
export async function advanceReverseReplication(
  db: Database,
  migrationId: MigrationId,
  podId: PodId,
): Promise<void> {
  await db.query(
    `SELECT pg_catalog.pg_replication_slot_advance(slot_name, pg_catalog.pg_current_wal_flush_lsn()) FROM pg_catalog.pg_replication_slots
      WHERE slot_name = $1 AND NOT active AND confirmed_flush_lsn < pg_catalog.pg_current_wal_flush_lsn()`,
    [backName(migrationId, podId)],
  );
}

/** On the target: nothing of the way back is left, and writers note nothing for it any more. Idempotent. */
export async function dropReverseReplication(
  db: Database,
  duty: Duty,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const { migrationId, podId } = duty;
  if (await isGuarded(db)) {
    await db.query(
      "UPDATE cleave.share SET back = false WHERE migration_id = $1 AND target_pod_id = $2 AND back",
      [migrationId, podId],
    );
    if (duty.shares[podId] === "opened")
      await db.query("DELETE FROM cleave.touched WHERE migration_id = $1", [migrationId]);
  }
  await dropSlots(db, [backName(migrationId, podId)], clock, signal);
  const publication = backPublication(migrationId);
  if (await hasPublication(db, publication)) await asApplyRole(db, () => dropPublication(db, publication));
  // Of a move: by it the stream knew what the copy had written.
  if (duty.kind === "move" && duty.shares[podId] === "opened")
    await dropOrigin(db, slotName(migrationId, podId));
}
