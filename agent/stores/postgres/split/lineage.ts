/**
 * Which history a server's data has: system identifier, timeline and the points where timelines were switched. Two
 * servers with the same timeline number can still have different histories, so the switch points are compared too.
 */
import { type Lsn, lsnDistanceBytes, lsnToBytes } from "../../../../protocol/ids.ts";

export interface Lineage {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** Lines of the timeline's history file, `parent switchpoint` each; empty on the first timeline, null when unknown. */
  readonly history: readonly string[] | null;
}

export interface ServerPosition extends Lineage {
  readonly inRecovery: boolean;
  readonly clusterName: string;
  /** Of a standby: the last replayed; of a primary: the end of what was inserted. */
  readonly lsn: Lsn | null;
  /** Of a standby: its walreceiver streams. */
  readonly streaming: boolean;
  /** Of a standby: it is asked to pause replay, or has: what it receives stays unread, and a lag of none proves nothing. */
  readonly paused: boolean;
}

interface Row {
  readonly system_identifier: string;
  readonly in_recovery: boolean;
  readonly cluster_name: string;
  readonly timeline: number;
  readonly lsn: Lsn | null;
  readonly streaming: boolean;
  readonly paused: boolean;
  readonly history: string | null;
}

// A standby's control file lags behind (it is written at restartpoints), so the walreceiver's timeline goes first.
const POSITION = `
  SELECT s.*, CASE WHEN s.timeline = 1 THEN ''
    ELSE pg_read_file('pg_wal/' || lpad(upper(to_hex(s.timeline)), 8, '0') || '.history', 0, 1000000, true)
    END AS history
  FROM (
    SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
      r.in_recovery, current_setting('cluster_name') AS cluster_name,
      CASE WHEN r.in_recovery
        THEN coalesce(w.received_tli, nullif((SELECT min_recovery_end_timeline FROM pg_control_recovery()), 0),
          (SELECT timeline_id FROM pg_control_checkpoint()))
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline,
      (CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS lsn,
      coalesce(w.status = 'streaming', false) AS streaming,
      CASE WHEN r.in_recovery THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END AS paused
    FROM (SELECT pg_is_in_recovery() AS in_recovery) r LEFT JOIN pg_stat_wal_receiver w ON true
  ) s`;

type Query = <Result extends object>(text: string) => Promise<readonly Result[]>;

/** Everything in one round trip. */
export async function readPosition(query: Query): Promise<ServerPosition> {
  const [row] = (await query<Row>(POSITION)) as [Row];
  return {
    systemIdentifier: row.system_identifier,
    inRecovery: row.in_recovery,
    clusterName: row.cluster_name,
    timeline: row.timeline,
    lsn: row.lsn,
    streaming: row.streaming,
    paused: row.paused,
    history: row.history === null ? null : parseHistory(row.history),
  };
}

const WAL_PAGE_BYTES = 8192n;
/** Of the first page of a segment and of every other page. */
const PAGE_HEADER_BYTES: ReadonlySet<bigint> = new Set([40n, 24n]);

/**
 * WAL that the source has inserted and the standby has not replayed. An insert position right behind a page's header
 * has nothing in that page yet, and a standby that has replayed everything stands before the header.
 */
export function lagBytes(own: Lsn, source: Lsn): number {
  const inPage = lsnToBytes(source) % WAL_PAGE_BYTES;
  const headerBytes = PAGE_HEADER_BYTES.has(inPage) ? Number(inPage) : 0;
  return Math.max(0, lsnDistanceBytes(own, source) - headerBytes);
}

/** `parent switchpoint reason` a line; the reason is prose (PostgreSQL's timeline.c). */
export function parseHistory(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim())
    .filter((line) => line !== "")
    .map((line) => line.split(/\s+/).slice(0, 2).join(" "));
}

/**
 * Why a standby is not of the source's history, or null. `own` has to be read before `source`, for a standby can
 * never have replayed more than the source had written by then.
 */
export function lineageProblem(own: ServerPosition, source: ServerPosition): string | null {
  if (own.systemIdentifier !== source.systemIdentifier)
    return `its system identifier is ${own.systemIdentifier}, the source's is ${source.systemIdentifier}`;
  if (!own.inRecovery) return "it is no standby any more: it was promoted by something else than Cleave";
  if (own.timeline !== source.timeline)
    return `it is on timeline ${own.timeline}, the source on ${source.timeline}`;
  if (own.history === null || source.history === null)
    return `the history of timeline ${own.timeline} is missing on ${own.history === null ? "it" : "the source"}`;
  if (own.history.join("\n") !== source.history.join("\n"))
    return `timeline ${own.timeline} has another history than on the source`;
  if (own.lsn !== null && source.lsn !== null && lsnDistanceBytes(own.lsn, source.lsn) < 0)
    return `it has replayed ${own.lsn}, which the source (at ${source.lsn}) has not written`;
  return null;
}
