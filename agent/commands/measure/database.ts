/** Rows, bytes, writes and references of every organization, by the ownership rules; reads only. */
import { performance } from "node:perf_hooks";
import { to as copyTo } from "pg-copy-streams";
import { CleaveError } from "../../../protocol/errors.ts";
import type { Ownership } from "../../../protocol/ownership.ts";
import type { CrossReference, Sizes } from "../../../protocol/sizes.ts";
import { isOwned, ownerExpression, rulesOf } from "../../stores/postgres/fence/owner-sql.ts";
import { readSchema, type Schema } from "../../stores/postgres/inventory/schema.ts";
import { type DormantTable, dormantTables } from "../../stores/postgres/removal/tables.ts";
import type { Database } from "../../stores/postgres/server/connection.ts";
import { quoteIdentifier } from "../../stores/postgres/server/queryable.ts";

/** Tables up to this size are counted; of larger ones about so many rows are looked at. */
const LOOKED_AT_ROWS = 500_000;
const SAMPLE_BYTES = 64 * 1024 * 1024;
const SAMPLE_MS = 5_000;

export interface OrganizationRows {
  rows: number;
  rowBytes: number;
  writes: number;
}

export interface DatabaseSizes {
  readonly organizations: ReadonlyMap<string, OrganizationRows>;
  readonly references: readonly CrossReference[];
  readonly databaseBytes: number;
  readonly walBytesPerSecond: number;
  readonly watchedMs: number;
  /** The largest table, to copy a sample of. */
  readonly largest: { readonly name: string; readonly quoted: string } | null;
  readonly notes: readonly string[];
}

interface Position {
  readonly xid: string;
  readonly wal: string;
}

async function position(db: Database): Promise<Position> {
  // The end of WAL, on a standby too; the xid that the next writer gets.
  const { rows } = await db.query<Position>(
    `SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::numeric % 4294967296)::text AS xid,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS wal`,
  );
  return rows[0] as Position;
}

/** @param watch resolves when writes have been watched for long enough. */
export async function measureDatabase(
  db: Database,
  ownership: Ownership,
  watch: () => Promise<void>,
): Promise<DatabaseSizes> {
  await db.query("SET default_transaction_read_only = on");
  const schema = await readSchema(db);
  const tables = dormantTables(schema, ownership);
  const notes: string[] = [];
  const startedAt = performance.now();
  const before = await position(db);
  await watch();
  const after = await position(db);
  const watchedMs = Math.round(performance.now() - startedAt);
  const { rows: wal } = await db.query<{ bytes: number; database: number }>(
    `SELECT ($1::pg_lsn - $2::pg_lsn)::float8 AS bytes,
       (SELECT sum(pg_database_size(oid))::float8 FROM pg_database) AS database`,
    [after.wal, before.wal],
  );
  const organizations = new Map<string, OrganizationRows>();
  for (const table of tables) await countRows(db, table, before.xid, organizations, notes);
  return {
    organizations,
    references: await crossReferences(db, schema, ownership, tables),
    databaseBytes: wal[0]?.database ?? 0,
    walBytesPerSecond: watchedMs === 0 ? 0 : Math.round(((wal[0]?.bytes ?? 0) * 1_000) / watchedMs),
    watchedMs,
    largest: tables.reduce<DormantTable | null>(
      (best, table) => (best === null || table.bytes > best.bytes ? table : best),
      null,
    ),
    notes,
  };
}

/** A part of a table that stands for all of it: the clause, and by what counts are multiplied. */
function sampleOf({ rows }: { readonly rows: number }): { readonly clause: string; readonly factor: number } {
  if (rows <= LOOKED_AT_ROWS) return { clause: "", factor: 1 };
  const percent = (100 * LOOKED_AT_ROWS) / rows;
  return { clause: ` TABLESAMPLE SYSTEM (${percent.toFixed(6)}) REPEATABLE (1)`, factor: 100 / percent };
}

async function countRows(
  db: Database,
  table: DormantTable,
  xid: string,
  organizations: Map<string, OrganizationRows>,
  notes: string[],
): Promise<void> {
  const { clause, factor } = sampleOf(table);
  // A row's xmin is the transaction that wrote this version of it: younger than the watch's beginning, or not.
  const { rows } = await db.query<{ owner: string | null; rows: number; bytes: number; written: number }>(
    `SELECT owner, count(*)::float8 AS rows, sum(bytes)::float8 AS bytes, count(*) FILTER (WHERE young)::float8 AS written
       FROM (SELECT ${table.owner} AS owner, pg_catalog.pg_column_size("row".*) AS bytes,
               pg_catalog.age("row".xmin) <= pg_catalog.age($1::pg_catalog.xid) AS young
               FROM ${table.quoted} AS "row"${clause}) AS told GROUP BY owner`,
    [xid],
  );
  const allBytes = rows.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { owner, rows: count, bytes, written } of rows) {
    if (owner === null) {
      notes.push(`${Math.round(count * factor)} rows of ${table.name} have no owner by the rules`);
      continue;
    }
    const known = organizations.get(owner) ?? { rows: 0, rowBytes: 0, writes: 0 };
    organizations.set(owner, {
      rows: known.rows + Math.round(count * factor),
      // Indexes and TOAST by the share of the rows themselves.
      rowBytes: known.rowBytes + Math.round(allBytes === 0 ? 0 : (table.bytes * bytes) / allBytes),
      writes: known.writes + written * factor,
    });
  }
  if (factor > 1)
    notes.push(`${table.name} is an estimate from about ${LOOKED_AT_ROWS} of ${table.rows} rows`);
}

/** By foreign keys between owned tables. What leads to a row's own owner by the rules cannot differ. */
async function crossReferences(
  db: Database,
  schema: Schema,
  ownership: Ownership,
  tables: readonly DormantTable[],
): Promise<CrossReference[]> {
  const owned = new Map(tables.map((table) => [table.name, table]));
  const rules = rulesOf(ownership);
  const found: CrossReference[] = [];
  for (const table of tables) {
    const rule = rules.get(table.name);
    for (const key of schema.get(table.name)?.foreignKeys ?? []) {
      const parent = owned.get(key.parent);
      const leads = rule && isOwned(rule) && "parent" in rule && rule.parent === key.parent;
      if (parent === undefined || (leads && [rule.column].flat().join() === key.columns.join())) continue;
      const { clause, factor } = sampleOf(table);
      const match = key.columns.map(
        (column, at) =>
          `"row".${quoteIdentifier(column)} = "to".${quoteIdentifier(key.parentKey[at] as string)}`,
      );
      const { rows } = await db.query<{ from: string; to: string; rows: number }>(
        `SELECT owner AS from, other AS to, count(*)::float8 AS rows
           FROM (SELECT ${table.owner} AS owner, ${ownerExpression(ownership, key.parent, '"to"', "alone")} AS other
                   FROM ${table.quoted} AS "row"${clause} JOIN ${parent.quoted} AS "to" ON ${match.join(" AND ")}) AS told
          WHERE owner <> other GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 100000`,
      );
      const where = `${table.name} → ${key.parent}`;
      found.push(
        ...rows.map((one) => ({ ...one, rows: Math.round(one.rows * factor), where }) as CrossReference),
      );
    }
  }
  return found;
}

/** How fast rows come out of this server: at most 64 MiB or five seconds of a table. Uses the connection up. */
export async function sampleCopy(db: Database, table: DatabaseSizes["largest"]): Promise<Sizes["copy"]> {
  if (table === null) return null;
  const startedAt = performance.now();
  const stream = db.query(copyTo(`COPY (SELECT * FROM ${table.quoted}) TO STDOUT`));
  let bytes = 0;
  try {
    for await (const chunk of stream) {
      bytes += (chunk as Buffer).byteLength;
      if (bytes >= SAMPLE_BYTES || performance.now() - startedAt >= SAMPLE_MS) break;
    }
  } catch (error) {
    throw new CleaveError("POSTGRES_UNREACHABLE", `copying a sample: ${(error as Error).message}`);
  }
  const ms = performance.now() - startedAt;
  return bytes === 0 ? null : { bytes, ms: Math.max(1, Math.round(ms)), table: table.name };
}
