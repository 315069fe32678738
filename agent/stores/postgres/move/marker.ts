/** Waiting for the marker that a fence has written on the source of a stream. */
import type { Epoch, MigrationId } from "../../../../protocol/ids.ts";
import type { WarmConnection } from "../server/connection.ts";
import type { Follower, Marker } from "./follower.ts";

/** For a marker that does not come by the stream. */
const ASK_EVERY_MS = 50;

/**
 * The marker of the fence, when it was applied here. It comes by the stream; what a former stream brought (before a
 * restart of this agent) is asked of the source, with a position behind it that has to be reached. `streamOf` gives the
 * present stream: one may end and another begin meanwhile.
 */
export async function awaitMarker(
  source: WarmConnection,
  migrationId: MigrationId,
  epoch: Epoch,
  streamOf: () => Follower | null,
  signal: AbortSignal,
): Promise<Marker> {
  for (;;) {
    signal.throwIfAborted();
    const heard = streamOf()?.marker(migrationId, epoch) ?? null;
    if (heard !== null) return heard;
    const [row] = await source.query<Marker & { readonly lsn: string }>(
      "SELECT token, verified, schema_generation, pg_catalog.pg_current_wal_flush_lsn()::text AS lsn FROM cleave.marker WHERE migration_id = $1 AND epoch = $2",
      [migrationId, epoch],
    );
    const follower = streamOf();
    if (row !== undefined && follower !== null) {
      await follower.reached(row.lsn, signal);
      return row;
    }
    const pause = AbortSignal.any([signal, AbortSignal.timeout(ASK_EVERY_MS)]);
    while (!pause.aborted && (follower?.marker(migrationId, epoch) ?? null) === null)
      await (follower === null ? aborted(pause) : follower.news(pause));
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
