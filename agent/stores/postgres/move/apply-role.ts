/** Who writes a moving organization's rows to the Pod that they go to, and until when. */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import { APPLY_ROLE, lockKeys } from "../fence/names.ts";
import type { ApplySession } from "../replication/copy.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, quoteLiteral, sqlStateOf } from "../server/queryable.ts";

/**
 * Cluster-wide, like every role, so that of two databases of one server both may be targets. In each of them it has a
 * right to the schema `cleave`, which is what says to the server that the database needs it: see `dropApplyRole`. The
 * schema has to be there.
 */
export async function ensureApplyRole(db: Database): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await makeApplyRole(db);
      return;
    } catch (error) {
      // Dropped by another database's abort between the two statements.
      if (sqlStateOf(error) !== "42704" || attempt >= 3) throw error;
    }
  }
}

async function makeApplyRole(db: Database): Promise<void> {
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
  // Looked for in the catalog of rights: a superuser has every right without one.
  const { rows: schemas } = await db.query<{ granted: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) AS acl JOIN pg_catalog.pg_roles AS r ON r.oid = acl.grantee
       WHERE r.rolname = $1) AS granted FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'cleave'`,
    [APPLY_ROLE],
  );
  if (schemas[0]?.granted === false) await grant(db, role);
}

/** A Pod that serves nothing yet lets nobody alter anything but this role. */
async function grant(db: Database, role: string): Promise<void> {
  await db.query(`SET SESSION AUTHORIZATION ${role}`);
  try {
    await db.query(`GRANT USAGE ON SCHEMA cleave TO ${role}`);
  } finally {
    await db.query("RESET SESSION AUTHORIZATION");
  }
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
