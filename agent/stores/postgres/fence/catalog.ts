/** The Pod's tables as PostgreSQL's catalog has them, and which rule each falls under. */
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { type Queryable, quoteIdentifier } from "../server/queryable.ts";
import { readCascades } from "./cascades.ts";
import { readEqualities } from "./equality.ts";
import type { Keys } from "./guard-functions.ts";
import { rulesOf } from "./owner-sql.ts";

export interface Relation {
  readonly oid: number;
  /** `schema.table`, as in the rules file. */
  readonly name: string;
  /** The same, quoted for SQL. */
  readonly quoted: string;
  readonly kind: "table" | "partitioned" | "foreign";
  readonly isPartition: boolean;
  readonly persistence: "permanent" | "unlogged";
  /** What it is a partition or an inheriting child of. */
  readonly parentOids: readonly number[];
}

export interface Catalog {
  readonly relations: readonly Relation[];
  readonly byName: ReadonlyMap<string, Relation>;
  /** The table whose rule covers a relation: itself or the nearest ancestor with a rule; null when none has one. */
  ruledBy(relation: Relation): { readonly table: string; readonly rule: TableRule } | null;
  /** A table of the rules with everything below it (partitions, inheriting children) that it covers. */
  covered(table: string): readonly Relation[];
}

interface Row {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly relkind: string;
  readonly relispartition: boolean;
  readonly relpersistence: string;
  readonly parents: number[] | null;
}

const TABLES = `
SELECT c.oid::int8::float8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind, c.relispartition, c.relpersistence,
  (SELECT array_agg(i.inhparent::int8::float8 ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS parents
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'cleave') AND n.nspname !~ '^pg_(temp|toast_temp)_'
ORDER BY n.nspname, c.relname`;

function relationOf(row: Row): Relation {
  return {
    oid: row.oid,
    name: `${row.schema}.${row.name}`,
    quoted: `${quoteIdentifier(row.schema)}.${quoteIdentifier(row.name)}`,
    kind: row.relkind === "p" ? "partitioned" : row.relkind === "f" ? "foreign" : "table",
    isPartition: row.relispartition,
    persistence: row.relpersistence === "u" ? "unlogged" : "permanent",
    parentOids: row.parents ?? [],
  };
}

/** Reads all tables of all schemas but PostgreSQL's own and `cleave`; temporary ones are left out. */
export async function readCatalog(db: Queryable, ownership: Ownership): Promise<Catalog> {
  const { rows } = await db.query<Row>(TABLES);
  const relations = rows.map(relationOf);
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  const rules = rulesOf(ownership);
  const ruledBy = (relation: Relation): { table: string; rule: TableRule } | null => {
    // A partition is a part of its table: a rule of its own would let the two contradict each other.
    const rule = relation.isPartition ? undefined : rules.get(relation.name);
    if (rule !== undefined) return { table: relation.name, rule };
    for (const oid of relation.parentOids) {
      const parent = byOid.get(oid);
      const found = parent ? ruledBy(parent) : null;
      if (found) return found;
    }
    return null;
  };
  const covered = new Map<string, Relation[]>();
  for (const relation of relations) {
    const table = ruledBy(relation)?.table;
    if (table === undefined) continue;
    const list = covered.get(table);
    if (list) list.push(relation);
    else covered.set(table, [relation]);
  }
  return { relations, byName, ruledBy, covered: (table) => covered.get(table) ?? [] };
}

/**
 * What tells each table's rows apart, as `identityOf` chooses it; partitions and tables without a key have no entry.
 */
const IDENTITIES = `
SELECT DISTINCT ON (i.indrelid) n.nspname || '.' || c.relname AS name,
  (SELECT array_agg(a.attname::text ORDER BY k.at) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.at <= i.indnkeyatts) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'cleave') AND n.nspname !~ '^pg_(temp|toast_temp)_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND a.attgenerated <> '')
  AND (i.indisprimary OR NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND NOT a.attnotnull))
ORDER BY i.indrelid, i.indisreplident DESC, i.indisprimary DESC, x.relname`;

/** What the guard's functions are made from besides the rules. */
export async function readKeys(db: Queryable): Promise<Keys> {
  const { rows } = await db.query<{ name: string; columns: string[] }>(IDENTITIES);
  const identities = new Map(rows.map(({ name, columns }) => [name, columns]));
  return { identities, equalities: await readEqualities(db), cascades: await readCascades(db) };
}
