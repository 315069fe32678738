/** Types of the target that hold less than the source's of the same name: found before the first row is copied. */
import type { Schema } from "../inventory/schema.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";

interface ColumnRow {
  readonly column: string;
  readonly base: string;
  readonly typmod: number;
  readonly written: string;
}

/** Also the lengths and precisions, which a type by itself is without. */
const COLUMNS = `
SELECT a.attname AS column, pg_catalog.format_type(a.atttypid, NULL) AS base, a.atttypmod AS typmod,
  pg_catalog.format_type(a.atttypid, a.atttypmod) AS written
FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''`;

/** Whatever is made of the types of the columns, all the way down; PostgreSQL's own are the same everywhere. */
const TYPES = `
WITH RECURSIVE used (oid) AS (
  SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
    VALUES (t.typelem), (t.typbasetype)
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
  ) AS part (oid) WHERE part.oid <> 0)
SELECT t.typname AS name, t.typtype AS kind,
  CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END AS base, t.typnotnull AS "notNull",
  ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels,
  ARRAY(SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') AS checks,
  ARRAY(SELECT a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS attributes,
  (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS subtype
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid IN (SELECT used.oid FROM used) AND n.nspname <> 'pg_catalog'`;

interface TypeRow {
  readonly name: string;
  readonly kind: string;
  readonly base: string | null;
  readonly notNull: boolean;
  readonly labels: readonly string[];
  readonly checks: readonly string[];
  readonly attributes: readonly string[];
  readonly subtype: string | null;
}

/** Columns and types of the moved tables of which the target's hold less, or hold something else, in words. */
export async function narrowerTypes(
  source: Database,
  target: Database,
  moving: Moving,
  schemas: { readonly source: Schema; readonly target: Schema },
): Promise<string[]> {
  const found: string[] = [];
  const oids: { source: number[]; target: number[] } = { source: [], target: [] };
  for (const { name } of moving.tables) {
    const [there, here] = [schemas.source.get(name), schemas.target.get(name)];
    if (there === undefined || here === undefined) continue;
    oids.source.push(there.oid);
    oids.target.push(here.oid);
    const { rows: theirs } = await source.query<ColumnRow>(COLUMNS, [there.oid]);
    const ours = new Map(
      (await target.query<ColumnRow>(COLUMNS, [here.oid])).rows.map((row) => [row.column, row]),
    );
    for (const { column, typmod, written } of theirs) {
      const own = ours.get(column);
      if (own !== undefined && !holds(own, typmod))
        found.push(`${name}.${column} is ${written}, and ${own.written} on the target`);
    }
  }
  const { rows: theirs } = await source.query<TypeRow>(TYPES, [oids.source]);
  const ours = new Map(
    (await target.query<TypeRow>(TYPES, [oids.target])).rows.map((row) => [row.name, row]),
  );
  for (const type of theirs) {
    const own = ours.get(type.name);
    // One that is not there was found as a column of another type.
    if (own !== undefined) found.push(...differences(type, own));
  }
  return found;
}

/** Whether every value of a column with the source's length or precision is one of the target's, and stays as it is. */
function holds({ base, typmod }: ColumnRow, theirs: number): boolean {
  if (typmod === -1 || typmod === theirs) return true;
  const longer = base === "character varying" || base === "bit varying";
  return longer && theirs !== -1 && typmod > theirs;
}

function differences(theirs: TypeRow, ours: TypeRow): string[] {
  const name = `the type ${theirs.name}`;
  if (theirs.kind !== ours.kind) return [`${name} is another kind of type on the target`];
  const found: string[] = [];
  const absent = theirs.labels.filter((label) => !ours.labels.includes(label));
  if (absent.length > 0) found.push(`${name} has no ${absent.join(", ")} on the target`);
  if (theirs.base !== ours.base) found.push(`${name} is ${theirs.base}, and ${ours.base} on the target`);
  if (ours.notNull && !theirs.notNull) found.push(`${name} is NOT NULL on the target alone`);
  const stricter = ours.checks.filter((check) => !theirs.checks.includes(check));
  if (stricter.length > 0)
    found.push(`${name} has further constraints on the target: ${stricter.join(", ")}`);
  if (theirs.attributes.join() !== ours.attributes.join())
    found.push(
      `${name} is (${theirs.attributes.join(", ")}), and (${ours.attributes.join(", ")}) on the target`,
    );
  if (theirs.subtype !== ours.subtype)
    found.push(`${name} is of ${theirs.subtype}, and of ${ours.subtype} on the target`);
  return found;
}
