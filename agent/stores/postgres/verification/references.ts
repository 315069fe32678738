/**
 * Rows that belong to nobody alone (users, shared files) and that a moving organization's rows refer to. They have to be
 * on the target: a missing one is copied once, and one that is there has to be the same one (rule 11: an id that is
 * somebody else's there is no match).
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Schema } from "../inventory/schema.ts";
import { keyTypes, type MovedTable, type Moving, rowsOf, typeOf } from "../replication/moved-tables.ts";
import type { SharedReference } from "../replication/shared-references.ts";
import type { Database } from "../server/connection.ts";
import { asTexts, columnsOf, given, isGiven, parameters, type RowKey } from "./keys.ts";
import { pagesOf } from "./pages.ts";
import { byTable, type TouchedRow } from "./rows.ts";
import { copyShared } from "./shared-copy.ts";

const BATCH = 1_000;
/** Examples that a message names. */
const NAMED = 5;
/** Rows that are known to be the same on both Pods: so many are remembered. */
const REMEMBERED = 200_000;

export interface ReferenceSides {
  readonly source: Database;
  readonly target: Database;
  /** A superuser's. */
  readonly writer: Database;
  readonly moving: Moving;
  /** The target's. */
  readonly schema: Schema;
}

/** A value that rows refer by, as texts, and what tells which row it leads to; null where nothing has it. */
interface Referred {
  readonly value: string[];
  readonly content: string | null;
}

/**
 * Remembers which rows were the same on both Pods: the cluster's may be changed on its default Pod afterwards (a user's
 * name), and are the same ones all the same, for nobody else can write such rows on the target.
 */
export class SharedRows {
  readonly #same = new Set<string>();

  /**
   * Copies what is missing, and what that refers to in turn. `only` limits it to those rows of a moved table. A row that
   * cannot be copied keeps no other from it.
   * @returns the number of rows copied.
   * @throws CleaveError SHARED_ROW_CONFLICT at the end, naming rows that are others on the target, or cannot be copied.
   */
  async ensure(
    sides: ReferenceSides,
    only: { readonly table: MovedTable; readonly keys: readonly RowKey[] } | null = null,
  ): Promise<number> {
    let copied = 0;
    const conflicts: CleaveError[] = [];
    for (const reference of sides.moving.references) {
      if (only !== null && reference.from !== only.table.name) continue;
      for await (const there of referred(sides.target, sides.moving, reference, only?.keys ?? null)) {
        const unknown = there.filter((one) => one.content === null || !this.#same.has(idOf(reference, one)));
        if (unknown.length === 0) continue;
        try {
          copied += await this.#settle(sides, reference, unknown);
        } catch (error) {
          if (!(error instanceof CleaveError) || error.code !== "SHARED_ROW_CONFLICT") throw error;
          if (conflicts.length < NAMED) conflicts.push(error);
        }
      }
    }
    if (conflicts.length > 0) throw new CleaveError("SHARED_ROW_CONFLICT", inWords(conflicts));
    return copied;
  }

  /** All at once, or in ever smaller parts when one of them cannot be copied: so the others are. */
  async #copy(
    sides: ReferenceSides,
    reference: SharedReference,
    values: readonly string[][],
  ): Promise<{ readonly copied: number; readonly refused: readonly CleaveError[] }> {
    const wanted = {
      to: reference.to,
      columns: reference.parentKey,
      types: typesOf(sides.moving, reference),
    };
    try {
      return { copied: await copyShared(sides, wanted, values), refused: [] };
    } catch (error) {
      if (!(error instanceof CleaveError) || error.code !== "SHARED_ROW_CONFLICT") throw error;
      if (values.length === 1) return { copied: 0, refused: [error] };
      const half = Math.ceil(values.length / 2);
      const first = await this.#copy(sides, reference, values.slice(0, half));
      const rest = await this.#copy(sides, reference, values.slice(half));
      return { copied: first.copied + rest.copied, refused: [...first.refused, ...rest.refused] };
    }
  }

  async #settle(
    sides: ReferenceSides,
    reference: SharedReference,
    batch: readonly Referred[],
  ): Promise<number> {
    const { moving } = sides;
    const theirs = await contentsOf(sides.source, moving, reference, batch);
    const others = batch.flatMap(({ value, content }, at) =>
      content !== null && theirs[at] != null && theirs[at] !== content ? [{ value, content }] : [],
    );
    // What the source does not have either is on its way, or never was: a name is no constraint.
    const absent = batch.filter(({ content }, at) => content === null && theirs[at] != null);
    const { copied, refused } = await this.#copy(
      sides,
      reference,
      absent.map(({ value }) => value),
    );
    const after = await contentsOf(sides.target, moving, reference, absent);
    const left = refused.length > 0 ? [] : absent.filter((_, at) => after[at] === null);
    const failed = [
      ...refused,
      ...(others.length > 0 ? [conflict(reference, others)] : []),
      ...(left.length > 0 ? [uncopied(reference, left)] : []),
    ];
    if (failed.length > 0) throw new CleaveError("SHARED_ROW_CONFLICT", inWords(failed));
    if (this.#same.size > REMEMBERED) this.#same.clear();
    if (!isWhole(reference))
      for (const [at, one] of batch.entries()) if (theirs[at] != null) this.#same.add(idOf(reference, one));
    return copied;
  }
}

const inWords = (conflicts: readonly CleaveError[]) =>
  [...new Set(conflicts.map(({ message }) => message))].slice(0, NAMED).join("; ");

const idOf = ({ to, parentKey }: SharedReference, { value }: Referred) =>
  JSON.stringify([to.name, parentKey, value]);

/** Content is what the row is, so it has to be equal whenever it is looked at. */
const isWhole = ({ identifying, to }: SharedReference) =>
  identifying.length >= [...to.columns.values()].filter(({ generated }) => !generated).length;

const typesOf = (moving: Moving, { from, columns }: SharedReference): string[] => {
  const table = tableNamed(moving, from);
  return columns.map((column) => typeOf(table, column) ?? "text");
};

function tableNamed(moving: Moving, name: string): MovedTable {
  const table = moving.tables.find((one) => one.name === name);
  if (table === undefined) throw new CleaveError("SCHEMA_DIFFERS", `${name} is no table of both Pods`);
  return table;
}

function conflict({ to, parentKey, from, name }: SharedReference, others: readonly Referred[]): CleaveError {
  const rows = others.slice(0, NAMED).map(({ value, content }) => `${value.join(", ")} (${content} there)`);
  return new CleaveError(
    "SHARED_ROW_CONFLICT",
    `${from} (${name}) refers to rows of ${to.name} that are others on the target: ${parentKey.join(", ")} = ${rows.join("; ")}`,
  );
}

function uncopied({ to, parentKey }: SharedReference, left: readonly Referred[]): CleaveError {
  const rows = left.slice(0, NAMED).map(({ value }) => value.join(", "));
  return new CleaveError(
    "SHARED_ROW_CONFLICT",
    `${to.name} has no row with ${parentKey.join(", ")} = ${rows.join("; ")} on the target, and the source's cannot be copied: another row there has one of its unique values`,
  );
}

const contentOf = ({ identifying }: SharedReference) =>
  `ROW(${columnsOf(identifying, '"to"').join(", ")})::pg_catalog.text`;

/** What the organizations' rows on `db` refer to by a reference, in batches: of all rows, or of those with the keys. */
async function* referred(
  db: Database,
  moving: Moving,
  reference: SharedReference,
  keys: readonly RowKey[] | null,
): AsyncGenerator<readonly Referred[]> {
  const { columns, parentKey, to } = reference;
  const table = tableNamed(moving, reference.from);
  const present = columnsOf(columns, '"row"').map((column) => `${column} IS NOT NULL`);
  // By the key first: whose a row is takes look-ups, and there are as many rows as the table has.
  const which =
    keys === null
      ? rowsOf(moving, table)
      : `${table.quoted} AS "row" WHERE ${isGiven(table.key, keyTypes(table), '"row"')} AND ${table.owner} = ANY (${moving.texts})`;
  const match = columnsOf(parentKey, '"to"').map((key, at) => `${key} = ${columnsOf(columns, '"row"')[at]}`);
  const query = `SELECT ${asTexts(columns, '"row"')} AS value, (SELECT ${contentOf(reference)} FROM ${to.quoted} AS "to" WHERE ${match.join(" AND ")} LIMIT 1) AS content
       FROM (SELECT DISTINCT ${columnsOf(columns, '"row"').join(", ")} FROM ${which} AND ${present.join(" AND ")}) AS "row"`;
  if (keys === null) return yield* pagesOf<Referred & Record<string, unknown>>(db, query, BATCH);
  const { rows } = await db.query<Referred>(query, parameters(keys, table.key.length));
  for (let from = 0; from < rows.length; from += BATCH) yield rows.slice(from, from + BATCH);
}

/** What tells the rows apart that the values lead to, in the order of the values; null where `db` has none. */
async function contentsOf(
  db: Database,
  moving: Moving,
  reference: SharedReference,
  values: readonly Pick<Referred, "value">[],
): Promise<(string | null)[]> {
  if (values.length === 0) return [];
  const { from, typed } = given(typesOf(moving, reference));
  const match = columnsOf(reference.parentKey, '"to"').map((key, at) => `${key} = ${typed[at]}`);
  const { rows } = await db.query<{ at: number; content: string }>(
    `SELECT "given".at::pg_catalog.int4 AS at, ${contentOf(reference)} AS content
       FROM ${from} JOIN ${reference.to.quoted} AS "to" ON ${match.join(" AND ")}`,
    parameters(
      values.map(({ value }) => value),
      reference.columns.length,
    ),
  );
  const contents: (string | null)[] = values.map(() => null);
  for (const { at, content } of rows) contents[at - 1] = content;
  return contents;
}

/**
 * What the touched rows refer to, a line for each row of nobody alone that is there: equal on both Pods exactly when both
 * have the same. What a name alone says counts where the source has such a row (`known`, the source's own lines).
 */
export async function referenceLines(
  db: Database,
  moving: Moving,
  touched: readonly TouchedRow[],
  known: ReadonlySet<string> | null = null,
): Promise<string[]> {
  const lines: string[] = [];
  for (const [name, keys] of byTable(touched))
    for (const reference of moving.references) {
      if (reference.from !== name || !reference.onSource) continue;
      for await (const batch of referred(db, moving, reference, keys))
        for (const { value, content } of batch) {
          if (content === null) continue;
          const line = JSON.stringify([
            name,
            reference.name,
            value,
            isWhole(reference) ? content : "is there",
          ]);
          if (reference.declared || known === null || known.has(line)) lines.push(line);
        }
    }
  return lines;
}

/**
 * Rows that the organizations refer to on the source, and that are others on the target: another content where content
 * is what a row is (`shared`), other unique values where it is the cluster's (a user may have changed a preference).
 */
export async function conflictingReferences(
  source: Database,
  target: Database,
  moving: Moving,
): Promise<string[]> {
  const conflicts: string[] = [];
  for (const reference of moving.references) {
    const { to, parentKey } = reference;
    for await (const ours of referred(source, moving, reference, null)) {
      if (conflicts.length >= NAMED) break;
      const batch = ours.filter(({ content }) => content !== null);
      for (const [at, there] of (await contentsOf(target, moving, reference, batch)).entries()) {
        const { value, content } = batch[at] as Referred;
        if (there !== null && there !== content && conflicts.length < NAMED)
          conflicts.push(
            `${to.name} ${parentKey.join(", ")} = ${value.join(", ")} is ${there} on the target`,
          );
      }
    }
  }
  return conflicts;
}
