/**
 * The names of columns and tables that the guard's functions use. PL/pgSQL looks names up when it is called: after a RENAME
 * or a DROP of what says whose a row is, every write would fail. So each function of a table is kept a second time, with
 * marks where its names are, and an event trigger makes it again in the transaction that changes a name. When one of them is
 * gone nobody can tell whose the rows are: they are let through as long as every organization is here (`admit_unknown`), and
 * no fence goes up. The agent says which rule has to be changed, and makes the functions from the rules again.
 *
 * A type is remembered for another reason: sessions keep plans of what they have called, by the types of then, and each later
 * write of theirs would fail (42804). A function that was made again is planned again.
 *
 * By the same trigger a table that gets a name which a rule knows (a new one, or a renamed one) is guarded before anybody
 * else can write to it.
 */
import { createTrigger } from "./create-trigger.ts";
import { quoted } from "./marks.ts";
import { INSTALL_KEYS, literal, ROW_TRIGGER } from "./names.ts";

/**
 * SQL: each mark with what it stands for now, and of which type that is. The rules' name comes first: a view, or another table,
 * may have it by now. Of a table that was never there it is the rules' name, for when there is one.
 */
const NOW = `
SELECT known.mark, known.present, known.type, CASE
    WHEN known.relation IS NULL AND named.oid IS NULL THEN known.present
    WHEN known."column" <> '' THEN COALESCE(${quoted("found.attname")}, '')
    WHEN named.oid IS NOT NULL THEN known.quoted_table
    ELSE COALESCE((SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = known.relation), '') END AS now,
  COALESCE(found.atttypid, known.type) AS type_now
FROM cleave.guard_name AS known
  LEFT JOIN LATERAL (SELECT pg_catalog.to_regclass(known.quoted_table)::pg_catalog.oid) AS named (oid) ON true
  LEFT JOIN LATERAL (
    SELECT a.attname, a.atttypid FROM pg_catalog.pg_attribute AS a
     WHERE a.attrelid = COALESCE(named.oid, known.relation) AND a.attnum > 0 AND NOT a.attisdropped AND known."column" <> ''
       AND (a.attname = known."column" OR (a.attrelid = known.relation AND a.attnum = known.number))
     ORDER BY a.attname = known."column" DESC LIMIT 1
  ) AS found ON true`;

const OTHER = "(other.now <> other.present OR other.type_now IS DISTINCT FROM other.type)";

/** SQL for a trigger of the relation and function that format() is given. */
const triggerOf = (kind: "row" | "truncate") => literal(createTrigger(kind, "%1$s", "%2$s"));

/** Called on behalf of whoever changes the schema. */
export const NAMES_FUNCTIONS = [
  {
    signature: "cleave.follow_names()",
    returns: "event_trigger",
    definer: true,
    settings: ["search_path=pg_catalog, pg_temp", "lock_timeout=0", "client_min_messages=warning"],
    body: `
DECLARE
  changed text[];
  made record;
  one record;
  body text;
BEGIN
  IF EXISTS (SELECT FROM (${NOW}) AS other WHERE ${OTHER}) THEN
    -- An agent may be about to make the functions too; it waits for nobody meanwhile.
    PERFORM pg_catalog.pg_advisory_xact_lock(${INSTALL_KEYS});
    WITH renamed AS (
      UPDATE cleave.guard_name AS name SET present = other.now, type = other.type_now FROM (${NOW}) AS other
       WHERE other.mark = name.mark AND ${OTHER} RETURNING name.mark
    ) SELECT pg_catalog.array_agg(renamed.mark) INTO changed FROM renamed;
  END IF;
  IF changed IS NOT NULL THEN
    FOR made IN
      SELECT source.name, source.body FROM cleave.guard_source AS source
       WHERE EXISTS (SELECT FROM pg_catalog.unnest(changed) AS mark WHERE pg_catalog.strpos(source.body, mark) > 0)
    LOOP
      body := made.body;
      FOR one IN SELECT * FROM cleave.guard_name AS name WHERE pg_catalog.strpos(made.body, name.mark) > 0 LOOP
        body := CASE one.present WHEN '' THEN NULL ELSE pg_catalog.replace(body, one.mark, one.present) END;
      END LOOP;
      body := COALESCE(body, ${literal(`
BEGIN
  PERFORM cleave.admit_unknown(pg_catalog.concat(TG_TABLE_SCHEMA, '.', TG_TABLE_NAME));
  IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END`)});
      EXECUTE pg_catalog.format('CREATE OR REPLACE FUNCTION cleave.%I() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS %L', made.name, body);
    END LOOP;
  END IF;
  FOR made IN
    SELECT c.oid::pg_catalog.regclass AS relation, guarded.row_function, guarded.truncate_function FROM cleave.guarded
      JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(guarded.quoted_table)
     WHERE c.oid IN (SELECT command.objid FROM pg_catalog.pg_event_trigger_ddl_commands() AS command WHERE command.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
       AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS present JOIN pg_catalog.pg_proc AS called ON called.oid = present.tgfoid
         WHERE present.tgrelid = c.oid AND present.tgname = ${literal(ROW_TRIGGER)} AND called.proname = guarded.row_function)
       AND NOT EXISTS (SELECT FROM pg_catalog.unnest(guarded.columns) AS needed WHERE NOT EXISTS (
         SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = needed AND a.attnum > 0 AND NOT a.attisdropped))
  LOOP
    -- What the statement has not locked itself is not worth a wait of others: the agent does it.
    PERFORM pg_catalog.set_config('lock_timeout', '50ms', true);
    BEGIN
      EXECUTE pg_catalog.format(${triggerOf("row")}, made.relation, made.row_function);
      EXECUTE pg_catalog.format(${triggerOf("truncate")}, made.relation, made.truncate_function);
      UPDATE cleave.guard_name AS name SET relation = made.relation, number = (SELECT a.attnum FROM pg_catalog.pg_attribute AS a
          WHERE a.attrelid = made.relation AND a.attname = name."column" AND NOT a.attisdropped)
       WHERE name.relation IS NULL AND pg_catalog.to_regclass(name.quoted_table) = made.relation;
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'cleave: % is not guarded yet: %', made.relation, SQLERRM;
    END;
  END LOOP;
END`,
  },
] as const;
