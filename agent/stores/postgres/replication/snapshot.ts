/** A replication slot and the snapshot of the database at the very position from which it streams. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Endpoint } from "../config.ts";
import { connect, type Database, describeEndpoint, discard, toPostgresError } from "../server/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";

/** A slot and what was in the database at the moment from which it streams. */
export interface Snapshot {
  /** The stream begins with the first transaction that committed after this. */
  readonly consistentLsn: string;
  readonly name: string;
  /** The snapshot can be joined until then. */
  release(): void;
}

/**
 * The server waits for every transaction that is open before the slot streams from a consistent position.
 * @throws CleaveError POSTGRES_SETTING when the server refuses (wal_level, no free slot); the signal's reason.
 */
export async function createSlot(source: Endpoint, slot: string, signal?: AbortSignal): Promise<Snapshot> {
  // The snapshot lives in a transaction of this connection, which idles for as long as the copy takes.
  const client = await connect(source, { applicationName: slot, replication: "database" });
  const cut = () => discard(client);
  signal?.addEventListener("abort", cut, { once: true });
  try {
    signal?.throwIfAborted();
    const { rows } = await client.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${quoteIdentifier(slot)} LOGICAL pgoutput (SNAPSHOT 'export')`,
    );
    const row = rows[0];
    if (row === undefined) throw new CleaveError("INTERNAL", "the server made a slot without a word");
    return { consistentLsn: row.consistent_point, name: row.snapshot_name, release: () => discard(client) };
  } catch (error) {
    discard(client);
    signal?.throwIfAborted();
    const known = toPostgresError(error, describeEndpoint(source));
    throw known.code === "POSTGRES_STATEMENT"
      ? new CleaveError("POSTGRES_SETTING", `${describeEndpoint(source)}: ${(error as Error).message}`, {
          cause: error,
        })
      : known;
  } finally {
    signal?.removeEventListener("abort", cut);
  }
}

/** Makes the connection read what the snapshot holds, until its transaction ends. */
export async function joinSnapshot(db: Database, name: string): Promise<void> {
  await db.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  await db.query(`SET TRANSACTION SNAPSHOT ${quoteLiteral(name)}`);
}

/**
 * Whether the slot and the snapshot are there, and belong together: a name comes again after a restart of the server,
 * and a slot of this name that streamed already is beyond what the snapshot holds.
 */
export async function isHeld(
  db: Database,
  slot: string,
  snapshot: Pick<Snapshot, "name" | "consistentLsn">,
): Promise<boolean> {
  if (!(await hasSlotAt(db, slot, snapshot.consistentLsn))) return false;
  try {
    await joinSnapshot(db, snapshot.name);
    return true;
  } catch (error) {
    // invalid_parameter_value, undefined_object: there is no such snapshot (any more).
    const { code } = error as { code?: string };
    if (code === "22023" || code === "42704") return false;
    throw error;
  } finally {
    await db.query("ROLLBACK").catch(() => undefined);
  }
}

/** Whether the slot is there and would stream everything after `lsn`. */
export async function hasSlotAt(db: Database, slot: string, lsn: string): Promise<boolean> {
  const { rowCount } = await db.query(
    "SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn = $2::pg_catalog.pg_lsn AND wal_status IS DISTINCT FROM 'lost'",
    [slot, lsn],
  );
  return rowCount === 1;
}
