/** What the parts of the Git store share, and what a migration's side of it has to offer. */
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { OwnerLookup } from "../common/inventory/owner-lookup.ts";
import { type Claims, stageOf } from "../common/reverse/claims.ts";
import { StateFile } from "../common/state-file.ts";
import type { FileFence } from "../file-fence/file-fence.ts";
import type { RepositoryBackend } from "./backend/backend.ts";
import type { GitConfig, Peer } from "./config.ts";
import type { Inventory } from "./inventory/inventory.ts";
import { ownerText } from "./inventory/repository-entry.ts";

export interface GitContext {
  readonly podId: PodId;
  readonly config: GitConfig;
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of this store's own. */
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  readonly backend: RepositoryBackend;
  readonly inventory: Inventory;
  /** Whose repositories are mirrored to this Pod's dormant copies, and by whom. */
  readonly claims: Claims;
  /** Tells the agent and waiting peers that a status or an answer may be another now. */
  readonly changed: () => void;
}

/** One migration's part of the store, as source or as target. */
export interface Role {
  reach(duty: Duty, signal: AbortSignal): Promise<void>;
  status(): StoreStatus;
  /** Ends background work; leaves repositories, hooks and fences as they are. */
  close(): Promise<void>;
}

/** The owners that evidence is about: others go on changing on the source while these are fenced. */
export function assignedOwners({ assignments }: Duty): ReadonlySet<string> {
  return ownersOf(assignments.keys());
}

/** As inventory entries name them. */
export function ownersOf(organizations: Iterable<OrganizationId>): ReadonlySet<string> {
  return new Set([...organizations].map((id) => ownerText({ kind: "organization", organizationId: id })));
}

/**
 * Never waits: enforced in the order in which duties came, whatever else is slow. While cleaning, as long as the
 * migration is not settled here.
 */
export function enforceShares({ fence }: GitContext, duty: Duty): Promise<void> {
  const { migrationId, sourcePodId, shares } = duty;
  return duty.removal === null
    ? fence.setShares(migrationId, sourcePodId, shares)
    : fence.keepShares(migrationId, sourcePodId, shares);
}

/** While cleaning they are there already, or are settled. */
export async function stageRoutes(context: GitContext, duty: Duty): Promise<void> {
  if (duty.removal === null) await context.fence.stageRoutes(stageOf(duty));
}

/** Names the target's place, which was looked at before anything was made there. */
export function emptyRecord({ stateDirectory }: GitContext, { migrationId }: Duty): StateFile {
  return new StateFile(stateDirectory, `empty-before-${migrationId}`);
}
