/** Changes of both Pods' schemas (fence/schema-journal.ts) since rows were last compared. */
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Database } from "../server/connection.ts";

export interface SchemaChange {
  readonly xid: number;
  readonly tag: string;
  readonly objects: readonly string[];
  /** The tables whose rows may be others by it; null when that may be any. */
  readonly relations: readonly string[] | null;
}

/** Whether changes are noted: from when the source's guard is there. */
export async function hasJournal(source: Database): Promise<boolean> {
  const { rows } = await source.query<{ there: boolean }>(
    "SELECT pg_catalog.to_regclass('cleave.schema_change') IS NOT NULL AS there",
  );
  return rows[0]?.there ?? false;
}

/** Those that the snapshot `upTo` has and `since` has not; when that is null, not those up to which rows are known to be equal. */
export async function readSchemaChanges(
  source: Database,
  migrationId: MigrationId,
  since: string | null,
  upTo: string,
): Promise<SchemaChange[]> {
  const { rows } = await source.query<Omit<SchemaChange, "xid"> & { xid: string }>(
    `SELECT changed.xid::text AS xid, changed.tag, changed.objects, changed.relations FROM cleave.schema_change AS changed
       LEFT JOIN (SELECT COALESCE($2::text, (SELECT v.snapshot FROM cleave.verified AS v WHERE v.migration_id = $1)) AS snapshot) AS since ON true
      WHERE (since.snapshot IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(changed.xid, since.snapshot::pg_catalog.pg_snapshot))
        AND pg_catalog.pg_visible_in_snapshot(changed.xid, $3::text::pg_catalog.pg_snapshot)
      ORDER BY changed.id`,
    [migrationId, since, upTo],
  );
  return rows.map(({ xid, ...change }) => ({ ...change, xid: Number(xid) }));
}

/** SQL: rows of some table may be others by it. */
const CONCERNS_ROWS = "(changed.relations IS NULL OR pg_catalog.cardinality(changed.relations) > 0)";

/** One that the snapshot of the same server has not, and that concerns rows; null for none. */
export async function changeSince(db: Database, snapshot: string): Promise<Described | null> {
  const { rows } = await db.query<Described>(
    `SELECT changed.tag, changed.objects FROM cleave.schema_change AS changed
      WHERE NOT pg_catalog.pg_visible_in_snapshot(changed.xid, $1::text::pg_catalog.pg_snapshot) AND ${CONCERNS_ROWS}
      ORDER BY changed.id LIMIT 1`,
    [snapshot],
  );
  return rows[0] ?? null;
}

/** Remembers on the Pod that rows come to that what its schema's changes up to `snapshot` have done was compared. */
export async function saveCompared(
  target: Database,
  migrationId: MigrationId,
  snapshot: string,
): Promise<void> {
  await target.query(
    "INSERT INTO cleave.compared (migration_id, snapshot) VALUES ($1, $2) ON CONFLICT (migration_id) DO UPDATE SET snapshot = EXCLUDED.snapshot",
    [migrationId, snapshot],
  );
}

/** On the Pod that rows come to: a change of its own schema that came after rows were last compared, and concerns rows; null for none. */
export async function uncomparedChange(
  target: Database,
  migrationId: MigrationId,
): Promise<Described | null> {
  const { rows } = await target.query<Described>(
    `SELECT changed.tag, changed.objects FROM cleave.schema_change AS changed
       LEFT JOIN cleave.compared ON compared.migration_id = $1
      WHERE NOT COALESCE(pg_catalog.pg_visible_in_snapshot(changed.xid, compared.snapshot::pg_catalog.pg_snapshot), false) AND ${CONCERNS_ROWS}
      ORDER BY changed.id LIMIT 1`,
    [migrationId],
  );
  return rows[0] ?? null;
}

export type Described = Pick<SchemaChange, "tag" | "objects">;

export function describeChange({ tag, objects }: Described): string {
  return objects.length === 0 ? tag : `${tag} (${objects.slice(0, 5).join(", ")})`;
}
