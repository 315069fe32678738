/** Changes of the source's schema (fence/schema-journal.ts) since rows were last compared. */
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
): Promise<readonly SchemaChange[]> {
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

export function describeChange({ tag, objects }: SchemaChange): string {
  return objects.length === 0 ? tag : `${tag} (${objects.slice(0, 5).join(", ")})`;
}
