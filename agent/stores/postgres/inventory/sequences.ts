/**
 * Which columns a sequence gives its values to, and how far these columns go: a sequence may count further than the column
 * that it fills (every serial of an integer column, before PostgreSQL 10), or than one that refers to it.
 */

/** Beyond it JSON readers in JavaScript round a key. Sequences that are there already keep what they have. */
export const SAFE_MAX = String(Number.MAX_SAFE_INTEGER);

/**
 * SQL for CTEs, to follow WITH RECURSIVE: `fed (sequence, relation, number, direct)`, the columns that a sequence's values
 * come into, directly by a default, ownership or identity, and from there by foreign keys; and `reach (sequence, highest)`,
 * the least of what these columns can hold, NULL where nothing narrower than bigint is among them. Of domains their base
 * counts.
 */
export const SEQUENCE_REACH = `
fed (sequence, relation, number, direct) AS (
  SELECT d.objid, d.refobjid, d.refobjsubid::int2, true FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum, true FROM pg_catalog.pg_attrdef f
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
    JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION
  SELECT fed.sequence, k.conrelid, k.conkey[at], false FROM fed JOIN pg_catalog.pg_constraint k ON k.contype = 'f' AND k.confrelid = fed.relation
    CROSS JOIN LATERAL pg_catalog.generate_subscripts(k.conkey, 1) AS at
   WHERE k.confkey[at] = fed.number
), base (type, root) AS (
  SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.typtype <> 'd'
  UNION ALL SELECT t.oid, base.root FROM base JOIN pg_catalog.pg_type t ON t.typbasetype = base.type AND t.typtype = 'd'
), reach AS (
  SELECT fed.sequence, min(CASE base.root WHEN 'int2'::pg_catalog.regtype THEN 32767 WHEN 'int4'::pg_catalog.regtype THEN 2147483647
      WHEN 'numeric'::pg_catalog.regtype THEN CASE WHEN a.atttypmod > 4 AND (a.atttypmod - 4) % 65536 = 0 AND (a.atttypmod - 4) / 65536 < 19
        THEN 10::numeric ^ ((a.atttypmod - 4) / 65536) - 1 END END) AS highest
    FROM fed JOIN pg_catalog.pg_attribute a ON a.attrelid = fed.relation AND a.attnum = fed.number JOIN base ON base.type = a.atttypid
   GROUP BY fed.sequence
)`;
