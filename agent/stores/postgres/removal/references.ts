/** Rows that stay and refer to rows that would go: removing those would leave foreign keys that point nowhere (I5). */
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, rulesOf } from "../fence/owner-sql.ts";
import { identityOf, type Schema, type Table } from "../inventory/schema.ts";
import { ownedCondition } from "../inventory/selection.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { asTexts } from "../verification/keys.ts";
import { type Organizations, wantedKeys } from "./tables.ts";

/** More of one constraint are not counted. */
const COUNTED = 1_000;
const NAMED = 3;

interface Constraint {
  readonly name: string;
  /** Names of the tables that have it and that it leads to; either may be a partition. */
  readonly child: string;
  readonly parent: string;
  readonly child_quoted: string;
  readonly parent_quoted: string;
  readonly columns: string[];
  readonly parent_key: string[];
}

/** Those that partitions have from their table are left out; PostgreSQL 18 knows some that it does not enforce. */
const ENFORCED = `
SELECT k.conname AS name, cn.nspname || '.' || c.relname AS child, pn.nspname || '.' || p.relname AS parent,
  pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS child_quoted,
  pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.relname) AS parent_quoted,
  (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.conkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number) AS columns,
  (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.confkey) WITH ORDINALITY AS u(number, at)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number) AS parent_key
FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND cn.nspname <> 'cleave'
  AND (pg_catalog.to_jsonb(k)->>'conenforced')::boolean IS DISTINCT FROM false
ORDER BY 2, 1`;

/** In words, constraint by constraint; empty when nothing that stays refers to what goes. */
export async function findReferences(
  db: Database,
  schema: Schema,
  ownership: Ownership,
  organizations: Organizations,
): Promise<string[]> {
  const heads = headsOf(schema);
  const wanted = wantedKeys(schema, ownership);
  const found: string[] = [];
  for (const constraint of (await db.query<Constraint>(ENFORCED)).rows) {
    const [child, parent] = [heads.get(constraint.child), heads.get(constraint.parent)];
    if (child === undefined || parent === undefined || !isOwnedTable(ownership, parent)) continue;
    if (carriesOwner(ownership, child, parent, constraint)) continue;
    const goes = ownedCondition(ownership, parent.name, '"parent"', wanted);
    const stays = isOwnedTable(ownership, child)
      ? `(${ownedCondition(ownership, child.name, '"row"', wanted)}) IS NOT TRUE`
      : "true";
    const match = constraint.columns.map(
      (column, at) =>
        `"parent".${quoteIdentifier(constraint.parent_key[at] as string)} = "row".${quoteIdentifier(column)}`,
    );
    const key = identityOf(child)?.columns ?? [];
    const shown = key.length > 0 ? asTexts(key, '"row"') : 'ARRAY["row".ctid::pg_catalog.text]';
    const { rows } = await db.query<{ rows: number; examples: string[] | null }>(
      `SELECT count(*)::int AS rows, (array_agg(pg_catalog.array_to_string(shown, ', ')))[1:${NAMED}] AS examples FROM (
         SELECT ${shown} AS shown FROM ${constraint.child_quoted} AS "row"
          WHERE EXISTS (SELECT FROM ${constraint.parent_quoted} AS "parent" WHERE ${match.join(" AND ")} AND ${goes}) AND ${stays}
          LIMIT ${COUNTED}) AS found`,
      [organizations],
    );
    const { rows: count = 0, examples } = rows[0] ?? {};
    if (count === 0) continue;
    const named = (examples ?? []).map((example) => `(${example})`).join(", ");
    found.push(
      `${count === COUNTED ? `${COUNTED} or more` : count} rows of ${constraint.child} stay and refer to rows of ${constraint.parent} that would be removed (${constraint.name}), for example with key ${named}`,
    );
  }
  return found;
}

/** Partitions and inheriting tables under their heads, which have the rule. */
function headsOf(schema: Schema): Map<string, Table> {
  return new Map(
    [...schema.values()].flatMap((table) =>
      [table.name, ...table.members].map((name) => [name, table] as const),
    ),
  );
}

function isOwnedTable(ownership: Ownership, { name }: Table): boolean {
  const rule = rulesOf(ownership).get(name);
  return rule !== undefined && isOwned(rule);
}

/** The child's owner is found by this very reference, so both have the same one and nothing has to be looked at. */
function carriesOwner(ownership: Ownership, child: Table, parent: Table, constraint: Constraint): boolean {
  const rule = rulesOf(ownership).get(child.name);
  if (rule === undefined || !isOwned(rule)) return false;
  const { root } = ownership;
  if ("organization" in rule)
    return (
      parent.name === root.table &&
      same([rule.organization], constraint.columns) &&
      same([root.key], constraint.parent_key)
    );
  return (
    "parent" in rule &&
    rule.parent === parent.name &&
    same(listOf(rule.column), constraint.columns) &&
    same(listOf(rule.parentKey), constraint.parent_key)
  );
}

const listOf = (columns: string | readonly string[]) => (typeof columns === "string" ? [columns] : columns);
const same = (a: readonly string[], b: readonly string[]) => JSON.stringify(a) === JSON.stringify(b);
