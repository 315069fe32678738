/**
 * A connection's first use of a table costs milliseconds (catalog caches, plans, the table's first page) that the
 * read-only window must not pay. So what happens in the window is rehearsed on its connection beforehand, without
 * effect.
 */
import type { Epoch, MigrationId } from "../../../../protocol/ids.ts";
import { readCheckedState } from "../fence/checked.ts";
import { readMarker } from "../fence/raise.ts";
import type { Database } from "../server/connection.ts";

/** Of no fence: they are positive. */
const NO_EPOCH = 0 as Epoch;

/** On the source: as the marker is written, and rolled back. The shares are warm from being set. */
export async function rehearseFence(db: Database, migrationId: MigrationId): Promise<void> {
  await db.query("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
  try {
    await db.query("SET LOCAL synchronous_commit = on");
    await db.query("SELECT epoch, phase FROM cleave.share WHERE migration_id = $1 FOR SHARE", [migrationId]);
    await db.query(
      "SELECT target_pod_id, epoch, phase FROM cleave.share WHERE migration_id = $1 AND (epoch > $2 OR phase IN ('transferred', 'opened'))",
      [migrationId, NO_EPOCH],
    );
    await db.query("INSERT INTO cleave.marker VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [
      migrationId,
      NO_EPOCH,
      "rehearsal",
    ]);
    await readMarker(db, migrationId, NO_EPOCH);
    await readCheckedState(db);
  } finally {
    await db.query("ROLLBACK");
  }
}

/** On a standby, which cannot write yet: reads the marker, and plans what will be written. */
export async function rehearseActivation(db: Database, migrationId: MigrationId): Promise<void> {
  await readMarker(db, migrationId, NO_EPOCH);
  await db.query("SELECT target_pod_id, phase FROM cleave.share WHERE migration_id = $1", [migrationId]);
  await db.query("EXPLAIN UPDATE cleave.share SET phase = phase WHERE migration_id = $1", [migrationId]);
  await db.query(
    "EXPLAIN UPDATE cleave.pod SET generation = pg_catalog.setval('cleave.flip', generation + 1)",
  );
}
