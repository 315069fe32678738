/** The beginning and the end of a migration's removal on this Pod: who is authoritative stays written, and everything else of it goes. */
import type { SharePhase } from "../../../../protocol/cluster.ts";
import type { PodId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { isGuarded, removeGuard } from "../fence/install.ts";
import { isStaged, releaseRoutes, returnRoutes, setShares } from "../fence/staging.ts";
import type { Database } from "../server/connection.ts";
import { boundNumbers, numbersApart } from "../split/numbering.ts";
import { keepsItsOwn, requireAllowed, requireDecided } from "./scope.ts";

/**
 * Enforces the duty's shares. While cleaning, as far as they are still there: those that stayed with the source are
 * forgotten when this Pod is done, and the duty may still change after that.
 */
export async function enforceShares(db: Database, duty: Duty): Promise<void> {
  if (duty.removal === null) await setShares(db, duty.migrationId, duty.shares, duty.epoch);
  else await enforceStaged(db, duty);
}

/**
 * Before anything is removed.
 * @throws CleaveError REMOVAL_NOT_ALLOWED while nothing may be removed.
 */
export async function beginRemoval(db: Database, duty: Duty): Promise<void> {
  requireAllowed(duty, []);
  requireDecided(duty);
  await enforceStaged(db, duty);
}

async function enforceStaged(db: Database, duty: Duty): Promise<void> {
  if (!(await isGuarded(db))) return;
  const { rows } = await db.query<{ target_pod_id: PodId }>(
    "SELECT target_pod_id FROM cleave.share WHERE migration_id = $1",
    [duty.migrationId],
  );
  const staged = rows.flatMap(({ target_pod_id: target }): [PodId, SharePhase][] => {
    const phase = duty.shares[target];
    return phase === undefined ? [] : [[target, phase]];
  });
  await setShares(db, duty.migrationId, Object.fromEntries(staged) as Duty["shares"], duty.epoch);
}

/** Routes become base routes. A clone of another Pod stays guarded whatever it has: without, it would serve for that one. */
export async function settle(db: Database, duty: Duty, signal: AbortSignal): Promise<void> {
  if (!(await isGuarded(db))) return;
  // What is known of them goes with the migration.
  if (duty.of !== null && Object.values(duty.shares).every((phase) => phase === "source"))
    return (await isStaged(db, duty.migrationId))
      ? await returnRoutes(db, duty.migrationId, duty.of)
      : undefined;
  if (numbersApart(duty)) await boundNumbers(db, duty.migrationId, duty.podId);
  const { guardNeeded } = await releaseRoutes(db, duty.migrationId);
  if (!guardNeeded && !keepsItsOwn(duty)) await removeGuard(db, { signal });
}
