/**
 * What the checks right before a fence have checked must still hold in the fence. So they note the state that they looked
 * at, and the flip compares: changes of the schema by their journal, and by a look of its own what no event trigger sees.
 * The flip holds every writer's lock by then, so nothing changes behind the comparison.
 */
import { z } from "zod";
import type { Queryable } from "../server/queryable.ts";
import { literal, ROW_TRIGGER, TRUNCATE_TRIGGER } from "./names.ts";

export const CheckedState = z.object({
  /** Changes of the schema that a check may depend on. */
  changes: z.string(),
  /** The newest row of the journal, whatever it was. */
  newest: z.string(),
  /**
   * Which tables, sequences and triggers there are, and how they are kept and enabled; of a split, which databases and
   * tablespaces; whether there is a large object.
   */
  look: z.string(),
});
export type CheckedState = z.infer<typeof CheckedState>;

/** SQLSTATE of a fence whose checks have looked at another state. */
export const OUTDATED = "CL412";

/** No check's result depends on these, and applications do them all the time. */
const WITHOUT_EFFECT = `ARRAY[${[
  "ALTER DEFAULT PRIVILEGES",
  "ALTER STATISTICS",
  "COMMENT",
  "CREATE STATISTICS",
  "DROP STATISTICS",
  "GRANT",
  "REFRESH MATERIALIZED VIEW",
  "REINDEX",
  "REVOKE",
  "SECURITY LABEL",
  "TRUNCATE",
]
  .map((tag) => literal(tag))
  .join(", ")}]`;

/** SQL for a value that differs when any of these rows does: their order does not matter. */
const sumOf = (oid: string, kept: string) =>
  `COALESCE(sum(pg_catalog.hashint8extended(${oid}::pg_catalog.int8, pg_catalog.ascii(${kept}))), 0)`;

/** Two to three milliseconds with two thousand tables: it reads catalogs and the journal, and no rows. */
const STATE = `
SELECT (SELECT count(*) FROM cleave.schema_change AS change WHERE change.tag <> ALL (${WITHOUT_EFFECT}))::pg_catalog.text AS changes,
  (SELECT COALESCE(max(change.id), 0) FROM cleave.schema_change AS change)::pg_catalog.text AS newest,
  pg_catalog.concat_ws('/',
    (SELECT ${sumOf("c.oid", "c.relpersistence::pg_catalog.text")} FROM pg_catalog.pg_class AS c
      WHERE c.relkind IN ('r', 'p', 'f', 'S') AND c.relpersistence <> 't'),
    (SELECT ${sumOf("t.oid", "t.tgenabled::pg_catalog.text")} FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal),
    (SELECT count(*) FROM pg_catalog.pg_trigger AS t WHERE t.tgname IN (${literal(ROW_TRIGGER)}, ${literal(TRUNCATE_TRIGGER)}) AND t.tgenabled = 'A'),
    (SELECT ${sumOf("e.oid", "e.evtenabled::pg_catalog.text")} FROM pg_catalog.pg_event_trigger AS e WHERE e.evtname LIKE 'cleave%'),
    -- A split copies the whole server, and of what concerns all of it no event trigger is told.
    (SELECT pg_catalog.concat_ws(',', (SELECT ${sumOf("d.oid", "d.datallowconn::pg_catalog.text")} FROM pg_catalog.pg_database AS d),
        (SELECT ${sumOf("s.oid", "'s'::pg_catalog.text")} FROM pg_catalog.pg_tablespace AS s))
      WHERE EXISTS (SELECT FROM cleave.share AS s WHERE NOT s.logical AND s.phase IN ('source', 'fenced'))),
    (SELECT count(*) FROM (SELECT FROM pg_catalog.pg_largeobject_metadata LIMIT 1) AS one)) AS look`;

/** To be read before the checks: what changes while they run counts as changed. Null where there is no guard with a journal. */
export async function readCheckedState(db: Queryable): Promise<CheckedState | null> {
  const { rows: journals } = await db.query<{ present: boolean }>(
    "SELECT pg_catalog.to_regclass('cleave.schema_change') IS NOT NULL AS present",
  );
  if (!journals[0]?.present) return null;
  const { rows } = await db.query<CheckedState>(STATE);
  return rows[0] as CheckedState;
}

/** PL/pgSQL that fails with `OUTDATED` unless everything is as it was; it says what is not. */
export function requireUnchanged(checked: CheckedState): string {
  return `
DECLARE
  seen pg_catalog.record;
  changes pg_catalog.text;
BEGIN
  SELECT * INTO seen FROM (${STATE}) AS state;
  IF seen.changes <> ${literal(checked.changes)} OR seen.look <> ${literal(checked.look)} THEN
    SELECT pg_catalog.string_agg(said, '; ') INTO changes FROM (
      SELECT pg_catalog.left(change.tag || ' (' || pg_catalog.array_to_string(change.objects, ', ') || ')', 200) AS said
        FROM cleave.schema_change AS change
       WHERE change.id > ${literal(checked.newest)}::pg_catalog.int8 AND change.tag <> ALL (${WITHOUT_EFFECT}) ORDER BY change.id LIMIT 5
    ) AS listed;
    RAISE EXCEPTION USING ERRCODE = '${OUTDATED}', MESSAGE = pg_catalog.format('changed after the last checks: %s',
      COALESCE(changes, CASE WHEN seen.look LIKE '%/1' AND ${literal(checked.look)} NOT LIKE '%/1' THEN 'a large object was made'
        ELSE 'a table, trigger, database or tablespace, in a way that event triggers do not see' END));
  END IF;
END;`;
}
