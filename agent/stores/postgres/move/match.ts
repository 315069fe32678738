/** Rule 5 where rows are compared: how a move's target, and its rollback's, come to be equal with a fenced source. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Epoch, MigrationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { epochOf } from "../context.ts";
import { readMarker } from "../fence/fence.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { WarmConnection } from "../server/connection.ts";
import { moveEvidence } from "../verification/evidence.ts";
import { readTouched } from "../verification/touched.ts";
import type { Follower } from "./follower.ts";
import { awaitMarker } from "./marker.ts";
import type { TargetConnections } from "./target-connections.ts";

/**
 * The marker of this epoch came by the stream, and whatever was touched since the last comparison is equal. `streamOf`:
 * see `awaitMarker`.
 */
export async function matchRows(
  connections: TargetConnections,
  duty: Duty,
  moving: Moving,
  streamOf: () => Follower | null,
  signal: AbortSignal,
): Promise<Evidence> {
  const { migrationId } = duty;
  const epoch = epochOf(duty);
  const source = connections.source(duty);
  const marker = await awaitMarker(source, migrationId, epoch, streamOf, signal);
  const { rows } = await source.use((db) => readTouched(db, migrationId, marker.verified));
  const evidence = await connections.reading.use((db) => moveEvidence(db, moving, marker, rows));
  // Before it is said, so that an activation after a restart knows that it was matched.
  await connections.own.use((db) =>
    db.query(
      "INSERT INTO cleave.marker (migration_id, epoch, token, verified) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
      [migrationId, epoch, marker.token, marker.verified],
    ),
  );
  return { epoch, ...evidence };
}

/** @throws CleaveError POSTGRES_LINEAGE unless this Pod once matched the fence of that epoch. */
export async function requireMatched(
  own: WarmConnection,
  migrationId: MigrationId,
  epoch: Epoch,
): Promise<void> {
  if ((await own.use((db) => readMarker(db, migrationId, epoch))) === null)
    throw new CleaveError("POSTGRES_LINEAGE", `this Pod never matched the fence of epoch ${epoch}`);
}
