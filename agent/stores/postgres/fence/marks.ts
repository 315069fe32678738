/**
 * Names of columns and tables in the guard's functions, and marks that stand for them: see known-names.ts. Pure.
 */
import { quoteIdentifier, quoteTable } from "../server/queryable.ts";

/** How a function names what the rules name; both as SQL identifiers. */
export interface Names {
  column(table: string, column: string): string;
  table(table: string): string;
}

export const OWN_NAMES: Names = {
  column: (_, column) => quoteIdentifier(column),
  table: quoteTable,
};

/** SQL for a name as the functions have it: always with quotes, so that one which comes back is the same text. */
export const quoted = (name: string) => `'"' || pg_catalog.replace(${name}, '"', '""') || '"'`;

/** What a mark stands for; without a column it is the table itself. */
export interface Mark {
  readonly mark: string;
  readonly table: string;
  readonly column: string;
}

/** Each name gets a mark when it is used first. */
export class MarkedNames implements Names {
  readonly #marks = new Map<string, Mark>();

  get marks(): readonly Mark[] {
    return [...this.#marks.values()];
  }

  column(table: string, column: string): string {
    const key = JSON.stringify([table, column]);
    // Characters that no name of an application has.
    const known = this.#marks.get(key) ?? { mark: `\u0001${this.#marks.size}\u0002`, table, column };
    this.#marks.set(key, known);
    return known.mark;
  }

  table(table: string): string {
    return this.column(table, "");
  }
}

export const NAMES_TABLES = `
-- The functions of tables with marks where they name something.
CREATE TABLE IF NOT EXISTS cleave.guard_source (name text PRIMARY KEY, body text NOT NULL);
-- What the marks stand for: by the rules, as it was when the functions were made, and at present; empty when it is gone.
CREATE TABLE IF NOT EXISTS cleave.guard_name (
  mark text PRIMARY KEY,
  quoted_table text NOT NULL,
  "column" text NOT NULL,
  relation oid,
  number int2,
  present text NOT NULL,
  -- Of a column.
  type oid
);
-- Which table is guarded by what, once there is one of that name with these columns.
CREATE TABLE IF NOT EXISTS cleave.guarded (
  quoted_table text PRIMARY KEY,
  row_function text NOT NULL,
  truncate_function text NOT NULL,
  columns text[] NOT NULL
);`;

/** Fires behind the journal's, by its name. */
export const NAMES_TRIGGERS = [
  {
    name: "cleave_names",
    event: `ddl_command_end WHEN TAG IN (${[
      "ALTER SCHEMA",
      "ALTER TABLE",
      "CREATE SCHEMA",
      "CREATE TABLE",
      "CREATE TABLE AS",
      "CREATE VIEW",
      "DROP EXTENSION",
      "DROP OWNED",
      "DROP SCHEMA",
      "DROP TABLE",
      "DROP TYPE",
      "DROP VIEW",
      "SELECT INTO",
    ]
      .map((tag) => `'${tag}'`)
      .join(", ")})`,
    procedure: "follow_names",
  },
] as const;
