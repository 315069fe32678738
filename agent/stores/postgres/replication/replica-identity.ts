/**
 * What a publication needs of the tables in it: without a replica identity every UPDATE and DELETE fails (55000). Of a
 * partitioned table each partition has its own, and PostgreSQL hands none down: not the root's to a partition that is there,
 * and not to one that is made or attached later.
 */
import type { Queryable } from "../server/queryable.ts";

/** Fires after the guard's and before the journal's, by its name. */
export const IDENTITY_TRIGGERS = [
  { name: "cleave_identity", event: "ddl_command_end", procedure: "keep_identities" },
] as const;

/**
 * SQL for the tables, and partitions of tables, that a stream could not tell the rows of as it does its root's: each with
 * what its REPLICA IDENTITY has to be. `roots` is SQL for a set of oids. Without one (an empty text): that would be all columns,
 * of which one is virtual, and no stream has these; whatever was published so could not be updated.
 */
const faults = (roots: string) => `
WITH RECURSIVE member (root, oid) AS (
  SELECT root, root FROM (${roots}) AS given (root)
  UNION ALL
  SELECT member.root, i.inhrelid FROM member JOIN pg_catalog.pg_inherits AS i ON i.inhparent = member.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
), known AS (
  SELECT member.root, member.oid, c.relkind, c.relreplident AS kind, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
    EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = member.oid AND a.attgenerated = 'v' AND NOT a.attisdropped) AS virtual,
    (SELECT x.indexrelid FROM pg_catalog.pg_index AS x WHERE x.indrelid = member.oid
      AND x.indisvalid AND x.indislive AND x.indimmediate
      AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END LIMIT 1) AS index
  FROM member JOIN pg_catalog.pg_class AS c ON c.oid = member.oid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
), part (root, index) AS (
  SELECT known.root, known.index FROM known WHERE known.root = known.oid AND known.index IS NOT NULL
  UNION ALL
  SELECT part.root, i.inhrelid FROM part JOIN pg_catalog.pg_inherits AS i ON i.inhparent = part.index
), of_root AS (
  SELECT part.root, x.indrelid AS oid, x.indexrelid AS index, x.indisprimary AS primary, i.relname AS name
  FROM part JOIN pg_catalog.pg_index AS x ON x.indexrelid = part.index AND x.indisvalid
    JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
)
SELECT known.name, known.root, known.oid = known.root AS is_root,
  CASE WHEN of_root.index IS NULL OR known.oid = known.root THEN CASE WHEN known.virtual THEN '' ELSE 'FULL' END
    WHEN of_root.primary THEN 'DEFAULT' ELSE pg_catalog.format('USING INDEX %I', of_root.name) END AS identity
FROM known LEFT JOIN of_root ON of_root.root = known.root AND of_root.oid = known.oid
WHERE (known.kind <> 'f' OR (known.virtual AND known.relkind = 'r')) AND CASE known.relkind WHEN 'r' THEN known.index IS NULL OR known.index IS DISTINCT FROM of_root.index
  WHEN 'p' THEN known.oid = known.root AND known.index IS NULL ELSE false END
ORDER BY 1`;

/** Those of Cleave have the marker in them. What a command is about is known where it drops nothing and publishes nothing. */
const PUBLISHED = `SELECT DISTINCT other.prrelid FROM pg_catalog.pg_publication_rel AS own
  JOIN pg_catalog.pg_publication_rel AS other ON other.prpubid = own.prpubid
  WHERE own.prrelid = pg_catalog.to_regclass('cleave.marker')
    AND (concerned IS NULL OR other.prrelid = ANY (concerned))`;

/** SQL for the table that a row of pg_event_trigger_ddl_commands is about; NULL when it is none. */
export const RELATION = `
      CASE command.classid
        WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN COALESCE((SELECT i.indrelid FROM pg_catalog.pg_index AS i WHERE i.indexrelid = command.objid), command.objid)
        WHEN 'pg_catalog.pg_trigger'::pg_catalog.regclass THEN (SELECT t.tgrelid FROM pg_catalog.pg_trigger AS t WHERE t.oid = command.objid)
        WHEN 'pg_catalog.pg_constraint'::pg_catalog.regclass THEN (SELECT k.conrelid FROM pg_catalog.pg_constraint AS k WHERE k.oid = command.objid)
        WHEN 'pg_catalog.pg_attrdef'::pg_catalog.regclass THEN (SELECT d.adrelid FROM pg_catalog.pg_attrdef AS d WHERE d.oid = command.objid)
      END`;

/** On behalf of whoever changes the schema, in his own transaction, whose locks are there; what cannot be done fails nothing. */
export const IDENTITY_FUNCTIONS = [
  {
    signature: "cleave.keep_identities()",
    returns: "event_trigger",
    definer: true,
    // What the statement has not locked itself is not worth a wait of others.
    settings: ["search_path=pg_catalog, pg_temp", "lock_timeout=50ms"],
    body: `
DECLARE
  relation record;
  publication name;
  concerned pg_catalog.oid[];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS own WHERE own.prrelid = 'cleave.marker'::pg_catalog.regclass) THEN
    RETURN;
  END IF;
  IF TG_TAG !~ '^DROP|PUBLICATION' THEN
    SELECT pg_catalog.array_agg(DISTINCT COALESCE(pg_catalog.pg_partition_root(about.oid::pg_catalog.regclass)::pg_catalog.oid, about.oid)) INTO concerned
      FROM pg_catalog.pg_event_trigger_ddl_commands() AS command CROSS JOIN LATERAL (SELECT ${RELATION} AS oid) AS about
     WHERE about.oid IS NOT NULL;
    IF concerned IS NULL THEN
      RETURN;
    END IF;
  END IF;
  FOR relation IN ${faults(PUBLISHED)} LOOP
    BEGIN
      IF relation.identity = '' THEN
        -- No fence comes up without it, and the agent says why; nobody's write fails meanwhile.
        FOR publication IN SELECT p.pubname FROM pg_catalog.pg_publication AS p
          JOIN pg_catalog.pg_publication_rel AS own ON own.prpubid = p.oid AND own.prrelid = 'cleave.marker'::pg_catalog.regclass
          JOIN pg_catalog.pg_publication_rel AS other ON other.prpubid = p.oid AND other.prrelid = relation.root
        LOOP
          EXECUTE pg_catalog.format('ALTER PUBLICATION %I DROP TABLE %s', publication, relation.root::pg_catalog.regclass);
        END LOOP;
        CONTINUE;
      END IF;
      EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', relation.name, relation.identity);
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'cleave: % has no replica identity: %', relation.name, SQLERRM;
    END;
  END LOOP;
END`,
  },
] as const;

export interface IdentityFault {
  /** Quoted, with its schema. */
  readonly name: string;
  /** No partition: what it should be is its owner's to say. */
  readonly is_root: boolean;
  /** As ALTER TABLE … REPLICA IDENTITY has it; empty when there is none that could be published. */
  readonly identity: string;
}

/** Of these tables (quoted) and their partitions, the ones whose replica identity is none, or another than the root's. */
export async function findIdentityFaults(
  db: Queryable,
  tables: readonly string[],
): Promise<readonly IdentityFault[]> {
  const roots =
    "SELECT pg_catalog.to_regclass(name)::pg_catalog.oid FROM pg_catalog.unnest($1::pg_catalog.text[]) AS name";
  const { rows } = await db.query<IdentityFault & Record<string, unknown>>(faults(roots), [tables]);
  return rows;
}

/** Of each table that has no replica identity, what to do about it. */
export function describeIdentityFaults(found: readonly IdentityFault[]): string[] {
  return found
    .filter(({ is_root, identity }) => is_root || identity === "")
    .map(({ name, identity }) =>
      identity === ""
        ? withVirtual(name)
        : `${name} has no replica identity: add a primary key, or ALTER TABLE ${name} REPLICA IDENTITY USING INDEX (of a unique key that is NOT NULL)`,
    );
}

/** `name`: of the table. */
export const withVirtual = (name: string): string =>
  `${name} is told apart by all of its columns, and one that is virtual is in no change stream: every UPDATE and DELETE would fail once it is published; give it a primary key, and ALTER TABLE ${name} REPLICA IDENTITY DEFAULT`;
