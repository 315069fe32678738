/**
 * The Pods of a split number their rows apart. Each replica has the source's sequences as they were, so without this two
 * Pods would give out the same keys from the first row on, and no organization could ever go from one to the other again
 * (move/collisions.ts refuses it). Ranges are laid out while following and replicated with everything else; within the
 * window a new Pod only jumps to the beginning of its own.
 */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { SAFE_MAX, SEQUENCE_REACH } from "../inventory/sequences.ts";
import type { Database } from "../server/connection.ts";

/**
 * What each sequence can still give to its columns, in equal parts: the first is the source's, which goes on where it is.
 * Sequences that count down or begin anew are left alone: nothing is known of what they gave already.
 */
const PARTS = `
WITH RECURSIVE ${SEQUENCE_REACH},
pod AS (SELECT pod_id, ordinality - 1 AS place FROM unnest($2::text[]) WITH ORDINALITY AS t (pod_id, ordinality)),
known AS (
  SELECT format('%I.%I', n.nspname, c.relname) AS name, q.seqmin, q.seqstart,
    greatest(pg_catalog.pg_sequence_last_value(c.oid), q.seqmin - 1)::numeric AS last,
    least(reach.highest, CASE WHEN coalesce(pg_catalog.pg_sequence_last_value(c.oid), q.seqstart) < ${SAFE_MAX} - 10::int8 ^ 12
          THEN least(q.seqmax, ${SAFE_MAX}) ELSE q.seqmax END)::numeric AS max
    FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN reach ON reach.sequence = c.oid
   WHERE q.seqincrement > 0 AND NOT q.seqcycle AND c.relpersistence = 'p'
     AND n.nspname <> 'cleave' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), part AS (
  SELECT name, greatest(last, seqstart - 1) AS last, trunc((max - greatest(last, seqstart - 1)) / (SELECT count(*) FROM pod)) AS width FROM known
)`;

const LAY_OUT = `${PARTS}
INSERT INTO cleave.numbering (migration_id, sequence, pod_id, first, last)
SELECT $1, name, pod_id, (last + place * width + 1)::int8, (last + (place + 1) * width)::int8
  FROM part CROSS JOIN pod WHERE width >= 1
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

/** Sequences, in words, of which little would be left for each of so many Pods. Changes nothing. */
export async function scarceNumbers(db: Database, pods: readonly PodId[]): Promise<string[]> {
  // The first parameter is the migration's, which nothing is laid out for here.
  const { rows } = await db.query<{ name: string; width: string }>(
    `${PARTS} SELECT name, greatest(width, 0)::text AS width FROM part WHERE width < ${FEW} AND $1::text IS NOT NULL ORDER BY 1`,
    ["", [...pods]],
  );
  return rows.map(({ name, width }) =>
    width === "0"
      ? `the sequence ${name} has too few keys left to be divided among ${pods.length} Pods, which will give out the same ones`
      : `the sequence ${name} has ${width} keys left for each of ${pods.length} Pods, as far as its columns go`,
  );
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
