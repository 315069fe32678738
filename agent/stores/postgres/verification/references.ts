/**
 * Rows that belong to nobody alone (users, shared files) and that a moving organization's rows refer to. They have to be
 * on the target: a missing one is copied once, and one that is there has to be the same one (rule 11: an id that is
 * somebody else's there is no match).
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import { quoteIdentifier } from "../fence/queryable.ts";
import type { ForeignKey, Schema, Table } from "../inventory/schema.ts";
import { keyTypes, type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { asTexts, columnsOf, given, isGiven, parameters, type RowKey } from "./keys.ts";

/** A constraint of the target that leads from a moved table to one that is not moved. */
export interface OutwardReference {
  readonly from: MovedTable | Table;
  readonly key: ForeignKey;
  readonly to: Table;
}

export function outwardReferences(moving: Moving, target: Schema): OutwardReference[] {
  const moved = new Map(moving.tables.map((table) => [table.name, table]));
  return [...target.values()].flatMap((table) => {
    const from = moved.get(table.name);
    return from === undefined ? [] : table.foreignKeys.flatMap((key) => outward(from, key, moved, target));
  });
}

function outward(
  from: MovedTable | Table,
  key: ForeignKey,
  moved: ReadonlyMap<string, unknown>,
  target: Schema,
): OutwardReference[] {
  const to = target.get(key.parent);
  return to === undefined || moved.has(key.parent) ? [] : [{ from, key, to }];
}

const BATCH = 1_000;
/** Examples that a message names. */
const NAMED = 5;

export interface ReferenceSides {
  readonly source: Database;
  readonly target: Database;
  /** As the apply role. */
  readonly writer: Database;
  readonly moving: Moving;
  readonly schema: Schema;
}

/**
 * Copies what is missing, and what that refers to in turn. `keys` limits it to those rows of a moved table.
 * @returns the number of rows copied.
 * @throws CleaveError SHARED_ROW_CONFLICT naming the rows that cannot be copied.
 */
export async function ensureReferences(
  sides: ReferenceSides,
  only: { readonly table: MovedTable; readonly keys: readonly RowKey[] } | null = null,
): Promise<number> {
  let copied = 0;
  const moved = new Map(sides.moving.tables.map((table) => [table.name, table]));
  for (const reference of outwardReferences(sides.moving, sides.schema)) {
    if (only !== null && reference.from.name !== only.table.name) continue;
    const values = await missing(sides, reference, only?.keys ?? null);
    copied += await copyParents(sides, reference, values, moved, 0);
  }
  return copied;
}

/** Key values that the organizations' rows on the target refer to, and that nothing there has. */
async function missing(
  { target, moving }: ReferenceSides,
  { from, key, to }: OutwardReference,
  keys: readonly RowKey[] | null,
): Promise<string[][]> {
  const moved = from as MovedTable;
  const present = columnsOf(key.columns, '"row"').map((column) => `${column} IS NOT NULL`);
  // By the key first: whose a row is takes look-ups, and there are as many rows as the table has.
  const which =
    keys === null
      ? rowsOf(moving, moved)
      : `${moved.quoted} AS "row" WHERE ${isGiven(moved.key, keyTypes(moved), '"row"')} AND ${moved.owner} = ANY (${moving.texts})`;
  const match = key.parentKey.map(
    (column, at) => `"to".${quoteIdentifier(column)} = ${columnsOf(key.columns, '"row"')[at]}`,
  );
  const { rows } = await target.query<{ value: string[] }>(
    `SELECT DISTINCT ${asTexts(key.columns, '"row"')} AS value FROM ${which}
       AND ${present.join(" AND ")} AND NOT EXISTS (SELECT FROM ${to.quoted} AS "to" WHERE ${match.join(" AND ")})`,
    keys === null ? [] : parameters(keys, moved.key.length),
  );
  return rows.map(({ value }) => value);
}

async function copyParents(
  sides: ReferenceSides,
  { key, to }: { readonly key: { readonly parentKey: readonly string[] }; readonly to: Table },
  values: readonly (readonly string[])[],
  moved: ReadonlyMap<string, MovedTable>,
  depth: number,
): Promise<number> {
  if (values.length === 0) return 0;
  if (depth > 20)
    throw new CleaveError("SHARED_ROW_CONFLICT", `the references of ${to.name} lead on without an end`);
  const columns = [...to.columns.values()].filter(({ generated }) => !generated);
  let copied = 0;
  for (let from = 0; from < values.length; from += BATCH) {
    const batch = values.slice(from, from + BATCH);
    const { rows } = await sides.source.query<{ content: (string | null)[] }>(
      `SELECT ${asTexts(
        columns.map(({ name }) => name),
        '"to"',
      )} AS content FROM ${to.quoted} AS "to" WHERE ${matching(to, key.parentKey)}`,
      parameters(batch, key.parentKey.length),
    );
    // What these rows refer to goes first.
    for (const further of to.foreignKeys) {
      const [next] = outward(to, further, moved, sides.schema);
      if (next === undefined || next.to.name === to.name) continue;
      const places = further.columns.map((column) => columns.findIndex(({ name }) => name === column));
      const wanted = rows
        .map(({ content }) => places.map((place) => content[place] ?? null))
        .filter((value): value is string[] => value.every((one) => one !== null));
      const absent = await absentOf(sides.target, next.to, further.parentKey, wanted);
      copied += await copyParents(sides, { key: further, to: next.to }, absent, moved, depth + 1);
    }
    copied += await insertRows(sides.writer, to, columns, rows);
    const left = await absentOf(sides.target, to, key.parentKey, batch);
    if (left.length > 0)
      throw new CleaveError(
        "SHARED_ROW_CONFLICT",
        `${to.name} has no row with ${key.parentKey.join(", ")} = ${left
          .slice(0, NAMED)
          .map((value) => value.join(", "))
          .join(
            "; ",
          )} on the target, and the source's cannot be copied: another row there has one of its unique values`,
      );
  }
  return copied;
}

const matching = (to: Table, parentKey: readonly string[]) =>
  isGiven(
    parentKey,
    parentKey.map((column) => to.columns.get(column)?.type ?? "text"),
    '"to"',
  );

async function absentOf(
  target: Database,
  to: Table,
  parentKey: readonly string[],
  values: readonly (readonly string[])[],
): Promise<string[][]> {
  if (values.length === 0) return [];
  const { rows } = await target.query<{ value: string[] }>(
    `SELECT ${asTexts(parentKey, '"to"')} AS value FROM ${to.quoted} AS "to" WHERE ${matching(to, parentKey)}`,
    parameters(values, parentKey.length),
  );
  const present = new Set(rows.map(({ value }) => JSON.stringify(value)));
  const absent = new Map<string, string[]>();
  for (const value of values)
    if (!present.has(JSON.stringify(value))) absent.set(JSON.stringify(value), [...value]);
  return [...absent.values()];
}

async function insertRows(
  writer: Database,
  to: Table,
  columns: readonly { readonly name: string; readonly type: string }[],
  rows: readonly { readonly content: readonly (string | null)[] }[],
): Promise<number> {
  if (rows.length === 0) return 0;
  const names = columns.map(({ name }) => quoteIdentifier(name));
  const { from, typed } = given(columns.map(({ type }) => type));
  const { rowCount } = await writer.query(
    `INSERT INTO ${to.quoted} (${names.join(", ")}) OVERRIDING SYSTEM VALUE
     SELECT ${typed.join(", ")} FROM ${from} ON CONFLICT DO NOTHING`,
    parameters(
      rows.map(({ content }) => content),
      columns.length,
    ),
  );
  return rowCount ?? 0;
}

/**
 * Rows that the organizations refer to on the source, and that are others on the target: another content where content
 * is what a row is (`shared`), other unique values where it is the cluster's (a user may have changed a preference).
 */
export async function conflictingReferences(
  source: Database,
  target: Database,
  moving: Moving,
  schema: Schema,
  isShared: (table: string) => boolean,
): Promise<string[]> {
  const conflicts: string[] = [];
  for (const { from, key, to } of outwardReferences(moving, schema)) {
    const identifying = isShared(to.name)
      ? [...to.columns.values()].filter(({ generated }) => !generated).map(({ name }) => name)
      : [...new Set([...key.parentKey, ...to.keys.flatMap(({ columns }) => columns)])];
    const read = (values: readonly (readonly string[])[], db: Database) =>
      db.query<{ value: string[]; content: string }>(
        `SELECT ${asTexts(key.parentKey, '"to"')} AS value, ROW(${columnsOf(identifying, '"to"').join(", ")})::pg_catalog.text AS content FROM ${to.quoted} AS "to" WHERE ${matching(to, key.parentKey)}`,
        parameters(values, key.parentKey.length),
      );
    const present = columnsOf(key.columns, '"row"').map((column) => `${column} IS NOT NULL`);
    const { rows } = await source.query<{ value: string[] }>(
      `SELECT DISTINCT ${asTexts(key.columns, '"row"')} AS value FROM ${rowsOf(moving, from as MovedTable)} AND ${present.join(" AND ")}`,
    );
    for (let at = 0; at < rows.length && conflicts.length < NAMED; at += BATCH) {
      const values = rows.slice(at, at + BATCH).map(({ value }) => value);
      const ours = new Map(
        (await read(values, source)).rows.map(({ value, content }) => [JSON.stringify(value), content]),
      );
      for (const { value, content } of (await read(values, target)).rows)
        if (ours.get(JSON.stringify(value)) !== content && conflicts.length < NAMED)
          conflicts.push(
            `${to.name} ${key.parentKey.join(", ")} = ${value.join(", ")} is ${content} on the target`,
          );
    }
  }
  return conflicts;
}
