/**
 * How values of columns are compared where that is not as PostgreSQL's own types are: types of extensions have their
 * equality in the extension's schema, and collations of columns may contradict each other. The guard runs with the
 * search_path of whoever writes, so it names operators and collations instead of having them looked for.
 */

import { type Queryable, quoteIdentifier } from "../server/queryable.ts";
import { canonicalText } from "./canonical-text.ts";
import { type Names, OWN_NAMES } from "./marks.ts";

export interface Equality {
  /** SQL for the equality of the type's default operator class; null: it has none. */
  readonly operator: string | null;
  /** SQL for the column's collation; null: the database's own, or a type without one. */
  readonly collation: string | null;
  /** Two values that are equal may be written differently. */
  readonly blurred: boolean;
  /** SQL for the function that gives equal values equal hashes of 64 bits; null: there is none for this very type. */
  readonly hash: string | null;
}

/** By `schema.table`, by column. A column that is not there compares as PostgreSQL's own types do. */
export type Equalities = ReadonlyMap<string, ReadonlyMap<string, Equality>> & {
  /** How columns and tables are named; default: as the rules do. */
  readonly names?: Names;
};

/** How SQL by these names columns and tables. */
export const namesOf = (equalities: Equalities): Names => equalities.names ?? OWN_NAMES;

export const OWN_EQUALITY = "OPERATOR(pg_catalog.=)";
export const NO_EQUALITIES: Equalities = new Map();

/**
 * Types as the operator classes know them: of domains what they are made from. Arrays, enums, ranges and records compare by
 * operators of pg_catalog; varchar does as text. Strategy 3 of btree and 1 of hash are equality.
 */
const EQUALITIES = `
WITH RECURSIVE col AS (
  SELECT n.nspname || '.' || c.relname AS "table", a.attname AS name, a.attcollation, a.atttypid
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'cleave') AND n.nspname !~ '^pg_(temp|toast_temp)_'
), base (oid, type) AS (
  SELECT DISTINCT atttypid, atttypid FROM col
  UNION ALL SELECT b.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
), known AS (
  SELECT b.oid, t.oid AS type, t.typname, t.typtype = 'e' AS enumerated, t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AS own,
    t.typtype <> 'b' OR t.typcategory = 'A' OR t.oid = 'pg_catalog.varchar'::pg_catalog.regtype AS derived
  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype <> 'd'
), kind AS MATERIALIZED (
  -- Once for each type: there are a hundred times as many columns.
  SELECT known.*, operator.schema, operator.name AS operator, hash.schema AS hash_schema, hash.name AS hash FROM known
LEFT JOIN LATERAL (
  SELECT n.nspname AS schema, o.oprname AS name FROM pg_catalog.pg_opclass k
    JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod
    JOIN pg_catalog.pg_amop p ON p.amopfamily = k.opcfamily AND p.amoplefttype = k.opcintype AND p.amoprighttype = k.opcintype
    JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
  WHERE k.opcdefault AND k.opcintype = known.type
    AND (m.amname, p.amopstrategy) IN (('btree', 3), ('hash', 1))
  ORDER BY m.amname LIMIT 1
) AS operator ON NOT known.derived
LEFT JOIN LATERAL (
  SELECT n.nspname AS schema, f.proname AS name FROM pg_catalog.pg_opclass k
    JOIN pg_catalog.pg_amproc p ON p.amprocfamily = k.opcfamily AND p.amproclefttype = k.opcintype AND p.amprocrighttype = k.opcintype
    JOIN pg_catalog.pg_proc f ON f.oid = p.amproc JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
    JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod
  WHERE k.opcdefault AND m.amname = 'hash' AND p.amprocnum = 2 AND k.opcintype = f.proargtypes[0]
    AND k.opcintype = CASE WHEN known.typname = 'varchar' AND known.own THEN 'pg_catalog.text'::pg_catalog.regtype ELSE known.type END
  LIMIT 1
) AS hash ON true
)
SELECT col."table", col.name, kind.derived, kind.schema, kind.operator, kind.hash_schema, kind.hash,
  CASE WHEN col.attcollation NOT IN (0, 100) THEN (SELECT pg_catalog.format('%I.%I', n.nspname, l.collname)
    FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = col.attcollation) END AS collation,
  COALESCE((SELECT NOT l.collisdeterministic FROM pg_catalog.pg_collation l WHERE l.oid = col.attcollation), false) AS nondeterministic,
  kind.enumerated OR kind.own AND kind.typname IN ('int2', 'int4', 'int8', 'oid', 'uuid', 'text', 'varchar', 'name', 'bytea', 'bool') AS exact
FROM col JOIN kind ON kind.oid = col.atttypid`;

interface Row {
  readonly table: string;
  readonly name: string;
  readonly derived: boolean;
  readonly schema: string | null;
  readonly operator: string | null;
  readonly collation: string | null;
  readonly hash_schema: string | null;
  readonly hash: string | null;
  readonly nondeterministic: boolean;
  readonly exact: boolean;
}

/** Reads the columns of every table that is no partition. */
export async function readEqualities(db: Queryable): Promise<Equalities> {
  const { rows } = await db.query<Row>(EQUALITIES);
  const tables = new Map<string, Map<string, Equality>>();
  for (const row of rows) {
    const operator = operatorOf(row);
    const blurred = row.nondeterministic || !row.exact;
    const hash =
      row.hash === null ? null : `${quoteIdentifier(row.hash_schema ?? "")}.${quoteIdentifier(row.hash)}`;
    if (operator === OWN_EQUALITY && row.collation === null && !blurred) continue;
    const columns = tables.get(row.table) ?? new Map<string, Equality>();
    tables.set(row.table, columns.set(row.name, { operator, collation: row.collation, blurred, hash }));
  }
  return tables;
}

function operatorOf({ derived, schema, operator }: Row): string | null {
  if (derived) return OWN_EQUALITY;
  if (schema === null || operator === null) return null;
  return `OPERATOR(${schema === "pg_catalog" ? schema : quoteIdentifier(schema)}.${operator})`;
}

/** SQL for a column's value as text, compared by its characters: its own collation could contradict the other side's. */
export function asText(equalities: Equalities, table: string, column: string, row: string): string {
  const text = `${sqlOf(equalities, { table, column, row })}::pg_catalog.text`;
  return equalities.get(table)?.get(column)?.collation == null ? text : `${text} COLLATE pg_catalog."C"`;
}

/** A table's column, and whose row: `NEW`, `OLD` or a quoted alias. */
export interface Place {
  readonly table: string;
  readonly column: string;
  readonly row: string;
}

/**
 * SQL for a value of a parent's key as text, the same for equal values on both sides: the text itself, or a hash where
 * equal values may be written differently.
 */
export function keyText(
  equalities: Equalities,
  place: Place,
  parent: Pick<Place, "table" | "column"> = place,
): string {
  const key = equalities.get(parent.table)?.get(parent.column);
  const value = equalities.get(place.table)?.get(place.column);
  if (!key?.blurred || key.hash === null || value?.hash !== key.hash)
    return `${canonicalText(sqlOf(equalities, place))}${value?.collation == null ? "" : ' COLLATE pg_catalog."C"'}`;
  const collate = key.collation === null ? "" : ` COLLATE ${key.collation}`;
  return `${key.hash}(${sqlOf(equalities, place)}${collate}, 0::pg_catalog.int8)::pg_catalog.text`;
}

/** SQL that is true when a parent's column has the value of its child's, as a foreign key compares them. */
export function matches(equalities: Equalities, parent: Place, child: Place): string {
  const key = equalities.get(parent.table)?.get(parent.column);
  const value = equalities.get(child.table)?.get(child.column);
  const [ours, theirs] = [key?.collation ?? null, value?.collation ?? null];
  // Two collations of columns contradict each other, and then there is none; a foreign key takes its parent's.
  const collate = ours === theirs ? "" : ` COLLATE ${ours ?? 'pg_catalog."default"'}`;
  return `${sqlOf(equalities, parent)} ${key?.operator ?? OWN_EQUALITY} ${sqlOf(equalities, child)}${collate}`;
}

/** SQL for the value in that place. */
export function sqlOf(equalities: Equalities, { table, column, row }: Place): string {
  return `${row}.${namesOf(equalities).column(table, column)}`;
}

/**
 * SQL that is true unless two versions of a row have the same values; two NULLs may count as changed, which costs a second
 * look. Where the type is none of PostgreSQL's own, bytes are compared: what is equal and written differently is looked at.
 */
export function changed(equalities: Equalities, table: string, columns: readonly string[]): string {
  const same = columns.map((column) => {
    const [after = "", before = ""] = ["NEW", "OLD"].map((row) => sqlOf(equalities, { table, column, row }));
    return equalities.get(table)?.has(column)
      ? // Without the casts it is taken apart into columns.
        `ROW(${after})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(${before})::pg_catalog.record`
      : `${after} ${OWN_EQUALITY} ${before}`;
  });
  return `NOT COALESCE(${same.join(" AND ")}, false)`;
}
