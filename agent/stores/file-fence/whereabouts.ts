/** Where an organization lives as far as this Pod's files say, for removals: more than a writer has to know (rule 10). */

import { readIfPresent } from "../../../protocol/adapters/durable-files.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { type MigrationId, PodId } from "../../../protocol/ids.ts";
import {
  fencePaths,
  findShare,
  organizationHash,
  parseRoute,
  parseShares,
  routeFile,
  shareFile,
} from "./layout.ts";

export interface Whereabouts {
  /** Authoritative; null when the files do not say. */
  readonly podId: PodId | null;
  /** Why nothing of it may be removed, whoever is authoritative; null when nothing speaks against it. */
  readonly unsettled: string | null;
}

/** Without a route an organization is the default Pod's. What another migration has staged here is never settled. */
export async function readWhereabouts(
  control: string,
  organizationId: string,
  ofMigration: MigrationId,
): Promise<Whereabouts> {
  // Routes are rewritten before their share goes, so a missing share means: read the route again.
  for (let attempt = 0; attempt < 3; attempt++) {
    const text = await readIfPresent(routeFile(control, organizationHash(organizationId)));
    if (text === null) {
      const defaultPod = PodId.safeParse((await readIfPresent(fencePaths(control).defaultPod))?.trimEnd());
      return defaultPod.success
        ? { podId: defaultPod.data, unsettled: null }
        : { podId: null, unsettled: "this Pod's identity is not established" };
    }
    const route = parseRoute(text);
    if (route === null) return { podId: null, unsettled: "its route is damaged" };
    const { basePodId, migrationId, targetPodId } = route;
    if (migrationId === null || targetPodId === null) return { podId: basePodId, unsettled: null };
    const shares = await readIfPresent(shareFile(control, migrationId));
    if (shares === null) continue;
    const share = findShare(shares, targetPodId);
    if (share === null) break;
    const { phase, sourcePodId } = share;
    const podId = phase === "opened" || phase === "transferred" ? targetPodId : sourcePodId;
    if (migrationId !== ofMigration)
      return { podId, unsettled: `it is staged here for the migration ${migrationId}` };
    const decided = phase === "opened" || phase === "source";
    return { podId, unsettled: decided ? null : `its share is ${phase}` };
  }
  return { podId: null, unsettled: "its share is missing or damaged" };
}

/**
 * By target: does it serve what it was given?
 * @throws CleaveError REMOVAL_NOT_ALLOWED when a share may still go either way, or the file is damaged.
 */
export function decidedShares(migrationId: MigrationId, text: string): ReadonlyMap<PodId, boolean> {
  const shares = parseShares(text);
  if (shares === null)
    throw new CleaveError("REMOVAL_NOT_ALLOWED", `the shares of ${migrationId} are damaged on this Pod`);
  const open = shares.find(({ phase }) => phase !== "opened" && phase !== "source");
  if (open !== undefined)
    throw new CleaveError(
      "REMOVAL_NOT_ALLOWED",
      `the share of ${open.targetPodId} in ${migrationId} is ${open.phase} on this Pod`,
    );
  return new Map(shares.map(({ targetPodId, phase }) => [targetPodId, phase === "opened"]));
}
