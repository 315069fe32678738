/** How fast rows may go: at most half the load, and never faster than replicas of this server can follow. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Database } from "../server/connection.ts";
import type { StatusBoard } from "../status-board.ts";

export interface Pace {
  /** Rows of one transaction. */
  readonly batchRows: number;
  /** Organizations whose rows are removed together, from the first table to the last. */
  readonly groupOrganizations: number;
  /** While a replica of this server is further behind, nothing is removed. */
  readonly lagBoundBytes: number;
}

export const PACE: Pace = { batchRows: 5_000, groupOrganizations: 500, lagBoundBytes: 64 * 1024 * 1024 };

const LOOK_EVERY_MS = 500;

/** Replicas that say how far they are; a base backup does not, and keeps what it needs by itself. */
const FURTHEST_BEHIND = `
SELECT application_name AS name,
  pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), COALESCE(LEAST(flush_lsn, replay_lsn), sent_lsn))::float8 AS bytes
FROM pg_catalog.pg_stat_replication WHERE state <> 'backup' ORDER BY 2 DESC NULLS LAST LIMIT 1`;

/** Waits until no replica is further behind than the bound, and says on the board what it waits for. */
export async function awaitReplicas(
  db: Database,
  pace: Pace,
  clock: Clock,
  board: StatusBoard,
  signal: AbortSignal,
): Promise<void> {
  let waited = false;
  for (;;) {
    signal.throwIfAborted();
    const { rows } = await db.query<{ name: string; bytes: number | null }>(FURTHEST_BEHIND);
    const behind = rows.find(({ bytes }) => bytes !== null && bytes > pace.lagBoundBytes);
    if (behind === undefined) break;
    waited = true;
    const megabytes = Math.ceil((behind.bytes ?? 0) / 1024 / 1024);
    board.say(
      "pace",
      new CleaveError(
        "REMOVAL_WAITS",
        `removal waits for the replica ${behind.name}, which is ${megabytes} MB behind`,
      ),
    );
    await clock.sleep(LOOK_EVERY_MS, signal);
  }
  if (waited) board.say("pace", null);
}
