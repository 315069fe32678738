/** The base copy: one snapshot of the source, several tables at once, straight from server to server. */
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { CleaveError } from "../../../../protocol/errors.ts";
import { ownedCondition } from "../analysis/selection.ts";
import { type Endpoint, passwordOf } from "../config.ts";
import { connect, describeEndpoint, discard, toPostgresError } from "../connection.ts";
import { quoteIdentifier, quoteLiteral } from "../guard/queryable.ts";
import { type MovedTable, type Moving, rowsOf } from "./moved-tables.ts";
import { CANONICAL_SETTINGS } from "./wal-stream.ts";

/** A slot and what was in the database at the moment from which it streams. */
export interface Snapshot {
  /** The stream begins with the first transaction that committed after this. */
  readonly consistentLsn: string;
  readonly name: string;
  /** The snapshot can be joined until then. */
  release(): void;
}

/** @throws CleaveError POSTGRES_SETTING when the server refuses (wal_level, no free slot). */
export async function createSlot(source: Endpoint, slot: string): Promise<Snapshot> {
  const client = new pg.Client({
    host: source.host,
    port: source.port,
    database: source.database,
    user: source.user,
    password: (await passwordOf(source)) ?? "",
    application_name: slot,
    connectionTimeoutMillis: 3_000,
    ...({ replication: "database" } as object),
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${quoteIdentifier(slot)} LOGICAL pgoutput (SNAPSHOT 'export')`,
    );
    const row = rows[0];
    if (row === undefined) throw new CleaveError("INTERNAL", "the server made a slot without a word");
    return { consistentLsn: row.consistent_point, name: row.snapshot_name, release: () => discard(client) };
  } catch (error) {
    discard(client);
    const known = toPostgresError(error, describeEndpoint(source));
    throw known.code === "INTERNAL"
      ? new CleaveError("POSTGRES_SETTING", `${describeEndpoint(source)}: ${(error as Error).message}`, {
          cause: error,
        })
      : known;
  }
}

/** Triggers and foreign keys of the target see nothing of what is applied; they are checked before the fence. */
export const APPLY_SETTINGS = Object.entries({
  ...CANONICAL_SETTINGS,
  session_replication_role: "replica",
  search_path: "pg_catalog",
  synchronous_commit: "on",
})
  .map(([name, value]) => `SET ${name} = ${quoteLiteral(value)}`)
  .join("; ");

/** Of connections that write to the target. */
export interface ApplySession {
  /** SQL that is run once, after `APPLY_SETTINGS`. */
  readonly setup: string;
  /** SQL at the beginning of every transaction that writes: it fails (CL409) when this copy may not write any more. */
  readonly gate: string;
}

/** SQL that begins a transaction that writes to the target. */
export function beginApplying(session: ApplySession | undefined): string {
  const begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
  return session === undefined ? begin : `${begin}; ${session.gate}`;
}

/** What the gate says is no fault of the server. */
export function atTheGate(error: unknown): unknown {
  const { code, message } = error as { code?: string; message?: string };
  return code === "CL409" ? new CleaveError("COMMAND_NOT_POSSIBLE", message ?? "", { cause: error }) : error;
}

export interface CopyOptions {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly moving: Moving;
  readonly snapshot: Snapshot;
  readonly concurrency: number;
  readonly session?: ApplySession;
  readonly signal: AbortSignal;
  /** After each table, with its number of rows. */
  readonly onTable?: (table: string, rows: number) => void;
}

/**
 * Copies the organizations' rows of every table. Each table is one transaction on the target, so it is there whole or
 * not at all; and a table comes after those by which its rows' owners are found, so that whatever a copy that was cut
 * off has left can be told from the rows of others, and removed (`removeRows`).
 * @returns the number of rows. @throws what either server says; the signal's reason.
 */
export async function copyRows(options: CopyOptions): Promise<number> {
  let rows = 0;
  const deepest = Math.max(0, ...options.moving.tables.map(({ depth }) => depth));
  for (let depth = 0; depth <= deepest; depth++)
    rows += await copyLevel(
      options,
      options.moving.tables.filter((table) => table.depth === depth),
    );
  return rows;
}

async function copyLevel(options: CopyOptions, tables: readonly MovedTable[]): Promise<number> {
  const { moving, signal } = options;
  const waiting = [...tables];
  const concurrency = Math.min(options.concurrency, waiting.length);
  let rows = 0;
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const worker = async () => {
    const source = await connect(options.source, { applicationName: "cleave-copy" });
    const target = await connect(options.target, { applicationName: "cleave-copy" });
    const cut = () => {
      discard(source);
      discard(target);
    };
    either.addEventListener("abort", cut, { once: true });
    try {
      await source.query(settingsOf(CANONICAL_SETTINGS));
      await source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
      await source.query(`SET TRANSACTION SNAPSHOT ${quoteLiteral(options.snapshot.name)}`);
      await target.query(APPLY_SETTINGS);
      if (options.session) await target.query(options.session.setup);
      for (let table = waiting.shift(); table !== undefined; table = waiting.shift()) {
        either.throwIfAborted();
        const count = await copyTable(source, target, moving, table, options.session);
        rows += count;
        options.onTable?.(table.name, count);
      }
    } catch (error) {
      failed.abort(error);
      throw error;
    } finally {
      either.removeEventListener("abort", cut);
      cut();
    }
  };
  const results = await Promise.allSettled(Array.from({ length: concurrency }, worker));
  signal.throwIfAborted();
  // The first failure: the others were cut because of it.
  if (failed.signal.aborted)
    throw toPostgresError(atTheGate(failed.signal.reason), describeEndpoint(options.target));
  const rejected = results.find((result) => result.status === "rejected");
  if (rejected !== undefined) throw rejected.reason;
  return rows;
}

const settingsOf = (settings: Readonly<Record<string, string>>) =>
  Object.entries(settings)
    .map(([name, value]) => `SET ${name} = ${quoteLiteral(value)}`)
    .join("; ");

/** Removes the organizations' rows from the target, children first. For a copy that was cut off or given up. */
export async function removeRows(target: Endpoint, moving: Moving, session?: ApplySession): Promise<number> {
  const db = await connect(target, { applicationName: "cleave-copy" });
  let rows = 0;
  try {
    await db.query(APPLY_SETTINGS);
    if (session) await db.query(session.setup);
    await db.query(beginApplying(session));
    for (const table of [...moving.tables].sort((a, b) => b.depth - a.depth)) {
      const result = await db.query(
        `DELETE FROM ${table.quoted} AS "row" WHERE ${ownedCondition(moving.ownership, table.name, '"row"', moving.keys)}`,
      );
      rows += result.rowCount ?? 0;
    }
    await db.query("COMMIT");
    return rows;
  } catch (error) {
    throw atTheGate(error);
  } finally {
    discard(db);
  }
}

async function copyTable(
  source: pg.Client,
  target: pg.Client,
  moving: Moving,
  table: MovedTable,
  session: ApplySession | undefined,
): Promise<number> {
  const columns = table.columns.map(({ quoted }) => quoted).join(", ");
  const chosen = table.columns.map(({ quoted }) => `"row".${quoted}`).join(", ");
  await target.query(beginApplying(session));
  try {
    const out = source.query(copyTo(`COPY (SELECT ${chosen} FROM ${rowsOf(moving, table)}) TO STDOUT`));
    const into = target.query(copyFrom(`COPY ${table.quoted} (${columns}) FROM STDIN`));
    await pipeline(out, into);
    await target.query("COMMIT");
    return into.rowCount ?? 0;
  } catch (error) {
    await target.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
