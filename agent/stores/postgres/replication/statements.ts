/** The SQL of runs: rows come as one array of texts for each column, so a run of any length is the same statement. */
import { ownerExpression } from "../fence/owner-sql.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { textArray } from "../server/text-array.ts";
import { keyTypes, type MovedColumn, type MovedTable, type Moving, rowsOf } from "./moved-tables.ts";
import type { Change, Relation, Run } from "./runs.ts";

export interface Statement {
  /** The same for every run of this relation, kind and shape. */
  readonly text: string;
  /** The arrays. */
  readonly values: readonly (Buffer | string)[];
  /** Every row is expected to be found. When fewer are, this says which are not, as rows of `Misplaced`. */
  readonly absent?: Statement;
}

/** A row that joined or left these organizations; `at` counts from 1. */
export interface Misplaced {
  readonly at: string;
  readonly came: boolean;
  readonly owner: string | null;
}

/**
 * Null when there is nothing to do. Of an update, a rekey and a foreign run the statement returns rows of `Misplaced`.
 */
export function statementOf(moving: Moving, run: Run): Statement | null {
  switch (run.kind) {
    case "insert":
      return insert(moving, run);
    case "update":
    case "rekey":
      return update(moving, run);
    case "delete":
      return remove(moving, run);
    case "foreign":
      return left(moving, run);
  }
}

const isTheirs = (moving: Moving, owner: string) => `${owner} = ANY (${moving.texts})`;

/** Whose a row is says a column of its own, whose text is the organization's id exactly as it is written. */
const EXACT: ReadonlySet<string> = new Set([
  "smallint",
  "integer",
  "bigint",
  "uuid",
  "text",
  "character varying",
]);

/** The column that names the organization, when the change alone tells it; else null. */
export function ownColumn(table: MovedTable): string | null {
  if (!("organization" in table.rule)) return null;
  const { organization } = table.rule;
  const type = table.columns.find(({ name }) => name === organization)?.type;
  return type !== undefined && EXACT.has(type) ? organization : null;
}

/** The columns of a relation in the order in which the stream has them. */
function columnsOf({ message, table }: Relation): readonly MovedColumn[] {
  return message.columns.map(({ name }) => {
    const column = table.columns.find((one) => one.name === name);
    if (column === undefined) throw new Error(`${table.name} has no column ${name}`);
    return column;
  });
}

/** Typed rows made of arrays; when `counted`, with a number from 1 on. Parameters begin with `$1`. */
function given(columns: readonly Typed[], absent: readonly Typed[], counted: boolean): string {
  const arrays = columns.map((_, at) => `pg_catalog.unnest($${at + 1}::pg_catalog.text[])`);
  const typed = [
    ...columns.map(({ quoted, type }) => `"texts".${quoted}::${type} AS ${quoted}`),
    ...absent.map(({ quoted, type }) => `NULL::${type} AS ${quoted}`),
    ...(counted ? ['"texts"."cleave at"'] : []),
  ];
  const names = [...columns.map(({ quoted }) => quoted), ...(counted ? ['"cleave at"'] : [])];
  return `SELECT ${typed.join(", ")} FROM ROWS FROM (${arrays.join(", ")})${counted ? " WITH ORDINALITY" : ""} AS "texts" (${names.join(", ")}) OFFSET 0`;
}

interface Typed {
  readonly quoted: string;
  readonly type: string;
}

function insert(moving: Moving, { relation, changes }: Run): Statement {
  const { table } = relation;
  const columns = columnsOf(relation);
  const names = columns.map(({ quoted }) => quoted);
  const theirs = ownColumn(table) === null ? ` WHERE ${isTheirs(moving, table.owner)}` : "";
  return {
    text: `INSERT INTO ${table.quoted} (${names.join(", ")}) OVERRIDING SYSTEM VALUE
SELECT ${names.map((name) => `"row".${name}`).join(", ")} FROM (${given(columns, [], false)}) AS "row"${theirs}`,
    values: columns.map((_, at) => textArray(changes.map(({ values }) => values[at]))),
  };
}

const oldKey = (table: MovedTable) =>
  keyTypes(table).map((type, at) => ({ quoted: quoteIdentifier(`cleave old ${at}`), type }));

function update(moving: Moving, run: Run): Statement | null {
  const { relation, changes, kind } = run;
  const { table } = relation;
  const first = changes[0]?.values ?? [];
  const columns = columnsOf(relation);
  const sent = columns.filter((_, at) => first[at] !== undefined);
  const absent = columns.filter((_, at) => first[at] === undefined);
  const values = columns.flatMap((_, at) =>
    first[at] === undefined ? [] : [textArray(changes.map((change) => change.values[at]))],
  );
  const changed = sent.filter(({ name, fixed }) => !fixed && (kind === "rekey" || !table.key.includes(name)));
  if (changed.length === 0) return null;
  const isSent = (name: string | null) => sent.some((column) => column.name === name);
  if (kind === "update" && isSent(ownColumn(table)) && table.key.every(isSent))
    return updateOwn(moving, table, sent, changed, values);
  const keys = oldKey(table);
  const matches = table.key.map((name, at) => `"row".${quoteIdentifier(name)} = "given".${keys[at]?.quoted}`);
  // A row whose parent's key has just changed has no owner until it follows. Somebody else's orphan has large values of
  // its own, so it is not taken for such a row unless all values are here.
  const found = isTheirs(moving, table.owner);
  const follows = isTheirs(moving, ownerExpression(moving.ownership, table.name, '"given"', "alone"));
  const theirs = absent.length > 0 || "organization" in table.rule ? found : `COALESCE(${found}, ${follows})`;
  const sets = changed.map(({ quoted }) => `${quoted} = "given".${quoted}`);
  // The second part of the answer sees the tables as they were before the update; it asks for parents alone.
  return {
    text: `WITH "given" AS MATERIALIZED (${given([...sent, ...keys], absent, true)}), "changed" AS (
UPDATE ${table.quoted} AS "row" SET ${sets.join(", ")} FROM "given" WHERE ${matches.join(" AND ")} AND ${theirs}
RETURNING "given"."cleave at", ${table.owner} AS "cleave owner")
SELECT "cleave at"::text AS at, false AS came, "cleave owner" AS owner FROM "changed" WHERE NOT COALESCE(${isTheirs(moving, '"cleave owner"')}, false)
UNION ALL SELECT "row"."cleave at"::text, true, ${table.owner} FROM "given" AS "row"
WHERE "row"."cleave at" NOT IN (SELECT "changed"."cleave at" FROM "changed") AND ${isTheirs(moving, table.owner)}`,
    values: [...values, ...keyArrays(table, changes)],
  };
}

/** Of rows that say themselves that they are theirs: each is there, or has just become theirs. */
function updateOwn(
  moving: Moving,
  table: MovedTable,
  sent: readonly MovedColumn[],
  changed: readonly MovedColumn[],
  values: readonly Buffer[],
): Statement {
  const sets = changed.map(({ quoted }) => `${quoted} = "given".${quoted}`);
  const match = (row: string, to: string) =>
    table.key.map((name) => `${row}.${quoteIdentifier(name)} = ${to}.${quoteIdentifier(name)}`).join(" AND ");
  const owner = (row: string) =>
    isTheirs(moving, ownerExpression(moving.ownership, table.name, row, "alone"));
  return {
    text: `UPDATE ${table.quoted} AS "row" SET ${sets.join(", ")} FROM (${given(sent, [], false)}) AS "given" WHERE ${match('"row"', '"given"')} AND ${owner('"row"')}`,
    values,
    absent: {
      text: `SELECT "row"."cleave at"::text AS at, true AS came, ${table.owner} AS owner FROM (${given(sent, [], true)}) AS "row"
WHERE NOT EXISTS (SELECT FROM ${table.quoted} AS "there" WHERE ${match('"there"', '"row"')} AND ${owner('"there"')})`,
      values,
    },
  };
}

/** A row whose parent is gone already has no owner any more; somebody else's has, unless it is nobody's as well. */
function remove(moving: Moving, { relation, changes }: Run): Statement {
  const { table } = relation;
  const keys = oldKey(table);
  const matches = table.key.map((name, at) => `"row".${quoteIdentifier(name)} = "given".${keys[at]?.quoted}`);
  const theirs = isTheirs(moving, table.owner);
  return {
    text: `DELETE FROM ${table.quoted} AS "row" USING (${given(keys, [], false)}) AS "given" WHERE ${matches.join(" AND ")} AND ${"organization" in table.rule ? theirs : `COALESCE(${theirs}, true)`}`,
    values: keyArrays(table, changes),
  };
}

/** All of their rows, as TRUNCATE would; of some partitions when `members` names them (an array of texts, `table a.b`). */
export function removal(moving: Moving, table: MovedTable, members?: string): Omit<Statement, "absent"> {
  const text = `DELETE FROM ${rowsOf(moving, table)}`;
  if (members === undefined) return { text, values: [] };
  return {
    text: `${text} AND "row".tableoid IN (SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE 'table ' || n.nspname || '.' || c.relname = ANY ($1::pg_catalog.text[]))`,
    values: [members],
  };
}

function left(moving: Moving, { relation, changes }: Run): Statement {
  const { table } = relation;
  const keys = oldKey(table);
  const matches = table.key.map((name, at) => `"row".${quoteIdentifier(name)} = "given".${keys[at]?.quoted}`);
  return {
    text: `SELECT "given"."cleave at"::text AS at, false AS came, NULL::text AS owner FROM (${given(keys, [], true)}) AS "given" JOIN ${table.quoted} AS "row" ON ${matches.join(" AND ")} WHERE ${isTheirs(moving, table.owner)}`,
    values: keyArrays(table, changes),
  };
}

const keyArrays = (table: MovedTable, changes: readonly Change[]): Buffer[] =>
  table.key.map((_, at) => textArray(changes.map(({ key }) => key[at])));
