/** SQL that selects the rows of organizations, set by set, so that the planner may use whatever index there is. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import { literal } from "../fence/names.ts";
import { isOwned, ownerExpression, rulesOf } from "../fence/owner-sql.ts";
import { quoteIdentifier, quoteTable } from "../server/queryable.ts";

const list = (columns: string | readonly string[]): readonly string[] =>
  typeof columns === "string" ? [columns] : columns;
const tuple = (columns: readonly string[], row: string) => {
  const quoted = columns.map((column) => `${row}.${quoteIdentifier(column)}`).join(", ");
  return columns.length === 1 ? quoted : `(${quoted})`;
};

/**
 * A condition on `row` (an alias of `table`) that holds for the rows of the organizations that `wanted` gives: SQL for
 * a set of values of the root's key, `$1` or a subquery.
 * @throws CleaveError OWNERSHIP_RULE_INVALID when the rules do not lead to an organization.
 */
export function ownedCondition(ownership: Ownership, table: string, row: string, wanted: string): string {
  // Refuses rules that lead nowhere or back to themselves, with words that name the table.
  ownerExpression(ownership, table, row, "alone");
  return condition(ownership, table, row, wanted, 0);
}

function condition(ownership: Ownership, table: string, row: string, wanted: string, depth: number): string {
  const rule = rulesOf(ownership).get(table);
  if (rule === undefined || !isOwned(rule)) return "false";
  if ("organization" in rule) return `${row}.${quoteIdentifier(rule.organization)} IN (${wanted})`;
  const alias = quoteIdentifier(`parent ${depth + 1}`);
  const among = (parent: string, keys: readonly string[]) =>
    `(SELECT ${keys.map((key) => `${alias}.${quoteIdentifier(key)}`).join(", ")} FROM ${quoteTable(parent)} AS ${alias} WHERE ${condition(ownership, parent, alias, wanted, depth + 1)})`;
  if ("parent" in rule)
    return `${tuple(list(rule.column), row)} IN ${among(rule.parent, list(rule.parentKey))}`;
  const branches = Object.entries(rule.parents).map(
    ([value, parent]) =>
      `(${row}.${quoteIdentifier(rule.typeColumn)}::text = ${literal(value)} AND ${row}.${quoteIdentifier(rule.idColumn)} IN ${among(parent, [rule.parentKey])})`,
  );
  return branches.length === 0 ? "false" : `(${branches.join(" OR ")})`;
}

/** The whole statement for one organization, whose key is `$1`. */
export function selectOfOrganization(ownership: Ownership, table: string): string {
  return `SELECT "row".* FROM ${quoteTable(table)} AS "row" WHERE ${ownedCondition(ownership, table, '"row"', "$1")}`;
}
