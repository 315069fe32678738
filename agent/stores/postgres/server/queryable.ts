/** What the guard's functions are given: one connection, or a pool to borrow one from. */
import pg from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";

/** A superuser's connection to the Pod's database. A single client must not be used by others meanwhile. */
export type Queryable = pg.ClientBase | pg.Pool;

/** Runs `work` on one connection, which a transaction needs. */
export async function onOneConnection<T>(
  db: Queryable,
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  if (!(db instanceof pg.Pool)) return work(db);
  const client = await db.connect();
  try {
    const result = await work(client);
    client.release();
    return result;
  } catch (error) {
    // Whatever state it was left in, nobody else gets it.
    client.release(true);
    throw error;
  }
}

/** Runs `work` in one READ COMMITTED transaction; what it throws rolls everything back. */
export async function inTransaction<T>(
  db: Queryable,
  work: (client: pg.ClientBase) => Promise<T>,
  access: "READ WRITE" | "READ ONLY" = "READ WRITE",
): Promise<T> {
  return onOneConnection(db, async (client) => {
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${access}`);
    try {
      const result = await work(client);
      await client.query("COMMIT");
      return result;
    } catch (error) {
      await client.query("ROLLBACK").catch(() => undefined);
      throw error;
    }
  });
}

/** SQLSTATE of anything thrown by a query. */
export function sqlStateOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}

const LOCK_NOT_AVAILABLE = "55P03";
const DEADLOCK_DETECTED = "40P01";

export function isLockTimeout(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === LOCK_NOT_AVAILABLE || state === DEADLOCK_DETECTED;
}

/** On a standby: a query that was cancelled because replay needed what it held. */
export function isRecoveryConflict(error: unknown): boolean {
  return error instanceof Error && /conflict with recovery/.test(error.message);
}

export const quoteIdentifier = pg.escapeIdentifier;
export const quoteLiteral = pg.escapeLiteral;

/** `schema.table` of the rules file as SQL. @throws CleaveError OWNERSHIP_RULE_INVALID */
export function quoteTable(table: string): string {
  const [schema, name, ...rest] = table.split(".");
  if (schema === undefined || name === undefined || rest.length > 0)
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `${table}: write a table as schema.table`);
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}
