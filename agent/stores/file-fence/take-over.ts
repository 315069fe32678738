/** A rollback's routes: taken over from the migration that it is of, and given back where it took nothing. */

import { readIfPresent } from "../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../protocol/ids.ts";
import { findShare, parseRoute, type RouteLine, shareFile } from "./layout.ts";

/** The routes of an earlier migration that a rollback takes over, of the rollback's source. */
export interface TakeOver {
  readonly of: MigrationId;
  /** The earlier one has opened there; without it (its Pod is lost) nobody asks. */
  readonly requireOpened: boolean;
}

/** What a migration's end has to know of others. */
export interface MigrationEnd {
  /** Of a rollback: the migration that has the organizations again where the rollback did not take them. */
  readonly of?: MigrationId | null;
  /** Organizations that rollbacks took back: they are on their base Pod, whatever the share says. */
  readonly returned?: (organizationHash: string) => boolean;
}

export const baseRoute = (basePodId: PodId): RouteLine => ({
  basePodId,
  migrationId: null,
  targetPodId: null,
});

/**
 * @throws CleaveError ORGANIZATION_CLAIMED for a route of a migration that the rollback is not of, COMMAND_NOT_POSSIBLE
 * for one that has not opened here.
 */
export async function requireTakeOver(
  control: string,
  text: string | null,
  { of, requireOpened }: TakeOver,
  { migrationId, sourcePodId }: { readonly migrationId: MigrationId; readonly sourcePodId: PodId },
): Promise<void> {
  const route = text === null ? null : parseRoute(text);
  if (text === null || (route !== null && route.migrationId === null)) return;
  if (route?.migrationId !== of || route.targetPodId !== sourcePodId)
    throw new CleaveError(
      "ORGANIZATION_CLAIMED",
      `${migrationId} takes over what ${of} took to ${sourcePodId}, and a route says ${text.trimEnd()}`,
    );
  const shares = (await readIfPresent(shareFile(control, of))) ?? "";
  const phase = findShare(shares, sourcePodId)?.phase ?? "missing";
  if (requireOpened && phase !== "opened")
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `the share of ${sourcePodId} in ${of} is ${phase} here`);
}

/** Where an organization was before the migration. */
export async function routeBefore(
  control: string,
  { basePodId, targetPodId }: RouteLine,
  { of = null }: MigrationEnd,
): Promise<RouteLine> {
  if (of === null || targetPodId === null || (await readIfPresent(shareFile(control, of))) === null)
    return baseRoute(basePodId);
  // A rollback goes from the earlier migration's target to its source.
  return { basePodId: targetPodId, migrationId: of, targetPodId: basePodId };
}
