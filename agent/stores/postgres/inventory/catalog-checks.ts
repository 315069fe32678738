/** Preflight checks of the source's database: is there a rule for everything, and can all of it be fenced? */
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { Finding } from "../../../../protocol/evidence.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { absentFrom } from "../fence/absent-names.ts";
import { failingCascades } from "../fence/cascades.ts";
import { type Catalog, readCatalog } from "../fence/catalog.ts";
import { ROW_TRIGGER } from "../fence/names.ts";
import { checkOwners } from "../fence/owner-checks.ts";
import { isOwned, ownerColumns, ownerExpression, rulesOf } from "../fence/owner-sql.ts";
import { ambiguousOwners } from "../fence/owner-types.ts";
import { verifyGuard } from "../fence/verify.ts";
import { type Queryable, quoteIdentifier, quoteTable } from "../server/queryable.ts";
import { checkPublications } from "./publications.ts";

const LISTED = 20;

function finding(severity: Finding["severity"], code: ErrorCode, message: string): Finding {
  return { store: "postgres", severity, code, message: message.slice(0, 2_000) };
}

const error = (code: ErrorCode, message: string) => finding("error", code, message);

/** At most so many of a kind are listed one by one. */
function bounded(findings: readonly Finding[]): Finding[] {
  if (findings.length <= LISTED) return [...findings];
  const first = findings[0] as Finding;
  return [
    ...findings.slice(0, LISTED),
    { ...first, message: `and ${findings.length - LISTED} more of this kind` },
  ];
}

/**
 * Reads the catalog and a bounded sample of every owned table's rows; changes nothing, takes no lock that writers
 * would notice.
 */
export async function checkCatalog(db: Queryable, ownership: Ownership): Promise<Finding[]> {
  const catalog = await readCatalog(db, ownership);
  const columns = await readColumns(db);
  const absent = absentFrom(ownership, (table) => columns.get(table));
  const invalid = [
    ...absent.map((one) => error("OWNERSHIP_RULE_INVALID", one)),
    ...checkRules(ownership, catalog, columns),
  ];
  return [
    ...bounded(checkCoverage(catalog)),
    ...bounded(invalid),
    ...bounded((await ambiguousOwners(db, ownership)).map((one) => error("OWNERSHIP_RULE_INVALID", one))),
    ...bounded(checkRelations(ownership, catalog)),
    ...(await checkSurroundings(db)),
    ...bounded(await checkPublications(db)),
    ...bounded(await checkTriggerOrder(db, catalog)),
    ...bounded(
      (await failingCascades(db, ownership)).map((one) => finding("warning", "POSTGRES_UNFENCEABLE", one)),
    ),
    // An owner can only be looked for by rules that fit.
    ...(invalid.every(({ severity }) => severity === "warning")
      ? bounded(await checkOwners(db, ownership, catalog))
      : []),
  ];
}

/**
 * The part that a change of the schema can undo, for the moments before a fence: is there a rule and a whole guard for
 * everything, can all of it be fenced? Some catalog reads, whatever the number of rows.
 */
export async function checkFenceable(db: Queryable, ownership: Ownership): Promise<Finding[]> {
  const catalog = await readCatalog(db, ownership);
  return [
    ...bounded(await verifyGuard(db, ownership)),
    ...bounded(checkCoverage(catalog)),
    ...bounded(checkRules(ownership, catalog, await readColumns(db))),
    ...bounded(checkRelations(ownership, catalog)),
    ...(await checkLargeObjects(db)),
    ...(await checkEventTriggers(db)),
    ...bounded(await checkTriggerOrder(db, catalog)),
  ];
}

function checkCoverage(catalog: Catalog): Finding[] {
  return catalog.relations
    .filter((relation) => catalog.ruledBy(relation) === null)
    .map((relation) => error("OWNERSHIP_RULE_MISSING", `the table ${relation.name} has no ownership rule`));
}

interface Column {
  readonly generated: boolean;
}
type Columns = ReadonlyMap<string, ReadonlyMap<string, Column>>;

async function readColumns(db: Queryable): Promise<Columns> {
  const { rows } = await db.query<{ table: string; name: string; generated: boolean }>(
    `SELECT n.nspname || '.' || c.relname AS table, a.attname AS name, a.attgenerated <> '' AS generated
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`,
  );
  const tables = new Map<string, Map<string, Column>>();
  for (const { table, name, generated } of rows) {
    const known = tables.get(table) ?? new Map<string, Column>();
    tables.set(table, known.set(name, { generated }));
  }
  return tables;
}

function checkRules(ownership: Ownership, catalog: Catalog, columns: Columns): Finding[] {
  return [...rulesOf(ownership)].flatMap(([table, rule]): Finding[] => {
    const relation = catalog.byName.get(table);
    // A deployment may bring it.
    if (!relation)
      return [
        finding(
          table === ownership.root.table ? "error" : "warning",
          "OWNERSHIP_RULE_INVALID",
          `there is a rule for ${table}, but no such table`,
        ),
      ];
    if (relation.isPartition)
      return [
        error("OWNERSHIP_RULE_INVALID", `${table} is a partition: name the table that it is a part of`),
      ];
    if (!isOwned(rule)) return [];
    const present = columns.get(table);
    const ofTable = ownerColumns(rule).flatMap((column): Finding[] => {
      const found = present?.get(column);
      // PostgreSQL computes it after the triggers that would have to read it.
      return found?.generated
        ? [
            error(
              "OWNERSHIP_RULE_INVALID",
              `${table}.${column} is a generated column: name what it is computed from`,
            ),
          ]
        : [];
    });
    try {
      ownerExpression(ownership, table, "NEW");
      return ofTable;
    } catch (thrown) {
      if (!(thrown instanceof CleaveError)) throw thrown;
      return [error(thrown.code, thrown.message)];
    }
  });
}

function checkRelations(ownership: Ownership, catalog: Catalog): Finding[] {
  const rules = rulesOf(ownership);
  return catalog.relations.flatMap((relation): Finding[] => {
    const ruled = catalog.ruledBy(relation);
    if (relation.kind === "foreign")
      return [
        error(
          "POSTGRES_UNFENCEABLE",
          `${relation.name} is a foreign table: its rows are elsewhere and are not copied`,
        ),
      ];
    const rule = ruled ? rules.get(ruled.table) : undefined;
    if (relation.persistence === "unlogged" && rule !== undefined && !("local" in rule))
      return [error("POSTGRES_UNFENCEABLE", `${relation.name} is unlogged: its rows are not replicated`)];
    return [];
  });
}

async function checkLargeObjects(db: Queryable): Promise<Finding[]> {
  const { rows } = await db.query<{ present: boolean }>(
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS present",
  );
  return rows[0]?.present
    ? [error("POSTGRES_UNFENCEABLE", "the database has large objects, which have no owner and no trigger")]
    : [];
}

/** From PostgreSQL 17 on a superuser may turn them off: for the server, or for whoever is of a role or in a database. */
const WITHOUT_EVENT_TRIGGERS = `
SELECT 'ALTER SYSTEM RESET event_triggers' AS remedy WHERE pg_catalog.current_setting('event_triggers', true) = 'off'
UNION SELECT pg_catalog.concat_ws(' ', CASE WHEN r.rolname IS NULL THEN pg_catalog.format('ALTER DATABASE %I', d.datname)
    WHEN d.datname IS NULL THEN pg_catalog.format('ALTER ROLE %I', r.rolname) ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I', r.rolname, d.datname) END, 'RESET event_triggers')
  FROM pg_catalog.pg_db_role_setting AS s LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
 WHERE (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
   AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS setting WHERE setting ~* '^event_triggers=(of|f|n|0)')
ORDER BY 1`;

async function checkEventTriggers(db: Queryable): Promise<Finding[]> {
  const { rows } = await db.query<{ remedy: string }>(WITHOUT_EVENT_TRIGGERS);
  return bounded(
    rows.map(({ remedy }) =>
      error(
        "POSTGRES_UNFENCEABLE",
        `event_triggers is off, so nobody would be told of changes of the schema: ${remedy}, and end the sessions that have it`,
      ),
    ),
  );
}

async function checkSurroundings(db: Queryable): Promise<Finding[]> {
  const { rows: prepared } = await db.query<{ gid: string; owner: string; since: string }>(
    "SELECT gid, owner, prepared::text AS since FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY prepared",
  );
  return [
    ...(await checkLargeObjects(db)),
    ...(await checkEventTriggers(db)),
    ...bounded(
      prepared.map(({ gid, owner, since }) =>
        error(
          "POSTGRES_PREPARED_TRANSACTION",
          `the transaction ${JSON.stringify(gid)} of ${owner} is prepared since ${since}`,
        ),
      ),
    ),
  ];
}

/** A BEFORE trigger that fires behind the guard could give the row another owner than the guard saw. */
async function checkTriggerOrder(db: Queryable, catalog: Catalog): Promise<Finding[]> {
  const { rows } = await db.query<{ relation: number; name: string }>(
    `SELECT tgrelid::int8::float8 AS relation, tgname AS name FROM pg_catalog.pg_trigger
     WHERE NOT tgisinternal AND tgtype & 3 = 3 AND tgtype & 20 <> 0 AND tgname COLLATE "C" > $1 COLLATE "C"`,
    [ROW_TRIGGER],
  );
  const byOid = new Map(catalog.relations.map((relation) => [relation.oid, relation]));
  return rows.flatMap(({ relation, name }): Finding[] => {
    const found = byOid.get(relation);
    const ruled = found ? catalog.ruledBy(found) : null;
    return found && ruled && isOwned(ruled.rule)
      ? [
          error(
            "POSTGRES_UNFENCEABLE",
            `the trigger ${name} of ${found.name} fires behind the write guard: rename it to sort before ${ROW_TRIGGER}`,
          ),
        ]
      : [];
  });
}

/** Those of a plan's organizations that the root table does not have. */
export async function missingOrganizations(
  db: Queryable,
  ownership: Ownership,
  organizationIds: Iterable<OrganizationId>,
): Promise<OrganizationId[]> {
  const { table, key } = ownership.root;
  // The key's type is the table's own, so it is compared as text: one pass over the root table, hashed.
  const { rows } = await db.query<{ id: OrganizationId }>(
    `SELECT wanted.id FROM unnest($1::text[]) AS wanted (id)
     WHERE NOT EXISTS (SELECT FROM ${quoteTable(table)} AS root WHERE root.${quoteIdentifier(key)}::text = wanted.id)`,
    [[...organizationIds]],
  );
  return rows.map(({ id }) => id);
}
