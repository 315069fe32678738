/**
 * The Pods of a split number their rows apart. Each replica has the source's sequences as they were, so without this two
 * Pods would give out the same keys from the first row on, and no organization could ever go from one to the other again
 * (move/collisions.ts refuses it). Ranges are laid out while following and replicated with everything else; within the
 * window a new Pod only jumps to the beginning of its own.
 */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { rulesOf } from "../fence/owner-sql.ts";
import { SAFE_MAX, SEQUENCE_REACH } from "../inventory/sequences.ts";
import type { Database } from "../server/connection.ts";

/**
 * What each sequence can still give to its columns, in equal parts: the first is the source's, which goes on where it is.
 * A sequence that counts in steps keeps them: who shares a column by steps (odd here, even there) goes on doing so.
 * Sequences that count down or begin anew are left alone: nothing is known of what they gave already.
 */
const PARTS = `
WITH RECURSIVE ${SEQUENCE_REACH},
pod AS (SELECT pod_id, ordinality - 1 AS place FROM unnest($2::text[]) WITH ORDINALITY AS t (pod_id, ordinality)),
known AS (
  SELECT format('%I.%I', n.nspname, c.relname) AS name, q.seqincrement AS step,
    greatest(pg_catalog.pg_sequence_last_value(c.oid)::numeric, q.seqstart::numeric - q.seqincrement) AS last,
    least(reach.highest, CASE WHEN coalesce(pg_catalog.pg_sequence_last_value(c.oid), q.seqstart) < ${SAFE_MAX} - 10::int8 ^ 12
          THEN least(q.seqmax, ${SAFE_MAX}) ELSE q.seqmax END)::numeric AS max
    FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN reach ON reach.sequence = c.oid
   WHERE q.seqincrement > 0 AND NOT q.seqcycle AND c.relpersistence = 'p'
     AND n.nspname <> 'cleave' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), part AS (
  SELECT name, step, last, trunc((max - last) / (SELECT count(*) FROM pod) / step) * step AS width FROM known
)`;

const LAY_OUT = `${PARTS}
INSERT INTO cleave.numbering (migration_id, sequence, pod_id, first, last)
SELECT $1, name, pod_id, (last + place * width + step)::int8, (last + (place + 1) * width)::int8
  FROM part CROSS JOIN pod WHERE width >= step
ON CONFLICT DO NOTHING`;

/** On the source, while following; what was laid out once stays. */
export async function layOutNumbers(
  db: Database,
  migrationId: MigrationId,
  sourcePodId: PodId,
  targetPodIds: readonly PodId[],
): Promise<void> {
  await db.query(LAY_OUT, [migrationId, [sourcePodId, ...[...targetPodIds].sort()]]);
}

/** Fewer keys than this for each Pod are soon given out. */
const FEW = 1_000_000;

/** Counts down or begins anew, and fills a column. */
const NOT_DIVIDED = `
WITH RECURSIVE ${SEQUENCE_REACH}
SELECT format('%I.%I', n.nspname, c.relname) AS name, CASE WHEN q.seqincrement < 0 THEN 'counts down' ELSE 'begins anew at its end' END AS what
  FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (q.seqincrement < 0 OR q.seqcycle) AND c.relpersistence = 'p' AND n.nspname <> 'cleave' AND n.nspname !~ '^pg_'
   AND EXISTS (SELECT FROM fed WHERE fed.sequence = c.oid) ORDER BY 1`;

/**
 * Sequences, in words with a next step, that several Pods will or soon may give out the same keys of: little would be left
 * for each, or nothing is known of what was given. Changes nothing.
 */
export async function overlappingNumbers(db: Database, pods: readonly PodId[]): Promise<string[]> {
  // The first parameter is the migration's, which nothing is laid out for here.
  const { rows } = await db.query<{ name: string; keys: string }>(
    `${PARTS} SELECT name, greatest(width / step, 0)::numeric(20)::text AS keys FROM part WHERE width / step < ${FEW} AND $1::text IS NOT NULL ORDER BY 1`,
    ["", [...pods]],
  );
  const { rows: undivided } = await db.query<{ name: string; what: string }>(NOT_DIVIDED);
  const wider =
    "give its columns (and those that refer to them) the type bigint, or plan with another numbering";
  return [
    ...rows.map(({ name, keys }) =>
      keys === "0"
        ? `the sequence ${name} has too few keys left to be divided among ${pods.length} Pods, which will give out the same ones: ${wider}`
        : `the sequence ${name} has ${keys} keys left for each of ${pods.length} Pods, as far as its columns go: ${wider}`,
    ),
    ...undivided.map(
      ({ name, what }) =>
        `the sequence ${name} ${what}, so it is not divided among the Pods, which will give out the same keys: let it count upwards without CYCLE, or fill its columns in another way`,
    ),
  ];
}

/**
 * Sequences, in words with a next step, that a crash and a promotion set back to their beginning. One that belongs to a
 * table of the Pod's own goes with that table, which is empty then as well.
 */
export async function unloggedSequences(db: Database, ownership: Ownership): Promise<string[]> {
  const rules = rulesOf(ownership);
  const { rows } = await db.query<{ name: string; quoted: string; owner: string | null }>(
    `SELECT n.nspname || '.' || c.relname AS name, format('%I.%I', n.nspname, c.relname) AS quoted,
       (SELECT tn.nspname || '.' || t.relname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.refclassid = d.classid AND d.deptype IN ('a', 'i') LIMIT 1) AS owner
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'S' AND c.relpersistence = 'u' ORDER BY 1`,
  );
  return rows.flatMap(({ name, quoted, owner }) => {
    const rule = rules.get(owner ?? "");
    if (rule !== undefined && "local" in rule) return [];
    return [
      `the sequence ${name} is unlogged: on a new Pod it begins anew, with keys that are taken: ALTER SEQUENCE ${quoted} SET LOGGED`,
    ];
  });
}

/** On a new Pod, promoted and still closed. Costs some microseconds for each sequence; a sequence never goes back. */
export async function beginOwnNumbers(db: Database, migrationId: MigrationId, podId: PodId): Promise<void> {
  await db.query(
    `SELECT pg_catalog.setval(sequence, first, false) FROM (
       SELECT to_regclass(sequence) AS sequence, first FROM cleave.numbering WHERE migration_id = $1 AND pod_id = $2
     ) AS own
     WHERE sequence IS NOT NULL AND coalesce(pg_catalog.pg_sequence_last_value(sequence), first - 1) < first`,
    [migrationId, podId],
  );
}

/** The Pod serves its part of a split, and no share is on its way any more: until then the schema is closed. */
export function numbersApart({ kind, podId, role, shares }: Duty): boolean {
  const phases = Object.values(shares);
  const serves = role === "source" ? phases.includes("opened") : shares[podId] === "opened";
  return kind === "split" && serves && phases.every((phase) => phase === "opened" || phase === "source");
}

/**
 * After the window, on every Pod: no sequence can leave its Pod's range. One at a time, since each takes a lock that
 * whoever asks for a key waits for.
 */
export async function boundNumbers(db: Database, migrationId: MigrationId, podId: PodId): Promise<void> {
  const { rows } = await db.query<{ sequence: string; last: string }>(
    `SELECT n.sequence, n.last::text FROM cleave.numbering n JOIN pg_catalog.pg_sequence q ON q.seqrelid = to_regclass(n.sequence)
      WHERE n.migration_id = $1 AND n.pod_id = $2 AND q.seqmax <> n.last
        AND coalesce(pg_catalog.pg_sequence_last_value(q.seqrelid), n.last) <= n.last`,
    [migrationId, podId],
  );
  for (const { sequence, last } of rows)
    await db.query(
      `SET lock_timeout = '500ms'; ALTER SEQUENCE ${sequence} MAXVALUE ${BigInt(last)}; SET lock_timeout = DEFAULT`,
    );
}
