/** Do two Pods give out the same keys? Their sequences are compared as what they can still give, now or ever. */
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";

interface Sequence {
  readonly table: string;
  readonly column: string;
  readonly name: string;
  readonly quoted: string;
  readonly last: bigint;
  readonly min: bigint;
  readonly max: bigint;
  readonly step: bigint;
}

const SEQUENCES = `
SELECT tn.nspname || '.' || t.relname AS "table", a.attname AS "column", sn.nspname || '.' || s.relname AS name,
  format('%I.%I', sn.nspname, s.relname) AS quoted, q.seqmin::text AS min, q.seqmax::text AS max, q.seqincrement::text AS step,
  q.seqstart::text AS last
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  AND tn.nspname || '.' || t.relname = ANY ($1::text[])
ORDER BY 1, 2`;

async function read(db: Database, tables: readonly string[]): Promise<Map<string, Sequence>> {
  const { rows } = await db.query<Record<keyof Sequence, string>>(SEQUENCES, [tables]);
  // Of a sequence that was set and not asked yet only the sequence itself knows.
  const lasts = rows.map(({ quoted }, at) => `SELECT ${at} AS at, last_value::text AS last FROM ${quoted}`);
  const { rows: asked } =
    lasts.length === 0
      ? { rows: [] }
      : await db.query<{ at: number; last: string }>(lasts.join(" UNION ALL "));
  const lastOf = new Map(asked.map(({ at, last }) => [at, last]));
  const known = rows.map((row, at): [string, Sequence] => {
    const { table, column, name, quoted, last, min, max, step } = row;
    const numbers = { last: BigInt(lastOf.get(at) ?? last), min: BigInt(min), max: BigInt(max) };
    return [`${table}.${column}`, { table, column, name, quoted, ...numbers, step: BigInt(step) }];
  });
  return new Map(known);
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

/** Each pair of sequences that may give the same key, with statements that keep them apart. */
export async function overlappingSequences(
  source: Database,
  target: Database,
  moving: Moving,
  duty: Duty,
): Promise<string[]> {
  const names = moving.tables.map(({ name }) => name);
  const [theirs, ours] = [await read(source, names), await read(target, names)];
  const found: string[] = [];
  for (const [place, sequence] of theirs) {
    const other = ours.get(place);
    if (other === undefined || !overlap(sequence, other)) continue;
    found.push(
      `${place} is given out by ${sequence.name} from ${sequence.last} to ${sequence.max} on ${duty.sourcePodId} and from ${other.last} to ${other.max} on ${duty.podId}: ${remedy(sequence, other, duty)}`,
    );
  }
  return found;
}

function remedy(source: Sequence, target: Sequence, duty: Duty): string {
  // Half of what is left above both.
  const [, highest = source.last] = [source.last, target.last].sort((a, b) => (a < b ? -1 : 1));
  const border = highest + (source.max - highest) / 2n;
  return `on ${duty.sourcePodId} ALTER SEQUENCE ${source.quoted} MAXVALUE ${border}; on ${duty.podId} ALTER SEQUENCE ${target.quoted} RESTART WITH ${border + 1n}`;
}
