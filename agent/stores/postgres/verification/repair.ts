/**
 * Makes rows of the target what the source has: those of tables that a change of the schema has changed without a change
 * of any row (a partition that came or went, a rewritten column). Nothing is written that was not compared to differ, and
 * what is written is compared again: a row that changed on the source meanwhile is noted by its writer.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import { keyTypes, type MovedTable, type Moving } from "../replication/moved-tables.ts";
import { type ApplySession, beginApplying } from "../replication/session.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import type { Difference } from "./comparison.ts";
import { asTexts, columnsOf, given, isGiven, parameters, type RowKey } from "./keys.ts";

/** Rows of one transaction at most. */
const BATCH = 200;

export interface Repair {
  readonly source: Database;
  /** Of the apply role. */
  readonly writer: Database;
  readonly moving: Moving;
  readonly session: ApplySession;
}

/**
 * Parents come before their children, and go after them. What of one table cannot be copied keeps no other waiting.
 * @throws CleaveError CHANGE_NOT_APPLICABLE naming the tables.
 */
export async function repairRows(repair: Repair, differences: readonly Difference[]): Promise<void> {
  const byTable = Map.groupBy(differences, ({ table }) => table);
  const tables = repair.moving.tables
    .filter(({ name }) => byTable.has(name))
    .sort((a, b) => a.depth - b.depth);
  const keysOf = ({ name }: MovedTable, isGone: boolean) =>
    (byTable.get(name) ?? [])
      .filter(({ what }) => (what === "is on the target alone") === isGone)
      .map(({ key }) => key);
  const failures: CleaveError[] = [];
  const attempt = async (table: MovedTable, isGone: boolean) => {
    try {
      await inBatches(repair, table, keysOf(table, isGone));
    } catch (error) {
      if (!(error instanceof CleaveError)) throw error;
      failures.push(error);
    }
  };
  for (const table of tables.toReversed()) await attempt(table, true);
  for (const table of tables) await attempt(table, false);
  const [first] = failures;
  if (first !== undefined)
    throw new CleaveError(first.code, failures.map(({ message }) => message).join("; "), { cause: first });
}

async function inBatches(repair: Repair, table: MovedTable, keys: readonly RowKey[]): Promise<void> {
  for (let from = 0; from < keys.length; from += BATCH) {
    const batch = keys.slice(from, from + BATCH);
    try {
      await replaceRows(repair, table, batch);
    } catch (error) {
      await repair.writer.query("ROLLBACK").catch(() => undefined);
      const { code, message } = error as { code?: string; message: string };
      // Constraints, values, names and types: see refusals.ts.
      if (code === undefined || !/^(22|23|42)/.test(code)) throw error;
      throw new CleaveError("CHANGE_NOT_APPLICABLE", `copying rows of ${table.name}: ${message}`, {
        cause: error,
      });
    }
  }
}

/** What the source has of these rows now takes the place of what the target has. */
async function replaceRows(
  { source, writer, moving, session }: Repair,
  table: MovedTable,
  keys: readonly RowKey[],
): Promise<void> {
  const names = table.columns.map(({ name }) => name);
  const { from, typed } = given(keyTypes(table));
  const matches = columnsOf(table.key, '"row"').map((column, at) => `${column} = ${typed[at]}`);
  const { rows } = await source.query<{ content: (string | null)[] }>(
    `SELECT ${asTexts(names, '"row"')} AS content FROM ${from} JOIN ${table.quoted} AS "row" ON ${matches.join(" AND ")}
      WHERE ${table.owner} = ANY (${moving.texts})`,
    parameters(keys, table.key.length),
  );
  await writer.query(beginApplying(session));
  await writer.query("SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = on");
  await writer.query(
    `DELETE FROM ${table.quoted} AS "row" WHERE ${isGiven(table.key, keyTypes(table), '"row"')} AND ${table.owner} = ANY (${moving.texts})`,
    parameters(keys, table.key.length),
  );
  if (rows.length > 0) {
    const values = given(table.columns.map(({ type }) => type));
    await writer.query(
      `INSERT INTO ${table.quoted} (${names.map(quoteIdentifier).join(", ")}) OVERRIDING SYSTEM VALUE
       SELECT ${values.typed.join(", ")} FROM ${values.from}`,
      parameters(
        rows.map(({ content }) => content),
        names.length,
      ),
    );
  }
  await writer.query("COMMIT");
}
