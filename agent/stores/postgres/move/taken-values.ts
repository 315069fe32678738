/**
 * Values that only one row of a table may have, and that rows of others on the target have already: by every unique index
 * there, its expressions and its condition included, and compared as that index compares.
 */

import { type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { given, parameters } from "../verification/keys.ts";

const BATCH = 5_000;
const NAMED = 5;

interface UniqueIndex {
  readonly name: string;
  readonly keys: readonly UniqueKey[];
  readonly predicate: string | null;
}

interface UniqueKey {
  /** Over the table's columns, without an alias. */
  readonly expression: string;
  readonly type: string;
  /** `OPERATOR(schema.=)`, as the index has it. */
  readonly equals: string;
  /** ` COLLATE schema.name`, or nothing. */
  readonly collation: string;
}

const INDEXES = `
SELECT x.relname AS name, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS predicate, k.keys
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  CROSS JOIN LATERAL (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'expression', pg_catalog.pg_get_indexdef(i.indexrelid, at, true),
      'type', pg_catalog.format_type(a.atttypid, NULL),
      'equals', (SELECT pg_catalog.format('OPERATOR(%I.%s)', pn.nspname, o.oprname) FROM pg_catalog.pg_opclass c
        JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
        JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr JOIN pg_catalog.pg_namespace pn ON pn.oid = o.oprnamespace
        WHERE c.oid = i.indclass[at - 1]),
      'collation', COALESCE((SELECT pg_catalog.format(' COLLATE %I.%I', cn.nspname, l.collname) FROM pg_catalog.pg_collation l
        JOIN pg_catalog.pg_namespace cn ON cn.oid = l.collnamespace WHERE l.oid = i.indcollation[at - 1]), '')) ORDER BY at) AS keys
    FROM pg_catalog.generate_series(1, i.indnkeyatts::int) AS at
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = at) AS k
WHERE i.indrelid = $1::text::pg_catalog.regclass AND i.indisunique AND i.indisready
ORDER BY i.indisprimary DESC, x.relname`;

async function uniqueIndexes(db: Database, table: MovedTable): Promise<readonly UniqueIndex[]> {
  return (await db.query<UniqueIndex>(INDEXES, [table.quoted])).rows;
}

/** The values in words, table by table. @throws what either server says, of an expression that cannot be computed too. */
export async function takenValues(source: Database, target: Database, moving: Moving): Promise<string[]> {
  const found: string[] = [];
  for (const table of moving.tables) {
    // Without a row there is nothing to collide with.
    const { rowCount } = await target.query(`SELECT FROM ${table.quoted} LIMIT 1`);
    if (rowCount === 0) continue;
    for (const index of await uniqueIndexes(target, table)) {
      const taken = await takenOf(source, target, moving, table, index);
      const names = index.keys.map(({ expression }) => expression).join(", ");
      if (taken.length > 0) found.push(`${table.name} has other rows with (${names}) = ${taken.join(", ")}`);
    }
  }
  return found;
}

async function takenOf(
  source: Database,
  target: Database,
  moving: Moving,
  table: MovedTable,
  index: UniqueIndex,
): Promise<string[]> {
  const { keys, predicate } = index;
  const names = keys.map((_, at) => quoteIdentifier(`value ${at}`));
  const values = keys.map(({ expression }, at) => `(${expression}) AS ${names[at]}`);
  const condition = predicate === null ? "" : ` WHERE ${predicate}`;
  const texts = names.map((name) => `${name}::pg_catalog.text`).join(", ");
  // A row with a NULL is no other's double; where NULLs count as equal, the server says so when it comes to it.
  const present = names.map((name) => `${name} IS NOT NULL`).join(" AND ");
  await source.query("BEGIN READ ONLY");
  try {
    await source.query(
      `DECLARE keys NO SCROLL CURSOR FOR SELECT ARRAY[${texts}] AS key FROM (
         SELECT ${values.join(", ")} FROM (SELECT "row".* FROM ${rowsOf(moving, table)} OFFSET 0) AS theirs${condition}) AS keyed WHERE ${present}`,
    );
    const { from, typed } = given(keys.map(({ type }) => type));
    const match = keys.map(
      ({ equals, collation, expression }, at) =>
        `(${expression})${collation} ${equals} ${typed[at]}${collation}`,
    );
    for (;;) {
      const { rows } = await source.query<{ key: string[] }>(`FETCH ${BATCH} FROM keys`);
      if (rows.length === 0) return [];
      const taken = await target.query<{ key: string[] }>(
        `SELECT DISTINCT ARRAY[${keys.map((_, at) => `"given".${names[at]}`).join(", ")}] AS key FROM ${from}
          WHERE EXISTS (SELECT FROM ${table.quoted} AS taken WHERE ${[...match, ...(predicate === null ? [] : [`(${predicate})`])].join(" AND ")}) LIMIT ${NAMED}`,
        parameters(
          rows.map(({ key }) => key),
          keys.length,
        ),
      );
      if (taken.rows.length > 0) return taken.rows.map(({ key }) => `(${key.join(", ")})`);
    }
  } finally {
    await source.query("ROLLBACK").catch(() => undefined);
  }
}
