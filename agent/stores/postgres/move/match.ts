/** Rule 5 where rows are compared: how a move's target, and its rollback's, come to be equal with a fenced source. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Epoch, MigrationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { epochOf } from "../context.ts";
import { readMarker } from "../fence/raise.ts";
import type { Schema } from "../inventory/schema.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { Database, WarmConnection } from "../server/connection.ts";
import { describe } from "../verification/comparison.ts";
import { crossingRows } from "../verification/crossings.ts";
import { doubledRows } from "../verification/doubled.ts";
import { MoveDigest } from "../verification/evidence.ts";
import { fittingKeys } from "../verification/fitting-keys.ts";
import { referenceLines, type SharedRows } from "../verification/references.ts";
import { byTable, type TouchedRow } from "../verification/rows.ts";
import { describeChange, uncomparedChange } from "../verification/schema-changes.ts";
import { readTouched } from "../verification/touched.ts";
import type { Follower } from "./follower.ts";
import { awaitMarker } from "./marker.ts";
import type { TargetConnections } from "./target-connections.ts";

export interface Matching {
  readonly moving: Moving;
  /** The target's. */
  readonly schema: Schema;
  readonly shared: SharedRows;
}

/**
 * The marker of this epoch came by the stream, and whatever was touched since the last comparison is equal, with the rows
 * of nobody alone that it refers to: those that came with the last moment are copied here. `streamOf`: see `awaitMarker`.
 * @throws CleaveError SHARED_ROW_CONFLICT, CROSS_ORGANIZATION_ROWS naming the rows; SCHEMA_CHANGED naming what was changed here
 * since rows were last compared; then there is no evidence.
 */
export async function matchRows(
  connections: TargetConnections,
  duty: Duty,
  matchingNow: () => Matching,
  streamOf: () => Follower | null,
  signal: AbortSignal,
): Promise<Evidence> {
  const { migrationId } = duty;
  const epoch = epochOf(duty);
  const source = connections.source(duty);
  const marker = await awaitMarker(source, migrationId, epoch, streamOf, signal);
  // The stream is at the marker, and so is what it goes by.
  const matching = matchingNow();
  const evidence = await source.use((theirs) =>
    connections.reading.use(async (ours) => {
      const { pages } = await readTouched(theirs, migrationId, marker.verified);
      const made = new MoveDigest(ours, matching.moving);
      for await (const noted of pages) {
        const sides = { source: theirs, target: ours };
        const page = await fittingKeys(theirs, matching.moving, noted);
        await made.add(page, await settleReferences(connections, duty, matching, sides, page));
      }
      return made.evidence({ ...marker, generation: marker.schema_generation });
    }),
  );
  // A rollback's target that was never compared with is not looked at; a move's may have been altered before the first look.
  if (duty.kind === "move" || marker.verified !== null)
    await connections.reading.use((db) => requireCompared(db, migrationId));
  // Before it is said, so that an activation after a restart knows that it was matched.
  await connections.own.use((db) =>
    db.query(
      "INSERT INTO cleave.marker (migration_id, epoch, token, verified, schema_generation) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
      [migrationId, epoch, marker.token, marker.verified, marker.schema_generation],
    ),
  );
  return { epoch, ...evidence };
}

/** After the evidence, so that whatever it was made of is as it was compared. */
async function requireCompared(db: Database, migrationId: MigrationId): Promise<void> {
  const change = await uncomparedChange(db, migrationId);
  if (change === null) return;
  throw new CleaveError(
    "SCHEMA_CHANGED",
    `${describeChange(change)} on the target came after the last comparison of rows`,
  );
}

/** Costs what was touched. @returns the source's lines: see `referenceLines`. */
async function settleReferences(
  connections: TargetConnections,
  duty: Duty,
  { moving, schema, shared }: Matching,
  { source, target }: { readonly source: Database; readonly target: Database },
  touched: readonly TouchedRow[],
): Promise<ReadonlySet<string>> {
  for (const [name, keys] of byTable(touched)) {
    const table = moving.tables.find((one) => one.name === name);
    if (table === undefined) continue;
    // A rollback's target has the rows of others as well, dormant or not.
    const crossing = duty.kind === "move" ? await crossingRows(source, moving, table, keys) : [];
    if (crossing.length > 0)
      throw new CleaveError("CROSS_ORGANIZATION_ROWS", crossing.slice(0, 5).map(describe).join("; "));
    const doubled = await doubledRows(target, moving, table, keys);
    if (doubled.length > 0)
      throw new CleaveError("CHANGE_NOT_APPLICABLE", doubled.slice(0, 5).map(describe).join("; "));
    await connections.own.use((writer) =>
      shared.ensure({ source, target, writer, moving, schema }, { table, keys }),
    );
  }
  return new Set(await referenceLines(source, moving, touched));
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
