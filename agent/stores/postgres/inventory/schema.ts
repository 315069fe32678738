/** A database's tables, keys and references as its catalog has them: what the analysis of ownership stands on. */
import { inTransaction, type Queryable, quoteIdentifier } from "../server/queryable.ts";
import { type DeferredKey, readDeferredKeys, readShapes, shapeOf } from "./shapes.ts";

export interface Column {
  readonly name: string;
  /** As `format_type` writes it, with its schema unless that is pg_catalog. */
  readonly type: string;
  readonly notNull: boolean;
  readonly generated: boolean;
  /** Generated whenever it is read, from PostgreSQL 18 on. */
  readonly virtual: boolean;
  /** GENERATED ALWAYS AS IDENTITY: given once, and never updated. */
  readonly fixed: boolean;
  /** Its type with whatever that is made of. */
  readonly shape: string;
  /** What it is generated from; null when it is not. */
  readonly expression: string | null;
}

/** A unique constraint or index over plain columns, without a condition. */
export interface Key {
  readonly columns: readonly string[];
  readonly primary: boolean;
  /** All of its columns are NOT NULL, so it may be a replica identity. */
  readonly notNull: boolean;
  readonly index: string;
  /** It is the table's replica identity (REPLICA IDENTITY USING INDEX). */
  readonly replica: boolean;
}

export interface ForeignKey {
  readonly name: string;
  readonly columns: readonly string[];
  readonly parent: string;
  readonly parentKey: readonly string[];
  /** False while the constraint is NOT VALID: rows from before it may point nowhere. */
  readonly validated: boolean;
}

export interface Table {
  /** `schema.table`, as in the rules file. */
  readonly name: string;
  /** The same, quoted for SQL. */
  readonly quoted: string;
  readonly oid: number;
  readonly kind: "table" | "partitioned" | "foreign";
  readonly unlogged: boolean;
  /** Partitions and inheriting children, all the way down; they follow this table's rule. */
  readonly members: readonly string[];
  /** With partitions, indexes and TOAST. */
  readonly bytes: number;
  /** The planner's estimate, 0 where it has none. */
  readonly rows: number;
  readonly replicaIdentity: "default" | "full" | "index" | "nothing";
  readonly columns: ReadonlyMap<string, Column>;
  readonly keys: readonly Key[];
  /** Constraints that hold at the end of a transaction alone. */
  readonly deferred: readonly DeferredKey[];
  readonly foreignKeys: readonly ForeignKey[];
}

/** Tables by name. Partitions and inheriting children are no entries of their own: see `members`. */
export type Schema = ReadonlyMap<string, Table>;

const OWN = `n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'cleave') AND n.nspname !~ '^pg_(temp|toast_temp)_'`;

/** A size is read under a lock on its table, for which one has to wait behind whoever alters it. */
const TABLES = (bytes: string) => `
SELECT c.oid::int8::float8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind, c.relpersistence, c.relreplident,
  greatest(c.reltuples, 0)::float8 AS rows,
  ${bytes}::float8 AS bytes,
  (SELECT array_agg(i.inhparent::int8::float8) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS parents
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND ${OWN}
ORDER BY n.nspname, c.relname`;

const COLUMNS = `
SELECT a.attrelid::int8::float8 AS oid, a.attname AS name, pg_catalog.format_type(a.atttypid, NULL) AS type,
  a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS not_null, a.attgenerated <> '' AS generated, a.attgenerated = 'v' AS virtual, a.attidentity = 'a' AS fixed,
  CASE WHEN a.attgenerated <> '' THEN (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END AS expression
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND ${OWN}
ORDER BY a.attrelid, a.attnum`;

const KEYS = `
SELECT i.indrelid::int8::float8 AS oid, i.indisprimary AS primary, i.indisreplident AS replica, x.relname AS index,
  (SELECT array_agg(a.attname::text ORDER BY k.at) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.at <= i.indnkeyatts) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate AND ${OWN}
ORDER BY i.indrelid, i.indisprimary DESC, x.relname`;

const FOREIGN_KEYS = `
SELECT k.conrelid::int8::float8 AS oid, k.confrelid::int8::float8 AS parent, k.conname AS name, k.convalidated AS validated,
  (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.conkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number) AS columns,
  (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.confkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number) AS parent_key
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND ${OWN}
ORDER BY k.conrelid, k.conname`;

interface TableRow {
  oid: number;
  schema: string;
  name: string;
  relkind: string;
  relpersistence: string;
  relreplident: string;
  rows: number;
  bytes: number;
  parents: number[] | null;
}
interface ColumnRow {
  oid: number;
  name: string;
  type: string;
  not_null: boolean;
  generated: boolean;
  virtual: boolean;
  fixed: boolean;
  expression: string | null;
}
interface KeyRow {
  oid: number;
  replica: boolean;
  primary: boolean;
  index: string;
  columns: string[];
}
interface ForeignKeyRow {
  oid: number;
  parent: number;
  name: string;
  validated: boolean;
  columns: string[];
  parent_key: string[];
}

const IDENTITIES = { d: "default", f: "full", i: "index", n: "nothing" } as const;

const SIZES = "CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_total_relation_size(c.oid) ELSE 0 END";

/**
 * Reads all schemas but PostgreSQL's own and `cleave`, in six queries whatever the number of tables. Tables are of zero bytes
 * where nobody asks how large they are.
 */
export function readSchema(db: Queryable, { sizes = true } = {}): Promise<Schema> {
  return inTransaction(
    db,
    async (client) => {
      // Whatever the session's own is: types are to say their schema.
      await client.query("SET LOCAL search_path = pg_catalog");
      return read(client, sizes);
    },
    "READ ONLY",
  );
}

async function read(db: Queryable, sizes: boolean): Promise<Schema> {
  const { rows: tables } = await db.query<TableRow>(TABLES(sizes ? SIZES : "0"));
  const columns = groupBy((await db.query<ColumnRow>(COLUMNS)).rows);
  const keys = groupBy((await db.query<KeyRow>(KEYS)).rows);
  const foreignKeys = groupBy((await db.query<ForeignKeyRow>(FOREIGN_KEYS)).rows);
  const shapes = await readShapes(db);
  const deferred = await readDeferredKeys(db);
  const byOid = new Map(tables.map((row) => [row.oid, row]));
  const headOf = (row: TableRow): TableRow => {
    const parent = row.parents === null ? undefined : byOid.get(row.parents[0] as number);
    return parent === undefined ? row : headOf(parent);
  };
  const nameOf = (row: TableRow) => `${row.schema}.${row.name}`;
  const members = new Map<string, TableRow[]>();
  for (const row of tables) {
    const head = nameOf(headOf(row));
    if (row.parents !== null && head !== nameOf(row)) members.set(head, [...(members.get(head) ?? []), row]);
  }
  const schema = new Map<string, Table>();
  for (const row of tables) {
    if (headOf(row) !== row) continue;
    const name = nameOf(row);
    const own = new Map(
      (columns.get(row.oid) ?? []).map(({ name: column, not_null, ...rest }) => [
        column,
        { ...rest, name: column, notNull: not_null, shape: shapeOf(rest.type, shapes) },
      ]),
    );
    const below = members.get(name) ?? [];
    schema.set(name, {
      name,
      quoted: `${quoteIdentifier(row.schema)}.${quoteIdentifier(row.name)}`,
      oid: row.oid,
      kind: row.relkind === "p" ? "partitioned" : row.relkind === "f" ? "foreign" : "table",
      unlogged: [row, ...below].some((one) => one.relpersistence === "u"),
      members: below.map(nameOf),
      bytes: [row, ...below].reduce((sum, one) => sum + one.bytes, 0),
      // A partitioned table's own estimate is that of its partitions, once ANALYZE has seen it.
      rows: Math.max(
        row.rows,
        [row, ...below].reduce((sum, one) => sum + (one.relkind === "r" ? one.rows : 0), 0),
      ),
      replicaIdentity: IDENTITIES[row.relreplident as keyof typeof IDENTITIES] ?? "default",
      columns: own,
      keys: (keys.get(row.oid) ?? []).map(({ primary, replica, index, columns: over }) => ({
        columns: over,
        primary,
        replica,
        index,
        notNull: over.every((column) => own.get(column)?.notNull),
      })),
      deferred: deferred.get(row.oid) ?? [],
      foreignKeys: (foreignKeys.get(row.oid) ?? []).flatMap((one) => {
        const parent = byOid.get(one.parent);
        // A reference to one partition says less than its table's own.
        if (parent === undefined || headOf(parent) !== parent) return [];
        return [
          {
            name: one.name,
            columns: one.columns,
            parent: nameOf(parent),
            parentKey: one.parent_key,
            validated: one.validated,
          },
        ];
      }),
    });
  }
  return schema;
}

function groupBy<T extends { oid: number }>(rows: readonly T[]): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const row of rows) {
    const group = groups.get(row.oid);
    if (group) group.push(row);
    else groups.set(row.oid, [row]);
  }
  return groups;
}

/**
 * The key by which a row is told from the others, in a change stream too: the replica identity where it is an index, else
 * the primary key, else a NOT NULL unique key. A generated column is in no stream, so it is in none of them.
 */
export function identityOf(table: Table): Key | null {
  const keys = table.keys.filter(({ columns }) =>
    columns.every((name) => !table.columns.get(name)?.generated),
  );
  return (
    keys.find((key) => key.replica) ??
    keys.find((key) => key.primary) ??
    keys.find((key) => key.notNull) ??
    null
  );
}
