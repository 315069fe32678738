/**
 * What PostgreSQL does to rows by itself when a row that they refer to is deleted or gets another key (ON DELETE SET NULL
 * and the like). Rows that belong to nobody alone are changed on the default Pod, where organizations that left have
 * dormant rows: these stay as they are on the Pod that serves them, and do not make the statement fail.
 */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Queryable } from "../server/queryable.ts";
import { changed, type Equalities, matches, namesOf, sqlOf } from "./equality.ts";
import { isOwned, rulesOf } from "./owner-sql.ts";

export interface Cascade {
  readonly table: string;
  readonly columns: readonly string[];
  readonly parent: string;
  readonly parentKey: readonly string[];
}

const CASCADES = `
SELECT n.nspname || '.' || c.relname AS "table", pn.nspname || '.' || p.relname AS parent,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.at) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.at) AS "parentKey"
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cleave')
ORDER BY 1, k.conname`;

const SETS_DEFAULT = `
SELECT n.nspname || '.' || c.relname AS "table", k.conname AS name, pn.nspname || '.' || p.relname AS parent
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.confdeltype = 'd' OR k.confupdtype = 'd')
ORDER BY 1, 2`;

/**
 * Foreign keys, in words with a next step, that lead out of the organizations and set a default: PostgreSQL itself looks
 * afterwards whether a row still refers to what is gone, finds the dormant row that stays as it is, and fails the statement.
 */
export async function failingCascades(db: Queryable, ownership: Ownership): Promise<string[]> {
  const rules = rulesOf(ownership);
  const owned = (table: string) => {
    const rule = rules.get(table);
    return rule !== undefined && isOwned(rule);
  };
  const { rows } = await db.query<{ table: string; name: string; parent: string }>(SETS_DEFAULT);
  return rows
    .filter(({ table, parent }) => owned(table) && !owned(parent))
    .map(
      ({ table, name, parent }) =>
        `the foreign key ${name} of ${table} sets a default: once organizations have left, a row of ${parent} that their rows refer to cannot be deleted or get another key (23503): make it ON DELETE SET NULL, or let the application change the rows that refer to it first`,
    );
}

/** Every foreign key by which PostgreSQL changes rows itself. */
export async function readCascades(db: Queryable): Promise<readonly Cascade[]> {
  return (await db.query<Cascade & Record<string, unknown>>(CASCADES)).rows;
}

/**
 * PL/pgSQL for the guard of `table`: leaves a dormant row as it is when PostgreSQL itself is about to change it, because
 * what it refers to is gone. Nothing where no such reference leads out of the organizations.
 */
export function keepDormant(
  ownership: Ownership,
  equalities: Equalities,
  cascades: readonly Cascade[],
  table: string,
  owner: string,
): string {
  const rules = rulesOf(ownership);
  const outward = cascades.filter((one) => {
    const rule = rules.get(one.parent);
    return one.table === table && !(rule !== undefined && isOwned(rule));
  });
  if (outward.length === 0) return "";
  const gone = outward.map(({ columns, parent, parentKey }) => {
    const match = columns.map((column, at) =>
      matches(
        equalities,
        { table: parent, column: parentKey[at] as string, row: '"gone"' },
        { table, column, row: "OLD" },
      ),
    );
    const named = columns.map((column) => `${sqlOf(equalities, { table, column, row: "OLD" })} IS NOT NULL`);
    return [
      ...named,
      `(TG_OP OPERATOR(pg_catalog.=) 'DELETE' OR ${changed(equalities, table, columns)})`,
      `NOT EXISTS (SELECT FROM ${namesOf(equalities).table(parent)} AS "gone" WHERE ${match.join(" AND ")})`,
    ].join(" AND ");
  });
  // Nobody's own statement: PostgreSQL's is one of a trigger.
  return `
  IF pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1 THEN
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
      IF (${gone.join(") OR (")}) THEN
        IF cleave.is_dormant(${owner}) THEN
          RETURN NULL;
        END IF;
      END IF;
    END IF;
  END IF;`;
}
