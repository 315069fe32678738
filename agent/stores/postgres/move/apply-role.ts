/** Who writes a moving organization's rows to the Pod that they go to, and until when. */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import { APPLY_ROLE, lockKeys } from "../fence/names.ts";
import { quoteIdentifier, quoteLiteral, sqlStateOf } from "../fence/queryable.ts";
import type { ApplySession } from "../replication/copy.ts";
import type { Database } from "../server/connection.ts";

/** Cluster-wide, like every role, so that of two databases of one server both may be targets. */
export async function ensureApplyRole(db: Database): Promise<void> {
  const { rows } = await db.query<{ super: boolean; login: boolean }>(
    "SELECT rolsuper AS super, rolcanlogin AS login FROM pg_catalog.pg_roles WHERE rolname = $1",
    [APPLY_ROLE],
  );
  const role = quoteIdentifier(APPLY_ROLE);
  if (rows[0] === undefined)
    await db.query(`CREATE ROLE ${role} SUPERUSER NOLOGIN`).catch((error: unknown) => {
      // Made by somebody else in this moment: another Pod's way back, another database of this server.
      if (sqlStateOf(error) !== "42710" && sqlStateOf(error) !== "23505") throw error;
    });
  else if (!rows[0].super || rows[0].login) await db.query(`ALTER ROLE ${role} SUPERUSER NOLOGIN`);
}

/**
 * Makes a superuser's session one of the apply role. Each of its transactions begins at the gate: it counts as a writer
 * of the migration, so the opening waits for it, and it is refused from then on. So an agent that was paused before the
 * opening, and comes back after it, changes nothing.
 */
export function applySession(migrationId: MigrationId, podId: PodId): ApplySession {
  const migration = quoteLiteral(migrationId);
  return {
    setup: `SET SESSION AUTHORIZATION ${quoteIdentifier(APPLY_ROLE)}`,
    alone: `SELECT pg_catalog.pg_advisory_xact_lock(${lockKeys(migration)})`,
    gate: `SELECT pg_catalog.pg_advisory_xact_lock_shared(${lockKeys(migration)});
DO LANGUAGE plpgsql ${quoteLiteral(`BEGIN
  IF NOT EXISTS (SELECT FROM cleave.share WHERE share.migration_id = ${migration} AND share.target_pod_id = ${quoteLiteral(podId)}
      AND share.phase IN ('source', 'fenced')) THEN
    RAISE EXCEPTION USING ERRCODE = 'CL409', MESSAGE = 'the organizations of ' || ${migration} || ' are not to be written to by a copy any more';
  END IF;
END`)}`,
  };
}
