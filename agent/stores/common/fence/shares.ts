/** What a duty says about the file fence: how each target's share is enforced on this Pod, and whose routes lead there. */
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { FileFence } from "../../file-fence/file-fence.ts";
import { stageOf } from "../reverse/claims.ts";

/**
 * Never waits: enforced in the order in which duties came, whatever else is slow. While cleaning, as long as the
 * migration is not settled here.
 */
export function enforceShares(fence: FileFence, duty: Duty): Promise<void> {
  const { migrationId, sourcePodId, shares } = duty;
  return duty.removal === null
    ? fence.setShares(migrationId, sourcePodId, shares)
    : fence.keepShares(migrationId, sourcePodId, shares);
}

/** While cleaning they are there already, or are settled. */
export async function stageRoutes(fence: FileFence, duty: Duty): Promise<void> {
  if (duty.removal === null) await fence.stageRoutes(stageOf(duty));
}

/** What both sides of a migration do first: enforce the phases, then name the routes. */
export async function enforce(fence: FileFence, duty: Duty): Promise<void> {
  await enforceShares(fence, duty);
  await stageRoutes(fence, duty);
}
