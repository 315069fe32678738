/** Replication slots of a migration on its source: one per target, found again by name alone after any restart. */
import { createHash } from "node:crypto";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Database } from "../server/connection.ts";

const PREFIX = "cleave_";
const DROP_WITHIN_MS = 15_000;

function digest(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 12);
}

/** Readable and unique: at most 63 of [a-z0-9_], and a migration's id is never used twice. */
export function slotName(migrationId: MigrationId, targetPodId: PodId): string {
  const readable = [migrationId, targetPodId].map((id) => id.replaceAll("-", "_").slice(0, 20)).join("_");
  return `${PREFIX}${readable}_${digest(migrationId, targetPodId)}`;
}

/** Of what flows back from a target to the source: the slot there, the origin here. Shorter parts, for a longer prefix. */
export function backName(migrationId: MigrationId, targetPodId: PodId): string {
  const readable = [migrationId, targetPodId].map((id) => id.replaceAll("-", "_").slice(0, 18)).join("_");
  return `${PREFIX}back_${readable}_${digest("back", migrationId, targetPodId)}`;
}

/** What a migration's targets publish for the way back. One for all: a split's is made on the source, and copied with it. */
export function backPublication(migrationId: MigrationId): string {
  return `${PREFIX}back_${migrationId.replaceAll("-", "_").slice(0, 36)}_${digest("back", migrationId)}`;
}

export interface SlotState {
  readonly name: string;
  readonly active: boolean;
  readonly activePid: number | null;
  /** `lost`: the source removed WAL that this slot should have kept; its target can never catch up. */
  readonly walStatus: string | null;
  /** WAL that the server keeps because of it. */
  readonly keptBytes: number;
}

export async function readSlots(db: Database, names: readonly string[]): Promise<SlotState[]> {
  const { rows } = await db.query<{
    slot_name: string;
    active: boolean;
    active_pid: number | null;
    wal_status: string | null;
    kept: string | null;
  }>(
    `SELECT slot_name, active, active_pid, wal_status,
            pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn() END, restart_lsn)::text AS kept
       FROM pg_replication_slots WHERE slot_name = ANY($1::name[])`,
    [[...names]],
  );
  return rows.map((row) => ({
    name: row.slot_name,
    active: row.active,
    activePid: row.active_pid,
    walStatus: row.wal_status,
    keptBytes: Math.max(0, Number(row.kept ?? 0)),
  }));
}

/** Creates the missing ones; WAL is kept from that moment on. */
export async function ensureSlots(db: Database, names: readonly string[]): Promise<void> {
  const present = new Set((await readSlots(db, names)).map((slot) => slot.name));
  for (const name of names)
    if (!present.has(name)) await db.query("SELECT pg_create_physical_replication_slot($1, true)", [name]);
}

/**
 * Drops them, ending whoever uses them.
 * @throws CleaveError POSTGRES_SETTING when a slot stays in use.
 */
export async function dropSlots(
  db: Database,
  names: readonly string[],
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const giveUpAt = clock.monotonic() + DROP_WITHIN_MS;
  for (;;) {
    signal.throwIfAborted();
    const present = await readSlots(db, names);
    if (present.length === 0) return;
    for (const slot of present) {
      if (slot.activePid !== null) await db.query("SELECT pg_terminate_backend($1)", [slot.activePid]);
      try {
        await db.query("SELECT pg_drop_replication_slot($1)", [slot.name]);
      } catch (error) {
        const { code } = error as { code?: string };
        // Still in use (its walsender is ending, or a standby was faster), or gone meanwhile.
        if (code !== "55006" && code !== "42704") throw error;
      }
    }
    if (clock.monotonic() > giveUpAt)
      throw new CleaveError("POSTGRES_SETTING", `the replication slot ${present[0]?.name} stays in use`);
    await clock.sleep(10, signal);
  }
}

/**
 * Ends the walsender that holds a slot, so that a restarted copy can use it. Only walsenders: while the source creates
 * a slot, its own connection is what holds it.
 */
export async function freeSlot(db: Database, name: string): Promise<void> {
  await db.query(
    `SELECT pg_terminate_backend(s.active_pid)
       FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
      WHERE s.slot_name = $1 AND s.active AND a.backend_type = 'walsender'`,
    [name],
  );
}
