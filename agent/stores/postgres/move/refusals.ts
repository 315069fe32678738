/**
 * What the target would refuse, or would change on its way in: found before the first row is copied, where it would
 * otherwise be found after the last. Changes nothing on either server.
 */
import type { ErrorCode } from "../../../../protocol/errors.ts";
import type { Finding } from "../../../../protocol/evidence.ts";
import { ROW_TRIGGER, TRUNCATE_TRIGGER } from "../fence/names.ts";
import { finding } from "../findings.ts";
import type { Schema } from "../inventory/schema.ts";
import { type MovedTable, type Moving, rowsOf } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, sqlStateOf } from "../server/queryable.ts";

/** Of one question about all rows of a table; what takes longer is found when it comes to it. */
const ASK_FOR_MS = 10_000;
/** Rows whose expressions are computed. */
const SAMPLED = 1_000;
const QUERY_CANCELED = "57014";

export interface Both {
  readonly source: Database;
  readonly target: Database;
  readonly moving: Moving;
  readonly schemas: { readonly source: Schema; readonly target: Schema };
}

/** All of them but types (narrower-types.ts) and values that are taken (taken-values.ts). */
export async function checkRefusals(both: Both): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const table of both.moving.tables) {
    findings.push(
      ...(await checkConstraints(both, table)),
      ...(await checkExpressions(both, table)),
      ...(await checkGenerated(both, table)),
      ...(await checkBytes(both, table)),
    );
  }
  return findings;
}

interface Named {
  readonly name: string;
  readonly expression: string;
}

const CHECKS = `
SELECT k.conname AS name, pg_catalog.pg_get_expr(k.conbin, k.conrelid) AS expression FROM pg_catalog.pg_constraint k
WHERE k.conrelid = $1::text::pg_catalog.regclass AND k.contype = 'c'`;

/** Constraints and NOT NULL of the target alone, which rows of the source break. */
async function checkConstraints(both: Both, table: MovedTable): Promise<Finding[]> {
  const { source, target, schemas } = both;
  const theirs = new Set((await constraintsOf(source, table)).map(({ expression }) => expression));
  const ours = (await constraintsOf(target, table)).filter(({ expression }) => !theirs.has(expression));
  const there = schemas.source.get(table.name);
  const strict = [...(schemas.target.get(table.name)?.columns.values() ?? [])]
    .filter(
      ({ name, notNull, generated }) => notNull && !generated && there?.columns.get(name)?.notNull === false,
    )
    .map(({ name }) => ({ name: `NOT NULL of ${name}`, expression: `${quoteIdentifier(name)} IS NOT NULL` }));
  const findings: Finding[] = [];
  for (const { name, expression } of [...ours, ...strict]) {
    const broken = `SELECT FROM (SELECT "row".* FROM ${rowsOf(both.moving, table)} OFFSET 0) AS theirs WHERE NOT (${expression}) LIMIT 1`;
    findings.push(
      ...(await ask(source, broken, `${name} of ${table.name}`, ({ rowCount }) =>
        rowCount === 0
          ? []
          : [
              refuses(
                `rows of ${table.name} on the source break ${name}, which the target alone has: ${expression}`,
              ),
            ],
      )),
    );
  }
  return findings;
}

async function constraintsOf(db: Database, { quoted }: MovedTable): Promise<readonly Named[]> {
  return (await db.query<Named>(CHECKS, [quoted])).rows;
}

/** Of indexes, constraints and generated columns, as PostgreSQL computes them for each row that comes. */
const EXPRESSIONS = `
SELECT 'the index ' || x.relname AS name, pg_catalog.pg_get_indexdef(i.indexrelid, at, true) AS expression
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts::int) AS at
WHERE i.indrelid = $1::text::pg_catalog.regclass AND i.indkey[at - 1] = 0
UNION ALL SELECT 'the condition of the index ' || x.relname, pg_catalog.pg_get_expr(i.indpred, i.indrelid)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = $1::text::pg_catalog.regclass AND i.indpred IS NOT NULL
UNION ALL SELECT 'the constraint ' || k.conname, pg_catalog.pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k
WHERE k.conrelid = $1::text::pg_catalog.regclass AND k.contype = 'c'
UNION ALL SELECT 'the generated column ' || a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::text::pg_catalog.regclass AND a.attgenerated <> ''`;

/** A function that finds its tables and functions by the application's search_path finds nothing in Cleave's sessions. */
async function checkExpressions(both: Both, table: MovedTable): Promise<Finding[]> {
  const { source, target, moving } = both;
  const read = async (db: Database) => (await db.query<Named>(EXPRESSIONS, [table.quoted])).rows;
  const ours = await read(target);
  if (ours.length === 0) return [];
  const theirs = new Set((await read(source)).map(({ expression }) => expression));
  const findings: Finding[] = [];
  for (const { name, expression } of ours) {
    const compute = (rows: string) =>
      `SELECT pg_catalog.count(computed::text) FROM (SELECT (${expression}) AS computed FROM (${rows} LIMIT ${SAMPLED}) AS sampled OFFSET 0) AS rows`;
    const where = `${name} of ${table.name}`;
    const ofTarget = await ask(target, compute(`SELECT * FROM ${table.quoted}`), where);
    // The rows that come are on the source, and so is the function where the expression is.
    const ofSource =
      ofTarget.length === 0 && theirs.has(expression)
        ? await ask(source, compute(`SELECT "row".* FROM ${rowsOf(moving, table)}`), where)
        : [];
    findings.push(...ofTarget, ...ofSource);
  }
  return findings;
}

/** What was written before a function was replaced is as that computed it, and the target computes it anew. */
async function checkGenerated({ source, moving, schemas }: Both, table: MovedTable): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { name, expression } of schemas.source.get(table.name)?.columns.values() ?? []) {
    if (expression === null) continue;
    const other = `SELECT FROM (SELECT "row".* FROM ${rowsOf(moving, table)} LIMIT ${SAMPLED}) AS sampled
      WHERE ${quoteIdentifier(name)}::text IS DISTINCT FROM (${expression})::text LIMIT 1`;
    findings.push(
      ...(await ask(source, other, `the generated column ${name} of ${table.name}`, ({ rowCount }) =>
        rowCount === 0
          ? []
          : [
              refuses(
                `rows of ${table.name} on the source have other values in the generated column ${name} than ${expression} gives now, as the target would compute them: update these rows on the source, so that they are computed anew`,
              ),
            ],
      )),
    );
  }
  return findings;
}

/** Where the server does not look at bytes (SQL_ASCII), or has characters that UTF-8 has not. */
async function checkBytes({ source, moving }: Both, table: MovedTable): Promise<Finding[]> {
  const { rows } = await source.query<{ encoding: string }>(
    "SELECT pg_catalog.current_setting('server_encoding') AS encoding",
  );
  if (rows[0]?.encoding === "UTF8") return [];
  return await ask(
    source,
    `SELECT pg_catalog.max(pg_catalog.octet_length(pg_catalog.convert_to("row"::text, 'UTF8'))) FROM ${rowsOf(moving, table)}`,
    `the bytes of ${table.name} (${rows[0]?.encoding})`,
  );
}

const refuses = (message: string) => finding("error", "TARGET_REFUSES_ROWS", message);

/** What is asked may fail: then it would fail for the rows as well, unless there was no time for it. */
async function ask(
  db: Database,
  sql: string,
  what: string,
  judge: (result: { readonly rowCount: number | null }) => Finding[] = () => [],
): Promise<Finding[]> {
  await db.query(`BEGIN READ ONLY; SET LOCAL statement_timeout = ${ASK_FOR_MS}`);
  try {
    return judge(await db.query(sql));
  } catch (error) {
    if (sqlStateOf(error) === undefined) throw error;
    if (sqlStateOf(error) === QUERY_CANCELED)
      return [
        finding("warning", "TARGET_REFUSES_ROWS", `${what}: too many rows to look at all of them beforehand`),
      ];
    return [
      refuses(
        `${what} fails for rows of the source: ${(error as Error).message} (functions in it need a search_path of their own: ALTER FUNCTION … SET search_path)`,
      ),
    ];
  } finally {
    await db.query("ROLLBACK").catch(() => undefined);
  }
}

const INTERFERING = `
SELECT 'the trigger ' || t.tgname AS what, t.tgrelid::pg_catalog.regclass::text AS "table", t.tgenabled AS enabled FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = ANY ($1::pg_catalog.oid[]) AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND t.tgname <> ALL ($2::text[])
UNION ALL SELECT 'the rule ' || r.rulename, r.ev_class::pg_catalog.regclass::text, r.ev_enabled FROM pg_catalog.pg_rewrite r
WHERE r.ev_class = ANY ($1::pg_catalog.oid[]) AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R')`;

const MEMBERS = `
WITH RECURSIVE member (oid) AS (
  SELECT name::pg_catalog.regclass::pg_catalog.oid FROM pg_catalog.unnest($1::text[]) AS name
  UNION SELECT i.inhrelid FROM member JOIN pg_catalog.pg_inherits i ON i.inhparent = member.oid)
SELECT pg_catalog.array_agg(member.oid::int8::float8) AS oids FROM member`;

/** Triggers and rules of the target that see what is applied: they may change it, refuse it, or do something twice. */
export async function checkInterference(target: Database, tables: readonly string[]): Promise<Finding[]> {
  const { rows: members } = await target.query<{ oids: number[] | null }>(MEMBERS, [tables]);
  const { rows } = await target.query<{ what: string; table: string; enabled: string }>(INTERFERING, [
    members[0]?.oids ?? [],
    [ROW_TRIGGER, TRUNCATE_TRIGGER],
  ]);
  return rows.map(({ what, table, enabled }) =>
    refuses(
      `${what} of ${table} is enabled ${enabled === "A" ? "ALWAYS" : "for replicas"}, so it would fire for rows that the source's have fired for already: ALTER TABLE ${table} ENABLE ${what.startsWith("the rule") ? "RULE" : "TRIGGER"} … until the move is over`,
    ),
  );
}

/** Whether a stream that begins here finds a place for how far it came. `name` is its origin; one that is there has one. */
export async function checkOrigins(db: Database, name: string): Promise<Finding[]> {
  const { rows } = await db.query<{ setting: string; limit: number; used: number }>(
    `SELECT named.setting, pg_catalog.current_setting(named.setting)::int AS limit,
       (SELECT count(*)::int FROM pg_catalog.pg_replication_origin_status AS s WHERE s.external_id IS DISTINCT FROM $1) AS used
     FROM (SELECT CASE WHEN pg_catalog.current_setting('max_active_replication_origins', true) IS NULL
       THEN 'max_replication_slots' ELSE 'max_active_replication_origins' END AS setting) AS named`,
    [name],
  );
  const row = rows[0];
  if (row === undefined || row.used < row.limit) return [];
  const code: ErrorCode = "POSTGRES_SETTING";
  return [
    finding(
      "error",
      code,
      `no replication origin is free: ${row.used} of ${row.limit} are in use; raise ${row.setting} and restart PostgreSQL`,
    ),
  ];
}
