/**
 * From the rules file to one SQL expression per table: whose is this row? Pure. Every name, type and operator says its
 * schema, for the expressions run with the search_path of whoever writes.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { asText, type Equalities, keyText, matches, NO_EQUALITIES, namesOf, sqlOf } from "./equality.ts";
import { literal, NOBODY } from "./names.ts";

/** Deeper chains than this are a loop in all but name. */
const MAX_DEPTH = 20;

export type OwnedRule = Exclude<TableRule, { clusterWide: true } | { shared: true } | { local: true }>;

export function isOwned(rule: TableRule): rule is OwnedRule {
  return "organization" in rule || "parent" in rule || "typeColumn" in rule;
}

/** Every table's rule, the root's included: the root's key is its own organization. */
export function rulesOf(ownership: Ownership): ReadonlyMap<string, TableRule> {
  const known = made.get(ownership);
  if (known !== undefined) return known;
  const rules = new Map<string, TableRule>([
    ...Object.entries(ownership.tables),
    [ownership.root.table, { organization: ownership.root.key }],
  ]);
  made.set(ownership, rules);
  return rules;
}
/** Asked for each table anew, which would cost the square of their number. */
const made = new WeakMap<Ownership, ReadonlyMap<string, TableRule>>();

const list = (columns: string | readonly string[]): readonly string[] =>
  typeof columns === "string" ? [columns] : columns;

/** A rule's pairs: columns of the table, key columns of the parent. */
function keysOf(rule: Extract<OwnedRule, { parent: string }>): readonly Pair[] {
  const columns = list(rule.column);
  const keys = list(rule.parentKey);
  if (columns.length !== keys.length)
    throw new CleaveError(
      "OWNERSHIP_RULE_INVALID",
      `${columns.join(", ")} are ${columns.length} columns, but ${keys.join(", ")} of ${rule.parent} are ${keys.length}`,
    );
  return columns.map((column, at) => [column, keys[at] as string] as const);
}

/** A parent's key as text, the same from the parent's side and from the child's: the names and texts in order. */
function departedKey(keys: readonly string[], texts: readonly string[]): string {
  const pairs = keys
    .map((key, at) => [key, texts[at] as string] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `ARRAY[${pairs.flatMap(([key, text]) => [literal(key), text]).join(", ")}]`;
}

/**
 * SQL (text, NULL when unknown) for the owner of a row of `table`; `row` is `NEW`, `OLD` or a quoted alias. A parent
 * that is gone is looked up among the departed, so that cascades from it find their owner, and a row that names nobody is
 * `NOBODY`'s; `alone` does without, for a database that has no guard: there both are NULL.
 * @throws CleaveError OWNERSHIP_RULE_INVALID when the rules do not lead to an organization.
 */
export function ownerExpression(
  ownership: Ownership,
  table: string,
  row: string,
  look: "alone" | "among the departed" = "among the departed",
  equalities: Equalities = NO_EQUALITIES,
): string {
  return expression({ ownership, look, equalities }, table, row, []);
}

interface Search {
  readonly ownership: Ownership;
  readonly equalities: Equalities;
  readonly look: "alone" | "among the departed";
}

function expression(search: Search, table: string, row: string, path: readonly string[]): string {
  const rule = rulesOf(search.ownership).get(table);
  const through = path.length === 0 ? "" : ` (reached from ${path[0]})`;
  if (rule === undefined || !isOwned(rule))
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `rows of ${table} belong to no organization${through}`);
  if (path.includes(table) || path.length > MAX_DEPTH)
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `the rule of ${table} leads back to itself${through}`);
  if ("organization" in rule)
    return orNobody(search, asText(search.equalities, table, rule.organization, row));
  const below = [...path, table];
  const viaParent = (parent: string, pairs: readonly Pair[]) =>
    ownerOfParent(search, parent, pairs, row, below);
  if ("parent" in rule) return viaParent(rule.parent, keysOf(rule));
  const type = asText(search.equalities, table, rule.typeColumn, row);
  const branches = Object.entries(rule.parents).map(
    ([value, parent]) =>
      `WHEN ${type} OPERATOR(pg_catalog.=) ${literal(value)} THEN ${viaParent(parent, [[rule.idColumn, rule.parentKey]])}`,
  );
  if (branches.length === 0) return "NULL::pg_catalog.text";
  // A type that is not listed may be anybody's.
  const none = search.look === "alone" ? "" : ` WHEN ${type} IS NULL THEN ${literal(NOBODY)}`;
  return `CASE ${branches.join(" ")}${none} END`;
}

const orNobody = ({ look }: Search, owner: string): string =>
  look === "alone" ? owner : `COALESCE(${owner}, ${literal(NOBODY)})`;

/** A column of the table and the column of its parent's key that it holds. */
type Pair = readonly [column: string, key: string];

function ownerOfParent(
  search: Search,
  parent: string,
  pairs: readonly Pair[],
  row: string,
  path: readonly string[],
): string {
  const { equalities, look } = search;
  const table = path.at(-1) ?? parent;
  const alias = quoteIdentifier(`parent ${path.length}`);
  const match = pairs
    .map(([column, key]) =>
      look === "alone"
        ? `${alias}.${quoteIdentifier(key)} = ${row}.${quoteIdentifier(column)}`
        : matches(equalities, { table: parent, column: key, row: alias }, { table, column, row }),
    )
    .join(" AND ");
  const owner = expression(search, parent, alias, path);
  const living = `(SELECT ${owner} FROM ${namesOf(equalities).table(parent)} AS ${alias} WHERE ${match} LIMIT 1)`;
  if (look === "alone") return living;
  const keys = pairs.map(([, key]) => key);
  const texts = pairs.map(([column, key]) =>
    keyText(equalities, { table, column, row }, { table: parent, column: key }),
  );
  const departed = `(SELECT departed.organization_id FROM cleave.departed WHERE departed.parent_table OPERATOR(pg_catalog.=) ${literal(parent)} AND departed.key OPERATOR(pg_catalog.=) ${departedKey(keys, texts)})`;
  // Only asked for where nothing was found: it names no parent, and not one that is absent.
  const none = pairs.map(([column]) => `${sqlOf(equalities, { table, column, row })} IS NULL`).join(" OR ");
  return `COALESCE(${living}, ${departed}, CASE WHEN ${none} THEN ${literal(NOBODY)} END)`;
}

/** The columns of a table that its rule names. */
export function ownerColumns(rule: OwnedRule): readonly string[] {
  if ("organization" in rule) return [rule.organization];
  if ("parent" in rule) return list(rule.column);
  return [rule.typeColumn, rule.idColumn];
}

/** The keys by which rules of other tables refer to `table`: each a list of its columns, each once. */
export function referencedKeys(ownership: Ownership, table: string): readonly (readonly string[])[] {
  const keys = new Map<string, readonly string[]>();
  const add = (columns: readonly string[]) => keys.set(JSON.stringify([...columns].sort()), columns);
  for (const [, rule] of rulesOf(ownership)) {
    if ("parent" in rule && rule.parent === table) add(list(rule.parentKey));
    if ("typeColumn" in rule && Object.values(rule.parents).includes(table)) add([rule.parentKey]);
  }
  return [...keys.values()];
}

/** SQL that remembers whose the row `row` was, under one of the keys that others know it by. `owner` is SQL. */
export function rememberDeparted(
  equalities: Equalities,
  table: string,
  key: readonly string[],
  row: string,
  owner: string,
): string {
  const texts = key.map((column) => keyText(equalities, { table, column, row }));
  return `INSERT INTO cleave.departed AS known (parent_table, key, organization_id) VALUES (${literal(table)}, ${departedKey(key, texts)}, ${owner}) ON CONFLICT (parent_table, key) DO UPDATE SET organization_id = EXCLUDED.organization_id, departed_at = EXCLUDED.departed_at;`;
}

/**
 * SQL that notes that a row others know as their parent came to an organization that is to leave. A writer of a child
 * may have looked before that: it took no lock of the migration's, so the fence has to wait for it in another way.
 */
export function rememberMoved(owner: string): string {
  return `INSERT INTO cleave.moved (migration_id) SELECT route.migration_id FROM cleave.route WHERE route.organization_id OPERATOR(pg_catalog.=) ${owner} AND route.migration_id IS NOT NULL;`;
}
