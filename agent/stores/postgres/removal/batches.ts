/**
 * Removes the rows that a group of organizations has in one table, batch by batch. Which rows, is told by one way
 * (conditions that indexes serve); whose each of them is, is told again by another (the guard's) while it is deleted,
 * and a batch with a row on which the two disagree is undone.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { KeyText } from "../replication/ranges.ts";
import type { Database } from "../server/connection.ts";
import { asTexts, columnsOf, isGiven, parameters } from "../verification/keys.ts";
import { type DormantTable, type KeyColumn, type Leaf, leavesOf, type Organizations } from "./tables.ts";

export interface BatchHooks {
  /** In the transaction that removes, before it does: throws when it must not. */
  allow(db: Database): Promise<void>;
  /** After each batch, with its rows: waits as long as is right. */
  removed(rows: number): Promise<void>;
}

/** Some rows, by what names them within `relation`. */
interface Batch {
  readonly relation: string;
  /** SQL, true for the rows that are named by `values`. */
  readonly named: string;
  readonly values: readonly unknown[];
  readonly rows: number;
}

/** Rows in the order in which they are found; null at the end. */
type Walk = () => Promise<Batch | null>;

/**
 * The table is walked until a walk finds nothing any more, for what is left when the parents go has no owner by which it
 * could be found later.
 * @throws CleaveError REMOVAL_DISAGREES naming a row whose owner is another; CHANGE_NOT_APPLICABLE when rows stay.
 */
export async function removeFromTable(
  db: Database,
  table: DormantTable,
  group: Organizations,
  batchRows: number,
  hooks: BatchHooks,
): Promise<void> {
  for (;;) {
    const walk = await startWalk(db, table, group, batchRows);
    let found = false;
    for (let batch = await walk(); batch !== null; batch = await walk()) {
      found = true;
      await hooks.removed(await removeBatch(db, table, group, batch, hooks));
    }
    if (!found) return;
  }
}

async function removeBatch(
  db: Database,
  table: DormantTable,
  group: Organizations,
  batch: Batch,
  hooks: BatchHooks,
): Promise<number> {
  const { relation, named, values } = batch;
  const members: ReadonlySet<string> = new Set<OrganizationId>(group);
  await db.query("BEGIN ISOLATION LEVEL READ COMMITTED");
  try {
    await hooks.allow(db);
    // Children went first, so the parents by which the owner is found are there.
    const { rows } = await db.query<{ owner: string | null; shown: string[] }>(
      `DELETE FROM ${relation} AS "row" WHERE ${named} RETURNING ${table.owner} AS owner, ${table.shown} AS shown`,
      [...values],
    );
    const stranger = rows.find(({ owner }) => owner === null || !members.has(owner));
    if (stranger !== undefined)
      throw new CleaveError(
        "REMOVAL_DISAGREES",
        `${table.name} with key (${stranger.shown.join(", ")}) was found as a row to be removed, and the guard's rule says that it belongs to ${stranger.owner ?? "nobody"}`,
      );
    if (rows.length === 0)
      throw new CleaveError(
        "CHANGE_NOT_APPLICABLE",
        `${batch.rows} rows of ${table.name} were to be removed and are still there: does a trigger keep them?`,
      );
    await db.query("COMMIT");
    return rows.length;
  } catch (error) {
    await db.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

async function startWalk(
  db: Database,
  table: DormantTable,
  group: Organizations,
  batchRows: number,
): Promise<Walk> {
  if (table.key !== null) return walkKeys(db, table, table.key, group, batchRows);
  return walkPages(db, table, group, batchRows, await leavesOf(db, table));
}

function walkKeys(
  db: Database,
  table: DormantTable,
  key: readonly KeyColumn[],
  group: Organizations,
  batchRows: number,
): Walk {
  const names = key.map(({ name }) => name);
  const types = key.map(({ type }) => type);
  const columns = columnsOf(names, '"row"').join(", ");
  const after = types.map((type, at) => `$${at + 2}::pg_catalog.text::${type}`).join(", ");
  let last: KeyText | null = null;
  return async () => {
    const beyond = last === null ? "" : `(${columns}) > (${after}) AND`;
    const { rows } = await db.query<{ key: string[] }>(
      `SELECT ${asTexts(names, '"row"')} AS key FROM ${table.quoted} AS "row" WHERE ${beyond} ${table.owned} ORDER BY ${columns} LIMIT ${batchRows}`,
      [group, ...(last ?? [])],
    );
    const end = rows.at(-1);
    if (end === undefined) return null;
    last = end.key;
    return {
      relation: table.quoted,
      named: isGiven(names, types, '"row"'),
      values: parameters(
        rows.map(({ key: values }) => values),
        names.length,
      ),
      rows: rows.length,
    };
  };
}

/** Rows fit on a page at most, about; what the walk begins with, before it knows how many of them are wanted. */
const ROWS_OF_PAGE = 200;
const MOST_PAGES = 100_000;

function walkPages(
  db: Database,
  table: DormantTable,
  group: Organizations,
  batchRows: number,
  leaves: readonly Leaf[],
): Walk {
  const least = Math.max(1, Math.floor(batchRows / ROWS_OF_PAGE));
  let span = least;
  let leaf = 0;
  let page = 0;
  return async () => {
    for (;;) {
      const at = leaves[leaf];
      if (at === undefined) return null;
      if (page >= at.pages) {
        leaf += 1;
        page = 0;
        continue;
      }
      const end = page + span;
      const { rows } = await db.query<{ ctid: string }>(
        `SELECT "row".ctid::pg_catalog.text AS ctid FROM ONLY ${at.quoted} AS "row"
          WHERE "row".ctid >= '(${page},0)'::pg_catalog.tid AND "row".ctid < '(${end},0)'::pg_catalog.tid AND ${table.owned}`,
        [group],
      );
      page = end;
      // Where few of the rows are theirs, more pages make a batch.
      span = rows.length < batchRows / 2 ? Math.min(2 * span, MOST_PAGES) : least;
      if (rows.length === 0) continue;
      return {
        relation: `ONLY ${at.quoted}`,
        named: `"row".ctid = ANY ($1::pg_catalog.tid[])`,
        values: [rows.map(({ ctid }) => ctid)],
        rows: rows.length,
      };
    }
  };
}
