/** The tables that dormant rows are removed from: those that organizations own, children before parents. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { isOwned, ownerExpression, rulesOf } from "../fence/owner-sql.ts";
import { identityOf, type Schema, type Table } from "../inventory/schema.ts";
import { ownedCondition } from "../inventory/selection.ts";
import { depthOf, rootKeyType, whole } from "../replication/moved-tables.ts";
import { ORDERED } from "../replication/ranges.ts";
import type { Database } from "../server/connection.ts";
import { asTexts } from "../verification/keys.ts";

export interface KeyColumn {
  readonly name: string;
  readonly type: string;
}

export interface DormantTable {
  readonly name: string;
  readonly quoted: string;
  readonly oid: number;
  /** Null where no key can be walked in order: then rows are found page by page. */
  readonly key: readonly KeyColumn[] | null;
  /** SQL that tells a row under the alias `"row"` to people, as an array of texts. */
  readonly shown: string;
  /** SQL for the rows under the alias `"row"` of the organizations in the parameter `$1`: what selects them. */
  readonly owned: string;
  /** SQL for the owner of a row under the alias `"row"`: what the guard says, which selects nothing here. */
  readonly owner: string;
  /** With partitions, indexes and TOAST. */
  readonly bytes: number;
  /** The planner's estimate. */
  readonly rows: number;
}

/** A subquery that gives the organizations of the parameter `$1`, an array of texts, in the root key's own type. */
export const wantedKeys = (schema: Schema, ownership: Ownership): string =>
  `SELECT pg_catalog.unnest($1::pg_catalog.text[])::${rootKeyType(schema, ownership)}`;

/**
 * Owned tables, children before those that their owners are found by. The root is the last, for it says which
 * organizations are here: whoever goes on after a kill finds what is left by it.
 * @throws CleaveError OWNERSHIP_RULE_MISSING for a table that nothing is known of, OWNERSHIP_RULE_INVALID.
 */
export function dormantTables(schema: Schema, ownership: Ownership): DormantTable[] {
  const rules = rulesOf(ownership);
  const wanted = wantedKeys(schema, ownership);
  const owned = [...schema.values()].filter((table) => {
    const rule = rules.get(table.name);
    if (rule === undefined) throw new CleaveError("OWNERSHIP_RULE_MISSING", `${table.name} has no rule`);
    // The rows of a foreign table are another server's.
    return isOwned(rule) && table.kind !== "foreign";
  });
  const rank = ({ name }: Table) => (name === ownership.root.table ? -1 : depthOf(ownership, name));
  return owned
    .sort((a, b) => rank(b) - rank(a))
    .map((table) => {
      const identity = identityOf(table)?.columns ?? [];
      return {
        name: table.name,
        quoted: table.quoted,
        oid: table.oid,
        key: walkableKey(table),
        shown: identity.length > 0 ? asTexts(identity, '"row"') : 'ARRAY["row".ctid::pg_catalog.text]',
        owned: ownedCondition(ownership, table.name, '"row"', wanted),
        owner: ownerExpression(ownership, table.name, '"row"', "alone"),
        bytes: table.bytes,
        rows: table.rows,
      };
    });
}

/** A key whose texts name one row and whose order is the index's; inheriting tables may have the same keys again. */
function walkableKey(table: Table): readonly KeyColumn[] | null {
  const inherited = table.kind === "table" && table.members.length > 0;
  const columns = inherited ? [] : (identityOf(table)?.columns ?? []);
  const key = columns.map((name) => ({ name, type: table.columns.get(name)?.type ?? "" }));
  if (key.length === 0 || key.some(({ type }) => !ORDERED.has(type))) return null;
  return key.map(({ name, type }) => ({ name, type: whole(type) }));
}

export interface Leaf {
  readonly quoted: string;
  readonly pages: number;
}

/** Where the rows of a table are: itself, its partitions, its inheriting tables. */
export async function leavesOf(db: Database, table: DormantTable): Promise<Leaf[]> {
  const { rows } = await db.query<Leaf>(
    `WITH RECURSIVE member (oid) AS (
       SELECT $1::pg_catalog.oid
       UNION SELECT i.inhrelid FROM member JOIN pg_catalog.pg_inherits i ON i.inhparent = member.oid)
     SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS quoted,
       (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8)::float8 AS pages
       FROM member JOIN pg_catalog.pg_class c ON c.oid = member.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' ORDER BY c.oid`,
    [table.oid],
  );
  return rows;
}

export type Organizations = readonly OrganizationId[];
