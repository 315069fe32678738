/** Do two Pods give out the same keys? Their sequences are compared as what they can still give, now or ever. */
import type { Duty } from "../../../../protocol/ports/store.ts";
import { SAFE_MAX, SEQUENCE_REACH } from "../inventory/sequences.ts";
import type { Database } from "../server/connection.ts";

interface Sequence {
  /** `table.column` of a column that it fills; null: no column's default names it, and nobody owns it. */
  readonly place: string | null;
  readonly name: string;
  readonly quoted: string;
  readonly last: bigint;
  readonly min: bigint;
  /** The least of its own and of what its columns, and those that refer to them, can hold. */
  readonly max: bigint;
  readonly step: bigint;
}

const SEQUENCES = `
WITH RECURSIVE ${SEQUENCE_REACH}
SELECT tn.nspname || '.' || t.relname || '.' || a.attname AS place, sn.nspname || '.' || s.relname AS name,
  format('%I.%I', sn.nspname, s.relname) AS quoted, q.seqmin::text AS min, trunc(least(q.seqmax::numeric, reach.highest))::text AS max,
  q.seqincrement::text AS step, q.seqstart::text AS last
FROM pg_sequence q JOIN pg_class s ON s.oid = q.seqrelid JOIN pg_namespace sn ON sn.oid = s.relnamespace
  LEFT JOIN fed ON fed.sequence = s.oid AND fed.direct LEFT JOIN reach ON reach.sequence = s.oid
  LEFT JOIN pg_class t ON t.oid = fed.relation LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = fed.number
WHERE s.relpersistence <> 't' AND sn.nspname NOT IN ('cleave', 'information_schema') AND sn.nspname !~ '^pg_'
  AND (tn.nspname || '.' || t.relname = ANY ($1::text[]) OR (fed.sequence IS NULL AND NOT q.seqcycle))
ORDER BY 1, 2`;

async function read(db: Database, tables: readonly string[]): Promise<Sequence[]> {
  const { rows } = await db.query<Record<keyof Sequence, string>>(SEQUENCES, [tables]);
  // Of a sequence that was set and not asked yet only the sequence itself knows.
  const lasts = rows.map(({ quoted }, at) => `SELECT ${at} AS at, last_value::text AS last FROM ${quoted}`);
  const { rows: asked } =
    lasts.length === 0
      ? { rows: [] }
      : await db.query<{ at: number; last: string }>(lasts.join(" UNION ALL "));
  const lastOf = new Map(asked.map(({ at, last }) => [at, last]));
  return rows.map(({ place, name, quoted, last, min, max, step }, at) => ({
    place,
    name,
    quoted,
    last: BigInt(lastOf.get(at) ?? last),
    min: BigInt(min),
    max: BigInt(max),
    step: BigInt(step),
  }));
}

/** What a sequence can give from now on: from the last value, in its direction, as far as it goes. */
function rangeOf({ last, min, max, step }: Sequence): readonly [bigint, bigint] {
  return step > 0n ? [last, max] : [min, last];
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}

export function overlap(a: Sequence, b: Sequence): boolean {
  const [[aFrom, aTo], [bFrom, bTo]] = [rangeOf(a), rangeOf(b)];
  if (aTo < bFrom || bTo < aFrom) return false;
  // Interleaved: the same step, and values that never meet.
  const step = abs(a.step);
  return step !== abs(b.step) || step < 2n || abs(a.last - b.last) % step === 0n;
}

/**
 * Each pair of sequences that may give the same key to a column of these tables, with statements that keep them apart. One
 * that no column names (a trigger asks it, or the application) may be of any table: the other Pod's is the one of its name.
 */
export async function overlappingSequences(
  source: Database,
  target: Database,
  tables: readonly string[],
  duty: Duty,
): Promise<string[]> {
  const [theirs, ours] = [await read(source, tables), await read(target, tables)];
  const found = new Map<string, string>();
  for (const sequence of theirs)
    for (const other of ours) {
      const same = sequence.place === null ? sequence.name === other.name : sequence.place === other.place;
      const pair = `${sequence.name} ${other.name}`;
      if (!same || found.has(pair) || !overlap(sequence, other)) continue;
      const what = sequence.place ?? `what ${sequence.name} counts, which is the default of no column,`;
      found.set(
        pair,
        `${what} is given out by ${sequence.name} from ${sequence.last} to ${sequence.max} on ${duty.sourcePodId} and by ${other.name} from ${other.last} to ${other.max} on ${duty.podId}: ${remedy(sequence, other, duty)}`,
      );
    }
  return [...found.values()];
}

const inOrder = (...values: readonly bigint[]) => [...values].sort((a, b) => (a < b ? -1 : 1));

function remedy(source: Sequence, target: Sequence, duty: Duty): string {
  const [, highest = source.last] = inOrder(source.last, target.last);
  const safe = BigInt(SAFE_MAX);
  const [max = source.max] = inOrder(source.max, ...(highest < safe ? [safe] : []));
  // Half of what is left above both.
  const border = highest + (max - highest) / 2n;
  if (border <= highest)
    return `no keys are left above ${highest}: give the columns that it fills, and those that refer to them, the type bigint`;
  const farther = target.max > border ? "" : ` MAXVALUE ${max}`;
  return `on ${duty.sourcePodId} ALTER SEQUENCE ${source.quoted} MAXVALUE ${border}; on ${duty.podId} ALTER SEQUENCE ${target.quoted}${farther} RESTART WITH ${border + 1n}`;
}
