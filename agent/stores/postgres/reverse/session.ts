/** Who writes what flows back to a dormant copy, and until when. */
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import { APPLY_ROLE, lockKeys } from "../fence/names.ts";
import type { ApplySession } from "../replication/session.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";

/**
 * Each transaction counts as a writer of the migration, and ends at the gate once a rollback took organizations of this
 * Pod back that the stream still carries: so an agent that was paused before that, and comes back after it, changes
 * nothing. `without` are the rollbacks whose organizations it does not carry.
 */
export function backSession(
  migrationId: MigrationId,
  podId: PodId,
  without: readonly MigrationId[],
): ApplySession {
  const migration = quoteLiteral(migrationId);
  const from = quoteLiteral(podId);
  const known = `ARRAY[${without.map((id) => quoteLiteral(id)).join(", ")}]::pg_catalog.text[]`;
  return {
    setup: `SET SESSION AUTHORIZATION ${quoteIdentifier(APPLY_ROLE)}`,
    gate: `SELECT pg_catalog.pg_advisory_xact_lock_shared(${lockKeys(migration)});
DO LANGUAGE plpgsql ${quoteLiteral(`BEGIN
  IF NOT EXISTS (SELECT FROM cleave.share WHERE share.migration_id = ${migration} AND share.target_pod_id = ${from} AND share.phase = 'opened')
    OR EXISTS (SELECT FROM cleave.share WHERE share.rollback_of = ${migration} AND share.source_pod_id = ${from}
      AND share.phase IN ('transferred', 'opened') AND share.migration_id <> ALL (${known})) THEN
    RAISE EXCEPTION USING ERRCODE = 'CL409', MESSAGE = 'the organizations of ' || ${migration} || ' do not flow back from ' || ${from} || ' any more';
  END IF;
END`)}`,
  };
}
