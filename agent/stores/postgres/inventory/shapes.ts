/** What two columns of one type and name may still differ in, and which constraints hold at the end of a transaction alone. */
import type { Queryable } from "../server/queryable.ts";

/** Types that are made of others, by their names as `format_type` writes them: in words, of what. */
export type Shapes = ReadonlyMap<string, string>;

const SHAPES = `
SELECT pg_catalog.format_type(t.oid, NULL) AS type, CASE t.typtype
  WHEN 'c' THEN (SELECT '(' || string_agg(pg_catalog.quote_ident(a.attname) || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) || ')'
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
  WHEN 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod)
  ELSE (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) END AS of
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('c', 'd', 'r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'cleave') AND n.nspname !~ '^pg_(temp|toast_temp)_'`;

/** To be called with nothing but pg_catalog in the search path. */
export async function readShapes(db: Queryable): Promise<Shapes> {
  const { rows } = await db.query<{ type: string; of: string | null }>(SHAPES);
  return new Map(rows.flatMap(({ type, of }) => (of === null ? [] : [[type, of] as const])));
}

const TYPE = /((?:"(?:[^"]|"")+"|[\w$]+)\.(?:"(?:[^"]|"")+"|[\w$]+))/g;

/** A type with what it is made of, all the way down. Equal exactly when the texts of its values mean the same. */
export function shapeOf(type: string, shapes: Shapes, depth = 0): string {
  if (depth > 20) return type;
  return type.replaceAll(TYPE, (name) => {
    const of = shapes.get(name);
    return of === undefined ? name : `${name} ${shapeOf(of, shapes, depth + 1)}`;
  });
}

/** A unique or exclusion constraint that is checked at the end of a transaction, by a trigger. */
export interface DeferredKey {
  readonly name: string;
  /** Columns, or expressions over the table's columns. */
  readonly elements: readonly string[];
  /** `OPERATOR(schema.=)`, one for each: two rows for which all hold exclude each other. */
  readonly operators: readonly string[];
  /** SQL over the table's columns, of the rows that it is about. */
  readonly predicate: string;
}

const DEFERRED = `
SELECT k.conrelid::int8::float8 AS oid, k.conname AS name,
  ARRAY(SELECT pg_catalog.pg_get_indexdef(k.conindid, at, false) FROM generate_series(1, i.indnkeyatts) AS at ORDER BY at) AS elements,
  ARRAY(SELECT 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
    FROM generate_series(1, i.indnkeyatts) AS at
      JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[at - 1]
      JOIN pg_catalog.pg_operator o ON o.oid = COALESCE(k.conexclop[at], (SELECT m.amopopr FROM pg_catalog.pg_amop m
        WHERE m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3))
      JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace ORDER BY at) AS operators,
  COALESCE(pg_catalog.pg_get_expr(i.indpred, i.indrelid), 'true') AS predicate
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid
WHERE k.contype IN ('p', 'u', 'x') AND k.condeferrable AND k.conparentid = 0`;

/** By the table's oid; with nothing but pg_catalog in the search path. */
export async function readDeferredKeys(db: Queryable): Promise<ReadonlyMap<number, readonly DeferredKey[]>> {
  const { rows } = await db.query<DeferredKey & { oid: number }>(DEFERRED);
  return Map.groupBy(rows, ({ oid }) => oid);
}
