/**
 * The journal of schema changes: each is a row of `cleave.schema_change`, written by the transaction that makes it. So it
 * lies in the order of the change stream and of replay; what is no part of a row (a partition that is attached, a value
 * that a new type rewrites) is told like a row; and the number of these rows is the schema's generation: what was checked
 * at one generation holds at the fence when that is still the same.
 */
import type { SharePhase } from "../../../../protocol/cluster.ts";
import { RELATION } from "../replication/replica-identity.ts";
import { type Queryable, quoteLiteral } from "../server/queryable.ts";

/**
 * A trigger that fires in the order of its name, behind the guard's. `DETACH PARTITION … CONCURRENTLY` commits before it
 * ends, and is noted before that.
 */
export const JOURNAL_TRIGGERS = [
  {
    name: "cleave_journal_start",
    event: "ddl_command_start WHEN TAG IN ('ALTER TABLE')",
    procedure: "journal_start",
  },
  { name: "cleave_journal_ddl", event: "ddl_command_end", procedure: "journal_ddl" },
  { name: "cleave_journal_drop", event: "sql_drop", procedure: "journal_drop" },
] as const;

export const JOURNAL_TABLES = `
-- Every change of the schema, by the transaction that made it. Its number of rows is the schema's generation.
CREATE TABLE IF NOT EXISTS cleave.schema_change (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
  tag text NOT NULL,
  -- Kind and name of what was changed, for people.
  objects text[] NOT NULL,
  -- The tables (of partitions, the root) whose rows may be others by it, as \`schema.table\`; NULL when that may be any.
  relations text[],
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);`;

/** Kinds of objects that no row depends on. */
const WITHOUT_ROWS = `ARRAY[${[
  "aggregate",
  "comment",
  "event trigger",
  "function",
  "index",
  "materialized view",
  "policy",
  "procedure",
  "publication",
  "publication namespace",
  "publication relation",
  "role",
  "routine",
  "rule",
  "sequence",
  "statistics object",
  "subscription",
  "toast table",
  "trigger",
  "view",
]
  .map((kind) => quoteLiteral(kind))
  .join(", ")}]`;

/** SQL: what was made is a session's own; a trigger or a rule does not say so itself, and its table (`relation`) does. */
export const isTemporary = (command: string, relation: string) =>
  `(COALESCE(${command}.schema_name, '') LIKE 'pg_temp%' OR EXISTS (SELECT FROM pg_catalog.pg_class AS own WHERE own.oid = ${relation} AND own.relpersistence = 't'))`;

/** SQL, where something was dropped: what the command names is a session's own. What goes with it (a view's rule) does not say so. */
export const ONLY_TEMPORARY_DROPPED =
  "NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() AS named WHERE named.original AND NOT named.is_temporary)";

/** SQL: a publication of Cleave's own. */
const isOwnPublication = (command: string) =>
  `COALESCE(${command}.object_type LIKE 'publication%' AND ${command}.object_identity ~ '(^|in publication |^"?)cleave_', false)`;

/** Called on behalf of whoever changes the schema, so they act as their owner, and nothing in them fails for him. */
export const JOURNAL_FUNCTIONS = [
  {
    signature: "cleave.schema_generation()",
    returns: "bigint",
    definer: false,
    body: `
BEGIN
  RETURN (SELECT pod.forgotten_changes FROM cleave.pod) + (SELECT count(*) FROM cleave.schema_change);
END`,
  },
  {
    signature: "cleave.journal_start()",
    returns: "event_trigger",
    definer: true,
    body: `
BEGIN
  -- A materialized view that is refreshed CONCURRENTLY alters a temporary table of its own.
  IF pg_catalog.current_query() ~* 'detach.*concurrently' THEN
    PERFORM cleave.admit_ddl(TG_TAG);
    INSERT INTO cleave.schema_change (tag, objects) VALUES (TG_TAG || ' … CONCURRENTLY', ARRAY[]::text[]);
  END IF;
END`,
  },
  {
    signature: "cleave.journal_ddl()",
    returns: "event_trigger",
    definer: true,
    body: `
BEGIN
  INSERT INTO cleave.schema_change (tag, objects, relations)
  SELECT TG_TAG, pg_catalog.array_agg(DISTINCT named.object),
    CASE WHEN pg_catalog.bool_or(named.unknown) THEN NULL ELSE COALESCE(pg_catalog.array_agg(DISTINCT named.relation) FILTER (WHERE named.relation IS NOT NULL), ARRAY[]::text[]) END
  FROM (
    SELECT COALESCE(command.object_type, '?') || ' ' || COALESCE(command.object_identity, '?') AS object,
      CASE WHEN command.object_type <> ALL (${WITHOUT_ROWS}) THEN n.nspname || '.' || c.relname END AS relation,
      c.oid IS NULL AND command.object_type <> ALL (${WITHOUT_ROWS}) AS unknown
    FROM pg_catalog.pg_event_trigger_ddl_commands() AS command
      CROSS JOIN LATERAL (SELECT ${RELATION} AS oid) AS about
      LEFT JOIN pg_catalog.pg_class AS c
        ON c.oid = COALESCE(pg_catalog.pg_partition_root(about.oid::pg_catalog.regclass)::pg_catalog.oid, about.oid) AND c.relkind IN ('r', 'p', 'f')
      LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    -- Rights have no class, and no rows. A superuser named cleave makes his tables in Cleave's own schema, unless he says where.
    WHERE command.classid IS NOT NULL AND NOT ${isTemporary("command", "about.oid")} AND NOT ${isOwnPublication("command")}
      AND (command.schema_name IS DISTINCT FROM 'cleave' OR n.nspname <> 'cleave')
  ) AS named
  HAVING count(*) > 0;
END`,
  },
  {
    signature: "cleave.journal_drop()",
    returns: "event_trigger",
    definer: true,
    body: `
BEGIN
  INSERT INTO cleave.schema_change (tag, objects, relations)
  SELECT TG_TAG, pg_catalog.array_agg(DISTINCT named.object),
    COALESCE(pg_catalog.array_agg(DISTINCT named.relation) FILTER (WHERE named.relation IS NOT NULL), ARRAY[]::text[])
  FROM (
    SELECT dropped.object_type || ' ' || dropped.object_identity AS object,
      CASE WHEN dropped.object_type IN ('table', 'foreign table', 'table column', 'table constraint', 'default value')
        THEN dropped.address_names[1] || '.' || dropped.address_names[2] END AS relation
    FROM pg_catalog.pg_event_trigger_dropped_objects() AS dropped
    WHERE NOT dropped.is_temporary AND NOT (${ONLY_TEMPORARY_DROPPED}) AND dropped.schema_name IS DISTINCT FROM 'pg_toast' AND NOT ${isOwnPublication("dropped")}
      AND (dropped.schema_name IS DISTINCT FROM 'cleave' OR dropped.object_type = 'table')
  ) AS named
  HAVING count(*) > 0;
END`,
  },
] as const;

/** PL/pgSQL for the trigger function of TRUNCATE: what it empties, no row trigger sees, and of a partition no stream. */
export const NOTE_TRUNCATE = `INSERT INTO cleave.schema_change (tag, objects, relations)
    SELECT 'TRUNCATE', ARRAY['table ' || TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME], ARRAY[n.nspname || '.' || c.relname]
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = COALESCE(pg_catalog.pg_partition_root(TG_RELID)::pg_catalog.oid, TG_RELID);`;

/** How often the schema was changed since there is a guard; a standby answers too, as of what it has replayed. */
export async function readSchemaGeneration(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ generation: string }>("SELECT cleave.schema_generation() AS generation");
  return Number(rows[0]?.generation ?? 0);
}

/** After this a change that no live migration has to look at is forgotten; the generation goes on counting it. */
const KEPT = "30 days";
const LIVE: readonly SharePhase[] = ["source", "fenced", "transferred"];

/** Keeps the journal from growing for ever. To be called when a migration is over. */
export async function forgetSchemaChanges(db: Queryable): Promise<void> {
  await db.query(
    `WITH forgotten AS (DELETE FROM cleave.schema_change AS changed WHERE changed.at < pg_catalog.now() - interval '${KEPT}'
        AND NOT EXISTS (SELECT FROM cleave.share WHERE share.phase = ANY ($1::text[])) RETURNING 1)
      UPDATE cleave.pod SET forgotten_changes = forgotten_changes + forgotten.many
        FROM (SELECT count(*) AS many FROM forgotten) AS forgotten WHERE forgotten.many > 0`,
    [LIVE],
  );
}
