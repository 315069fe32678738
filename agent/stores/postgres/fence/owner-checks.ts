/** Has every row an owner by the rules? */
import type { ErrorCode } from "../../../../protocol/errors.ts";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { inTransaction, type Queryable, quoteTable } from "../server/queryable.ts";
import type { Catalog, Relation } from "./catalog.ts";
import { isOwned, ownerExpression, rulesOf } from "./owner-sql.ts";

/** Rows of one table whose owners are looked up, spread over it; up to twice as many, all of them. */
const SAMPLED_ROWS = 20_000;
const OWNER_CHECK_TIMEOUT_MS = 20_000;

function finding(severity: Finding["severity"], code: ErrorCode, message: string): Finding {
  return { store: "postgres", severity, code, message: message.slice(0, 2_000) };
}

const error = (code: ErrorCode, message: string) => finding("error", code, message);

/** Findings OWNER_UNKNOWN, each with a count and an example: all rows of a small table, a bounded sample of a large one. */
export async function checkOwners(db: Queryable, ownership: Ownership, catalog: Catalog): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [table, rule] of rulesOf(ownership)) {
    const relation = catalog.byName.get(table);
    if (relation && isOwned(rule)) findings.push(...(await checkOwnersOf(db, ownership, relation)));
  }
  return findings;
}

/** Looks at all rows of a small table and at a sample of a large one, and says which. */
async function checkOwnersOf(db: Queryable, ownership: Ownership, relation: Relation): Promise<Finding[]> {
  const owner = ownerExpression(ownership, relation.name, "checked", "alone");
  // `reltuples` of a partitioned table is -1 or a sum that ANALYZE left; the sample is bounded in either case.
  const { rows: sizes } = await db.query<{ rows: number }>(
    "SELECT COALESCE(sum(greatest(reltuples, 0)), 0)::float8 AS rows FROM pg_catalog.pg_class WHERE oid = $1 OR oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::oid::regclass) WHERE isleaf)",
    [relation.oid],
  );
  const estimated = sizes[0]?.rows ?? 0;
  const percent = estimated > 2 * SAMPLED_ROWS ? Math.max(0.000_1, (100 * SAMPLED_ROWS) / estimated) : 100;
  const sample = percent < 100 ? `TABLESAMPLE SYSTEM (${percent.toFixed(6)})` : "";
  const sql = `SELECT count(*)::int AS looked_at, count(*) FILTER (WHERE owner IS NULL)::int AS unknown,
      (array_agg(example) FILTER (WHERE owner IS NULL))[1] AS example
    FROM (SELECT ${owner} AS owner, left(checked::pg_catalog.text, 200) AS example FROM ${quoteTable(relation.name)} AS checked ${sample} LIMIT ${2 * SAMPLED_ROWS}) AS rows`;
  try {
    const { rows } = await withTimeout(db, sql);
    const row = rows[0];
    if (!row || row.unknown === 0) return [];
    const of =
      percent < 100 || row.looked_at >= 2 * SAMPLED_ROWS
        ? `${row.looked_at} rows looked at (a sample)`
        : `${row.looked_at} rows`;
    return [
      error(
        "OWNER_UNKNOWN",
        `${relation.name}: ${row.unknown} of ${of} have no owner, for example ${row.example}`,
      ),
    ];
  } catch (thrown) {
    const { code, message } = thrown as { code?: string; message: string };
    if (code === "57014")
      return [
        finding(
          "warning",
          "OWNER_UNKNOWN",
          `${relation.name}: looking for owners took too long; is there an index on its parents' keys?`,
        ),
      ];
    // The rule's columns do not compare with its parent's, or the like: PostgreSQL's own words say which.
    if (code?.startsWith("42"))
      return [error("OWNERSHIP_RULE_INVALID", `the rule of ${relation.name}: ${message}`)];
    throw thrown;
  }
}

interface Sampled {
  readonly looked_at: number;
  readonly unknown: number;
  readonly example: string | null;
}

async function withTimeout(db: Queryable, sql: string): Promise<{ rows: readonly Sampled[] }> {
  return inTransaction(
    db,
    async (client) => {
      await client.query(`SET LOCAL statement_timeout = ${OWNER_CHECK_TIMEOUT_MS}`);
      return client.query<Sampled>(sql);
    },
    "READ ONLY",
  );
}
