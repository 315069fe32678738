/** Follows a source's slot: from the origin's position on the target, until it is stopped or cannot go on. */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { Endpoint } from "../config.ts";
import {
  connect,
  cutWhenAborted,
  type Database,
  describeEndpoint,
  discard,
  toPostgresError,
} from "../server/connection.ts";
import { quoteLiteral } from "../server/queryable.ts";
import { Applier } from "./apply.ts";
import type { Moving } from "./moved-tables.ts";
import type { Value } from "./pgoutput.ts";
import { APPLY_SETTINGS, type ApplySession, atTheGate, settingsSql } from "./session.ts";
import type { SchemaChanges } from "./suspects.ts";
import { readTraits } from "./traits.ts";
import { WalStream } from "./wal-stream.ts";

export interface FollowOptions {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly moving: Moving;
  /** Also the origin's name. */
  readonly slot: string;
  readonly publication: string;
  readonly session?: ApplySession;
  /** What is known of changes of the source's schema; without it they end the stream. */
  readonly changes?: SchemaChanges;
  /** An origin on the source whose transactions are passed over. */
  readonly without?: string;
  readonly signal: AbortSignal;
  /** Everything of the source up to this position is durable on the target. */
  readonly onApplied?: (lsn: string) => void;
  readonly onMarker?: (values: Readonly<Record<string, Value>>) => void;
  /** Called before it ends with an error: the commit of the transaction that was being read, or null before the first. */
  readonly onRefused?: (commitLsn: string | null) => void;
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

/**
 * Resolves when `signal` aborts. @throws whatever keeps it from going on; calling it again continues where it was.
 * Everything before the transaction that could not be applied is on the target then.
 */
export async function follow(options: FollowOptions): Promise<void> {
  const refused = { inGroup: false };
  try {
    await attempt(options, false, refused);
  } catch (error) {
    // One of several: the others are fine, and the one is to be named after them.
    if (!refused.inGroup) throw error;
    await attempt(options, true, refused);
  }
}

async function attempt(options: FollowOptions, alone: boolean, refused: { inGroup: boolean }): Promise<void> {
  const { target, slot, signal } = options;
  const db = await connect(target, { applicationName: slot, pipeline: true });
  const cut = () => discard(db);
  try {
    await cutWhenAborted(signal, cut, () => applyAll(db, options, alone, refused));
  } catch (error) {
    if (signal.aborted) return;
    throw toPostgresError(atTheGate(error), describeEndpoint(target));
  } finally {
    cut();
  }
}

async function applyAll(
  db: Database,
  options: FollowOptions,
  alone: boolean,
  refused: { inGroup: boolean },
): Promise<void> {
  const { source, target, moving, slot, publication, session, without, changes, signal } = options;
  const { onApplied, onMarker, onRefused } = options;
  // Nothing is asked of the target while nothing comes, so its loss would go unnoticed.
  const lost = new AbortController();
  db.once("end", () => lost.abort());
  const either = AbortSignal.any([signal, lost.signal]);
  await db.query(APPLY_SETTINGS);
  await db.query(PLANNER_SETTINGS);
  const traits = await readTraits(db, moving);
  const from = await originPosition(db, slot);
  if (from === null)
    throw new CleaveError("INTERNAL", `there is no replication origin ${slot} on the target`);
  await onceFree(signal, () => db.query(`SELECT pg_replication_origin_session_setup(${quoteLiteral(slot)})`));
  if (session) await db.query(session.setup);
  const stream = await onceFree(signal, () => WalStream.open({ endpoint: source, slot, publication, from }));
  const applier = new Applier(db, { moving, traits, onMarker, session, alone, without, changes });
  const confirm = (lsn: string) => {
    stream.confirm(lsn);
    onApplied?.(lsn);
  };
  let inTransaction = false;
  let commitLsn: string | null = null;
  try {
    for (;;) {
      const message = stream.take() ?? (await stream.next(either));
      if (signal.aborted) return;
      if (message === null)
        throw new CleaveError("POSTGRES_UNREACHABLE", `${describeEndpoint(target)} ended the connection`);
      if (message.tag === "begin") [inTransaction, commitLsn] = [true, message.finalLsn];
      if (message.tag === "commit") inTransaction = false;
      const applying = applier.apply(message, stream.waiting > 0);
      const applied = applying === null ? null : await applying;
      if (applied !== null) confirm(applied.endLsn);
      if (inTransaction || stream.waiting > 0) continue;
      // Between transactions, with nothing unread: what the server has passed over held nothing for this stream.
      const passed = stream.sentUpTo;
      await applier.settle();
      confirm(passed);
    }
  } catch (error) {
    onRefused?.(commitLsn);
    refused.inGroup = OF_A_TRANSACTION.has((error as CleaveError).code) && applier.grouped > 0;
    throw error;
  } finally {
    stream.close();
  }
}

/** A server takes a moment to notice that a connection has ended, and the slot or the origin is in use until then. */
const FREE_WITHIN_MS = 5_000;

async function onceFree<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + FREE_WITHIN_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const { code, cause } = error as { code?: string; cause?: { code?: string } };
      // object_in_use
      if ((code !== "55006" && cause?.code !== "55006") || performance.now() > giveUpAt) throw error;
      await sleep(20, undefined, { signal });
    }
  }
}

/** What a transaction itself is the reason of, so that those before it can be applied. */
const OF_A_TRANSACTION: ReadonlySet<string> = new Set<ErrorCode>([
  "MEMBERSHIP_CHANGED",
  "SCHEMA_CHANGED",
  "SCHEMA_DIFFERS",
  "CHANGE_NOT_APPLICABLE",
]);

/**
 * Rows are found by their keys. Plans are made once, when a table may be empty, and serve for as long as it takes; so
 * the planner must not think a look at all rows cheap.
 */
const PLANNER_SETTINGS = settingsSql({
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off",
});
