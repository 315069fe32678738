/** Rows named by their keys, as SQL: keys travel as texts, one array parameter for each column. */
import { quoteIdentifier } from "../server/queryable.ts";
import { textArray } from "../server/text-array.ts";

export type { KeyText as RowKey } from "../replication/ranges.ts";

/** `"row"."id", "row"."part"`, as a list. */
export const columnsOf = (columns: readonly string[], row: string): string[] =>
  columns.map((column) => `${row}.${quoteIdentifier(column)}`);

/** SQL for the values of some columns of a row as one array of texts. */
export const asTexts = (columns: readonly string[], row: string): string =>
  `ARRAY[${columnsOf(columns, row)
    .map((column) => `${column}::pg_catalog.text`)
    .join(", ")}]`;

export interface Given {
  /** A FROM item `"given"` whose column `at` counts the tuples from 1. */
  readonly from: string;
  /** The values in their types. */
  readonly typed: readonly string[];
}

/** The tuples of the parameters `$1`, `$2`, …, each an array of texts. */
export function given(types: readonly string[]): Given {
  const names = types.map((_, at) => quoteIdentifier(`value ${at}`));
  const arrays = types.map((_, at) => `pg_catalog.unnest($${at + 1}::pg_catalog.text[])`);
  return {
    from: `ROWS FROM (${arrays.join(", ")}) WITH ORDINALITY AS "given" (${names.join(", ")}, at)`,
    typed: types.map((type, at) => `"given".${names[at]}::${type}`),
  };
}

/** The parameters for `width` columns: of tuples, each column as one array. */
export function parameters(tuples: readonly (readonly (string | null)[])[], width: number): Buffer[] {
  return Array.from({ length: width }, (_, at) => textArray(tuples.map((tuple) => tuple[at])));
}

/** SQL that holds for a row of which the columns are one of the given tuples; an index on them can be used. */
export function isGiven(columns: readonly string[], types: readonly string[], row: string): string {
  const { from, typed } = given(types);
  return `(${columnsOf(columns, row).join(", ")}) IN (SELECT ${typed.join(", ")} FROM ${from})`;
}
