/**
 * Counts and digests every organization's rows, table by table, from the rules file alone. It shares no code with the
 * agent's guard, so that both are not wrong in the same way.
 */
import pg from "pg";
import type { Ownership, TableRule } from "../../../protocol/ownership.ts";

export interface TableRows {
  readonly count: number;
  /** Of all rows with all columns, whatever their order: equal contents have equal digests. */
  readonly digest: string;
}

/** organization id → table → rows. Rows that no organization owns are under `""`. */
export type RowsByOrganization = ReadonlyMap<string, ReadonlyMap<string, TableRows>>;

const quoted = (table: string) => table.split(".").map(pg.escapeIdentifier).join(".");
const list = (value: string | readonly string[]) => (typeof value === "string" ? [value] : value);

/** An SQL expression over alias `alias`: the organization's id as text, or NULL. */
function ownerOf(ownership: Ownership, table: string, alias: string, depth = 0): string {
  if (depth > 20) throw new Error(`the rule of ${table} never ends`);
  const rule = ownership.tables[table] as TableRule;
  const column = (name: string) => `${alias}.${pg.escapeIdentifier(name)}`;
  if ("organization" in rule) return `${column(rule.organization)}::text`;
  const over = (parent: string, columns: readonly string[], keys: readonly string[]) => {
    const inner = `p${depth}`;
    const match = keys
      .map((key, i) => `${inner}.${pg.escapeIdentifier(key)} = ${column(columns[i] as string)}`)
      .join(" AND ");
    return `(SELECT ${ownerOf(ownership, parent, inner, depth + 1)} FROM ${quoted(parent)} ${inner} WHERE ${match})`;
  };
  if ("parent" in rule) return over(rule.parent, list(rule.column), list(rule.parentKey));
  if ("typeColumn" in rule) {
    const cases = Object.entries(rule.parents).map(
      ([type, parent]) =>
        `WHEN ${pg.escapeLiteral(type)} THEN ${over(parent, [rule.idColumn], [rule.parentKey])}`,
    );
    return `(CASE ${column(rule.typeColumn)} ${cases.join(" ")} END)`;
  }
  return "NULL";
}

/** Reads in one snapshot. Tables of one Pod alone (`local`) are left out. */
export async function digestRowsByOrganization(
  client: pg.Client,
  ownership: Ownership,
): Promise<RowsByOrganization> {
  const result = new Map<string, Map<string, TableRows>>();
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  try {
    for (const [table, rule] of Object.entries(ownership.tables)) {
      if ("local" in rule) continue;
      const { rows } = await client.query<{ owner: string; count: string; digest: string }>(
        `SELECT coalesce(${ownerOf(ownership, table, "t")}, '') AS owner, count(*) AS count,
                sum(hashtextextended(t::text, 0)::numeric)::text AS digest
           FROM ${quoted(table)} t GROUP BY 1`,
      );
      for (const row of rows) {
        const tables = result.get(row.owner) ?? new Map<string, TableRows>();
        result.set(row.owner, tables.set(table, { count: Number(row.count), digest: row.digest }));
      }
    }
  } finally {
    await client.query("ROLLBACK");
  }
  return result;
}

/** Rows of each organization, over all tables. */
export async function countRowsByOrganization(
  client: pg.Client,
  ownership: Ownership,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const [owner, tables] of await digestRowsByOrganization(client, ownership)) {
    counts.set(
      owner,
      [...tables.values()].reduce((sum, { count }) => sum + count, 0),
    );
  }
  return counts;
}
