/** The tables of which an organization has rows, as both Pods have them: what is copied, applied and compared. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { absentFrom } from "../fence/absent-names.ts";
import type { OwnedRule } from "../fence/owner-sql.ts";
import { isOwned, ownerExpression, rulesOf } from "../fence/owner-sql.ts";
import { identityOf, type Schema, type Table } from "../inventory/schema.ts";
import { ownedCondition } from "../inventory/selection.ts";
import type { DeferredKey } from "../inventory/shapes.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../server/queryable.ts";
import { withVirtual } from "./replica-identity.ts";
import {
  differencesOfReferred,
  type SharedReference,
  sharedReferences,
  type WithinReference,
  withinReferences,
} from "./shared-references.ts";

export interface MovedColumn {
  readonly name: string;
  readonly quoted: string;
  /** Of the target. */
  readonly type: string;
  /** The target lets nobody update it, and neither did the source. */
  readonly fixed: boolean;
}

export interface MovedTable {
  readonly name: string;
  readonly quoted: string;
  /** Without generated ones, ordered by name, for the Pods may have them in different orders. */
  readonly columns: readonly MovedColumn[];
  /**
   * Names of the source's generated ones. They are compared and never copied: from PostgreSQL 18 on they are in the stream,
   * and passed over.
   */
  readonly generated: readonly string[];
  /** The columns that tell its rows apart. */
  readonly key: readonly string[];
  readonly rule: OwnedRule;
  /** Of the target: what nothing checks when rows are applied. */
  readonly deferred: readonly DeferredKey[];
  /** SQL for the owner of a row under the alias `"row"`. */
  readonly owner: string;
  /** 0: it holds the organization's key; otherwise one more than the deepest table that its owner is found by. */
  readonly depth: number;
}

/** Which organizations move, as SQL: texts for what owners are compared with, and the root's key for conditions. */
export interface Moving {
  readonly organizations: readonly OrganizationId[];
  readonly ownership: Ownership;
  readonly tables: readonly MovedTable[];
  /** Where their rows refer to rows of nobody alone. */
  readonly references: readonly SharedReference[];
  /** Where they refer to each other. */
  readonly within: readonly WithinReference[];
  /** `ARRAY['1', '2']::text[]`. */
  readonly texts: string;
  /** A subquery that gives the root's keys in their own type. */
  readonly keys: string;
  /** That type. */
  readonly keyType: string;
}

/**
 * @throws CleaveError SCHEMA_DIFFERS with every difference, OWNERSHIP_RULE_MISSING, OWNERSHIP_RULE_INVALID,
 * REPLICA_IDENTITY_MISSING.
 */
export function planMove(
  source: Schema,
  target: Schema,
  ownership: Ownership,
  organizations: readonly OrganizationId[],
): Moving {
  const differences: string[] = [...inheritance(source, ownership), ...parts(source, ownership)];
  const tables: MovedTable[] = [];
  const rules = rulesOf(ownership);
  const absent = absentFrom(ownership, (name) => source.get(name)?.columns);
  if (absent.length > 0) throw new CleaveError("OWNERSHIP_RULE_INVALID", absent.slice(0, 5).join("; "));
  for (const table of source.values()) {
    const rule = rules.get(table.name);
    if (rule === undefined) throw new CleaveError("OWNERSHIP_RULE_MISSING", `${table.name} has no rule`);
    if (!isOwned(rule)) continue;
    const other = target.get(table.name);
    const found = other === undefined ? [`${table.name} is not on the target`] : differencesOf(table, other);
    differences.push(...found);
    if (other === undefined || found.length > 0) continue;
    tables.push(movedTable(table, other, rule, ownership));
  }
  // Nothing would be said of its rows.
  for (const [name, rule] of rules)
    if (isOwned(rule) && !source.has(name) && target.has(name))
      differences.push(`${name} is on the target alone`);
  const owned = new Set(
    [...source.keys()].filter((name) => {
      const rule = rules.get(name);
      return rule !== undefined && isOwned(rule);
    }),
  );
  const references = sharedReferences(owned, source, target, ownership);
  differences.push(...differencesOfReferred(references, source, target, differencesOf));
  if (differences.length > 0) throw new CleaveError("SCHEMA_DIFFERS", differences.slice(0, 20).join("; "));
  return {
    ...chosen(organizations, rootKeyType(source, ownership)),
    ownership,
    tables,
    references,
    within: withinReferences(owned, source, ownership),
  };
}

/**
 * The same to remove their rows from a Pod alone, by its own schema: also while that could not be copied to.
 * @throws CleaveError OWNERSHIP_RULE_INVALID where nobody can tell whose rows are.
 */
export function planRemoval(
  schema: Schema,
  ownership: Ownership,
  organizations: readonly OrganizationId[],
): Moving {
  const absent = absentFrom(ownership, (name) => schema.get(name)?.columns);
  if (absent.length > 0) throw new CleaveError("OWNERSHIP_RULE_INVALID", absent.slice(0, 5).join("; "));
  const parts = new Set([...schema.values()].flatMap(({ members }) => members));
  const tables = [...rulesOf(ownership)].flatMap(([name, rule]): MovedTable[] =>
    isOwned(rule) && (schema.has(name) || parts.has(name))
      ? [
          {
            name,
            quoted: quoteTable(name),
            columns: [],
            generated: [],
            key: [],
            rule,
            deferred: [],
            owner: ownerExpression(ownership, name, '"row"', "alone"),
            depth: depthOf(ownership, name),
          },
        ]
      : [],
  );
  const who = chosen(organizations, rootKeyType(schema, ownership));
  return { ...who, ownership, tables, references: [], within: [] };
}

function chosen(organizations: readonly OrganizationId[], keyType: string) {
  const texts = `ARRAY[${organizations.map((id) => quoteLiteral(id)).join(", ")}]::pg_catalog.text[]`;
  return { organizations, texts, keys: `SELECT pg_catalog.unnest(${texts})::${keyType}`, keyType };
}

/** Of the same tables the rows of some of the organizations alone. */
export function movingOnly(moving: Moving, organizations: readonly OrganizationId[]): Moving {
  return { ...moving, ...chosen(organizations, moving.keyType) };
}

/** The type of organizations' keys, to cast their texts to. @throws CleaveError OWNERSHIP_RULE_INVALID */
export function rootKeyType(schema: Schema, { root }: Ownership): string {
  const type = schema.get(root.table)?.columns.get(root.key)?.type;
  if (type === undefined)
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `${root.table} has no column ${root.key}`);
  return whole(type);
}

/** A stream names the inheriting table that a row is in, and a copy of its parent would put that row into the parent. */
function inheritance(source: Schema, ownership: Ownership): string[] {
  return [...source.values()].flatMap(({ name, kind, members }) => {
    const rule = rulesOf(ownership).get(name);
    if (kind !== "table" || members.length === 0 || rule === undefined || !isOwned(rule)) return [];
    return [`${name} has inheriting tables (${members.join(", ")}), whose rows cannot be moved`];
  });
}

/** What is a part of another table is not told by its own name, so a rule of its own would be of no rows. */
function parts(source: Schema, ownership: Ownership): string[] {
  return [...source.values()].flatMap(({ name, kind, members }) =>
    members.flatMap((member) => {
      const rule = rulesOf(ownership).get(member);
      if (rule === undefined || !isOwned(rule)) return [];
      const how = kind === "partitioned" ? "is a part of" : "inherits from";
      return [`${member} has a rule, and ${how} ${name}: its rows cannot be moved`];
    }),
  );
}

/** Without a length, `character` and `bit` are of one: a cast to them would cut values off. */
export const whole = (type: string): string =>
  type.replace(/^(character|bit)(?=$|\[)/, (name) =>
    name === "bit" ? 'pg_catalog."bit"' : "pg_catalog.bpchar",
  );

const copied = (table: Table) => [...table.columns.values()].filter(({ generated }) => !generated);

/** A type's own name: of `public.state` and `state` only the search path differs. */
const bare = (type: string) => type.replaceAll(/"?[^".\s(]+"?\./g, "");

/** Versions of PostgreSQL write the same expression with other blanks and parentheses. */
const spare = (expression: string | null) => expression?.replaceAll(/[\s()]/g, "");

function differencesOf(source: Table, target: Table): string[] {
  const found: string[] = [];
  const [here, there] = [copied(source), copied(target)];
  for (const column of here) {
    const other = there.find(({ name }) => name === column.name);
    if (other === undefined) found.push(`${source.name}.${column.name} is not on the target`);
    else if (bare(other.type) !== bare(column.type))
      found.push(`${source.name}.${column.name} is ${column.type}, and ${other.type} on the target`);
    else if (bare(other.shape) !== bare(column.shape))
      found.push(`${source.name}.${column.name} is ${column.shape}, and ${other.shape} on the target`);
  }
  for (const { name, expression } of source.columns.values()) {
    const other = target.columns.get(name);
    if (expression === null) continue;
    if (other === undefined) found.push(`${source.name}.${name} is not on the target`);
    else if (!other.generated || spare(other.expression) !== spare(expression))
      found.push(
        `${source.name}.${name} is generated as ${expression}, and ${other.expression ?? "not generated"} on the target`,
      );
  }
  for (const { name } of there)
    if (!here.some((column) => column.name === name))
      found.push(`${source.name}.${name} is on the target alone`);
  return found;
}

function movedTable(source: Table, target: Table, rule: OwnedRule, ownership: Ownership): MovedTable {
  const key = identityOf(source);
  if (key === null)
    throw new CleaveError(
      "REPLICA_IDENTITY_MISSING",
      `${source.name} has no key that tells its rows apart, of columns that are not generated`,
    );
  const fits = {
    default: key.primary,
    index: key.replica,
    full: true,
    nothing: false,
  } as const;
  if (!fits[source.replicaIdentity])
    throw new CleaveError(
      "REPLICA_IDENTITY_MISSING",
      `${source.name} needs ALTER TABLE … REPLICA IDENTITY USING INDEX ${key.index}`,
    );
  if (source.replicaIdentity === "full" && [...source.columns.values()].some(({ virtual }) => virtual))
    throw new CleaveError("REPLICA_IDENTITY_MISSING", withVirtual(source.name));
  const there = new Set(key.columns);
  if (
    !target.keys.some(
      ({ columns }) => columns.length === there.size && columns.every((name) => there.has(name)),
    )
  )
    throw new CleaveError(
      "SCHEMA_DIFFERS",
      `${source.name} has no unique key of ${key.columns.join(", ")} on the target`,
    );
  return {
    name: source.name,
    quoted: target.quoted,
    columns: copied(target)
      .map(({ name, type, fixed }) => ({ name, quoted: quoteIdentifier(name), type: whole(type), fixed }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    generated: [...source.columns.values()].flatMap(({ name, generated }) => (generated ? [name] : [])),
    key: key.columns,
    rule,
    deferred: target.deferred,
    owner: ownerExpression(ownership, source.name, '"row"', "alone"),
    depth: depthOf(ownership, source.name),
  };
}

/** Rules that lead back to themselves were refused before. */
export function depthOf(ownership: Ownership, table: string): number {
  const rule = rulesOf(ownership).get(table);
  if (rule === undefined || !isOwned(rule) || "organization" in rule) return 0;
  const parents = "parent" in rule ? [rule.parent] : Object.values(rule.parents);
  return 1 + Math.max(0, ...parents.map((parent) => depthOf(ownership, parent)));
}

/** Values of these types that are equal are written the same. */
export const UNAMBIGUOUS: ReadonlySet<string | undefined> = new Set([
  "smallint",
  "integer",
  "bigint",
  "uuid",
  "text",
  "character varying",
  "bytea",
  "boolean",
  "date",
  "timestamp without time zone",
  "timestamp with time zone",
]);

/** A column's type on the target; undefined for one that is not copied (generated). */
export const typeOf = (table: MovedTable, name: string): string | undefined =>
  table.columns.find((column) => column.name === name)?.type;

/** The types of its key's columns, in the key's order. */
export const keyTypes = (table: MovedTable): string[] =>
  table.key.map((name) => typeOf(table, name) ?? "text");

/** The rows of the moving organizations, under the alias `"row"`. */
export function rowsOf({ ownership, keys }: Moving, table: MovedTable): string {
  return `${table.quoted} AS "row" WHERE ${ownedCondition(ownership, table.name, '"row"', keys)}`;
}
