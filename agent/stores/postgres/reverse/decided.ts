/** What was decided while this Pod was not there to see it. */
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { isStaged, setShares } from "../fence/staging.ts";
import { terminateLockHolders } from "../fence/stragglers.ts";
import type { Database } from "../server/connection.ts";

/** The shares are staged here, and nobody may write by them as before. */
export async function isBeyondFence(db: Database, migrationId: MigrationId): Promise<boolean> {
  if (!(await isStaged(db, migrationId))) return false;
  const { rowCount } = await db.query(
    "SELECT FROM cleave.share WHERE migration_id = $1 AND phase = 'source'",
    [migrationId],
  );
  return rowCount === 0;
}

/**
 * Rollbacks whose target here gave its share back. It has no duty any more, and its share would keep the way back shut for
 * ever, with whose organizations it goes on. `held` are the rollbacks that are being transferred just now, of which a duty
 * that came before does not know yet.
 */
export async function returnRevoked(
  db: Database,
  duty: Duty,
  held: () => readonly MigrationId[],
): Promise<void> {
  const back = duty.rollbacks.filter(({ phase }) => phase === "source").map((one) => one.migrationId);
  if (back.length === 0) return;
  const { rows } = await db.query<{ migration_id: MigrationId }>(
    "SELECT migration_id FROM cleave.share WHERE migration_id = ANY ($1::text[]) AND phase = 'transferred'",
    [back],
  );
  for (const { migration_id: rollback } of rows)
    if (!held().includes(rollback))
      await setShares(db, rollback, { [duty.podId]: "source" } as Duty["shares"], null);
}

/** @throws CleaveError DRAIN_INCOMPLETE naming a writer that cannot be ended. */
export async function endWriters(db: Database, migrationId: MigrationId): Promise<void> {
  const { processID } = db as Database & { readonly processID: number };
  for (const { pid, description } of await terminateLockHolders(db, migrationId, processID))
    if (pid === null) throw new CleaveError("DRAIN_INCOMPLETE", `${description} cannot be ended by Cleave`);
}

/** The migration that a rollback is of. */
export function ofMigration({ of, migrationId }: Duty): MigrationId {
  invariant(of !== null, `${migrationId} is no rollback`);
  return of;
}
