/**
 * Routes, the file fence and other Pods know an organization by the text of its key. So every value of the key has to have
 * one text, whoever asks and however it was written: `ACME` and `acme` would else be one organization to the table and two
 * to the fence, and the second would pass it.
 */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Queryable } from "../server/queryable.ts";
import { isOwned, rulesOf } from "./owner-sql.ts";

/** What an organization's key is made of; null where equal values may have different texts. */
export type KeyKind = "integer" | "uuid" | "text" | "boolean" | null;

const KINDS: Readonly<Record<string, KeyKind>> = {
  smallint: "integer",
  integer: "integer",
  bigint: "integer",
  uuid: "uuid",
  text: "text",
  "character varying": "text",
  // Its text is without the spaces that fill it up.
  character: "text",
  name: "text",
  boolean: "boolean",
};

interface Typed {
  readonly table: string;
  readonly column: string;
  readonly type: string;
  readonly collation: string | null;
  readonly kind: KeyKind;
}

/** Of a domain, the type that it stands on. An extension's type has the name of a built-in one only in its own schema. */
const COLUMNS = `
WITH RECURSIVE wanted (place, "table", name) AS (
  SELECT ordinality, "table", name FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY AS given ("table", name, ordinality)
), typed (place, "table", name, type, collation_oid) AS (
  SELECT w.place, w."table", w.name, a.atttypid, a.attcollation
    FROM wanted AS w JOIN pg_catalog.pg_namespace AS n ON n.nspname = pg_catalog.split_part(w."table", '.', 1)
      JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = pg_catalog.split_part(w."table", '.', 2) AND c.relkind IN ('r', 'p', 'f')
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT typed.place, typed."table", typed.name, t.typbasetype, typed.collation_oid
    FROM typed JOIN pg_catalog.pg_type AS t ON t.oid = typed.type WHERE t.typtype = 'd'
)
SELECT typed."table", typed.name AS "column", pg_catalog.format_type(typed.type, NULL) AS type, n.nspname = 'pg_catalog' AS own,
  t.typtype = 'e' AS enum, CASE WHEN NOT l.collisdeterministic THEN l.collname::pg_catalog.text END AS collation
FROM typed JOIN pg_catalog.pg_type AS t ON t.oid = typed.type JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = typed.collation_oid
WHERE t.typtype <> 'd' ORDER BY typed.place`;

async function typesOf(db: Queryable, ownership: Ownership): Promise<Typed[]> {
  const columns = [...rulesOf(ownership)].flatMap(([table, rule]) =>
    isOwned(rule) && "organization" in rule ? [{ table, column: rule.organization }] : [],
  );
  const { rows } = await db.query<Omit<Typed, "kind"> & { own: boolean; enum: boolean }>(COLUMNS, [
    columns.map(({ table }) => table),
    columns.map(({ column }) => column),
  ]);
  return rows.map(({ own, enum: isEnum, ...rest }) => ({
    ...rest,
    kind: rest.collation !== null ? null : isEnum ? "text" : own ? (KINDS[rest.type] ?? null) : null,
  }));
}

/** The kind of the root's key; null also where there is no such table. */
export async function rootKeyKind(db: Queryable, ownership: Ownership): Promise<KeyKind> {
  const types = await typesOf(db, ownership);
  return types.find(({ table }) => table === ownership.root.table)?.kind ?? null;
}

/** Columns that hold an organization's key and whose equal values may be written differently, in words with what to do. */
export async function ambiguousOwners(db: Queryable, ownership: Ownership): Promise<string[]> {
  const types = await typesOf(db, ownership);
  const root = types.find(({ table }) => table === ownership.root.table);
  return types.flatMap(({ table, column, type, collation, kind }) => {
    const what = `${table}.${column}, which holds organizations' keys, is ${type}${collation === null ? "" : ` with the nondeterministic collation ${collation}`}`;
    if (kind === null)
      return [
        `${what}: equal values may have different texts there, and the fence knows an organization by its text. ${advice(table === ownership.root.table)}`,
      ];
    if (root === undefined || root.kind === null || root.kind === kind) return [];
    return [
      `${what}, and the key ${root.table}.${root.column} is ${root.type}: one key could be written in several ways. ${advice(false)}`,
    ];
  });
}

const advice = (isRoot: boolean) =>
  isRoot
    ? "Name another unique column as root.key in ownership.yaml (bigint, integer, uuid, text, varchar), or alter its type"
    : "Alter its type to that of the root's key (bigint, integer, uuid, text, varchar with a deterministic collation), or name a parent in its rule";

/** Is this how PostgreSQL writes a key of that kind? Where texts are the keys, every text is. */
export function isWritten(kind: KeyKind, text: string): boolean {
  if (kind === "integer") return /^(0|-?[1-9]\d*)$/.test(text);
  if (kind === "uuid") return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
  return kind !== "boolean" || text === "true" || text === "false";
}
