/** Follows a source's slot: from the origin's position on the target, until it is stopped or cannot go on. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Endpoint } from "../config.ts";
import { connect, type Database, describeEndpoint, discard, toPostgresError } from "../connection.ts";
import { quoteLiteral } from "../guard/queryable.ts";
import { Applier } from "./apply.ts";
import type { Moving } from "./moved-tables.ts";
import type { Value } from "./pgoutput.ts";
import { APPLY_SETTINGS, type ApplySession, atTheGate } from "./session.ts";
import { WalStream } from "./wal-stream.ts";

export interface FollowOptions {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly moving: Moving;
  /** Also the origin's name. */
  readonly slot: string;
  readonly publication: string;
  readonly session?: ApplySession;
  readonly signal: AbortSignal;
  /** Everything of the source up to this position is durable on the target. */
  readonly onApplied?: (lsn: string) => void;
  readonly onMarker?: (values: Readonly<Record<string, Value>>) => void;
}

/** Says on the target from where the stream goes on, before the copy's rows are relied on. Idempotent. */
export async function createOrigin(db: Database, name: string, consistentLsn: string): Promise<void> {
  await db.query(
    `SELECT pg_replication_origin_create(${quoteLiteral(name)}) WHERE pg_replication_origin_oid(${quoteLiteral(name)}) IS NULL`,
  );
  await db.query(
    `SELECT pg_replication_origin_advance(${quoteLiteral(name)}, ${quoteLiteral(consistentLsn)}::pg_lsn)`,
  );
}

/** Null when there is no origin of this name: nothing was copied under it. */
export async function originPosition(db: Database, name: string): Promise<string | null> {
  const { rows } = await db.query<{ lsn: string | null }>(
    `SELECT CASE WHEN pg_replication_origin_oid(${quoteLiteral(name)}) IS NULL THEN NULL
      ELSE COALESCE(pg_replication_origin_progress(${quoteLiteral(name)}, true)::text, '0/0') END AS lsn`,
  );
  return rows[0]?.lsn ?? null;
}

/** Resolves when `signal` aborts. @throws whatever keeps it from going on; calling it again continues where it was. */
export async function follow(options: FollowOptions): Promise<void> {
  const { source, target, moving, slot, publication, signal } = options;
  const db = await connect(target, { applicationName: slot.slice(0, 63) });
  let stream: WalStream | null = null;
  // Nothing is asked of the target while nothing comes, so its loss would go unnoticed.
  const lost = new AbortController();
  db.once("end", () => lost.abort());
  const either = AbortSignal.any([signal, lost.signal]);
  try {
    await db.query(APPLY_SETTINGS);
    const from = await originPosition(db, slot);
    if (from === null)
      throw new CleaveError("INTERNAL", `there is no replication origin ${slot} on the target`);
    await db.query(`SELECT pg_replication_origin_session_setup(${quoteLiteral(slot)})`);
    if (options.session) await db.query(options.session.setup);
    stream = await WalStream.open({ endpoint: source, slot, publication, from });
    const applier = new Applier(db, moving, options.onMarker, options.session);
    let inTransaction = false;
    for (;;) {
      // Whatever is here unread: a stream that is busy would never end otherwise.
      if (signal.aborted) return;
      const message = await stream.next(either);
      if (message === null && signal.aborted) return;
      if (message === null)
        throw new CleaveError("POSTGRES_UNREACHABLE", `${describeEndpoint(target)} ended the connection`);
      if (message.tag === "begin") inTransaction = true;
      const applied = await applier.apply(message);
      if (applied !== null) {
        inTransaction = false;
        stream.confirm(applied.endLsn);
        options.onApplied?.(applied.endLsn);
      }
      // Between transactions, with nothing unread: what the server has passed over held nothing for this stream.
      if (!inTransaction && stream.waiting === 0) {
        stream.confirm(stream.sentUpTo);
        options.onApplied?.(stream.sentUpTo);
      }
    }
  } catch (error) {
    throw toPostgresError(atTheGate(error), describeEndpoint(target));
  } finally {
    stream?.close();
    discard(db);
  }
}
