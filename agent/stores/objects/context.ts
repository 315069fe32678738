/** What the parts of the object store share, and what a migration's side of it has to offer. */
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { OwnerLookup } from "../common/inventory/owner-lookup.ts";
import { type Claims, stageOf } from "../common/reverse/claims.ts";
import type { FileFence } from "../file-fence/file-fence.ts";
import type { ObjectBackend } from "./backend/backend.ts";
import type { ObjectsConfig, Peer } from "./config.ts";
import type { Inventory } from "./inventory/inventory.ts";

export interface ObjectsContext {
  readonly podId: PodId;
  readonly config: ObjectsConfig;
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  readonly backend: ObjectBackend;
  /** Opened at first use; the same for all migrations. */
  readonly inventory: () => Promise<Inventory>;
  /** Whose objects are copied to what is dormant on this Pod, and by whom. */
  readonly claims: Claims;
  /** Tells the agent and waiting peers that a status or an answer may be another now. */
  readonly changed: () => void;
}

/** One migration's part of the store, as source or as target. */
export interface Role {
  reach(duty: Duty, signal: AbortSignal): Promise<void>;
  status(): StoreStatus;
  /** Ends background work; leaves files and fences as they are. */
  close(): Promise<void>;
}

/**
 * The keys that evidence is about: those of the organizations that the migration assigns, and, where the target becomes
 * a replica of the whole source, what all share. Others go on changing on the source while it is fenced, so no two Pods
 * could agree on them.
 */
export function scopeOf(duty: Duty, ownerLookup: OwnerLookup): (key: string) => boolean {
  return (key) => {
    const owner = ownerLookup.object(key);
    if (owner?.kind === "organization") return duty.assignments.has(owner.organizationId);
    return duty.kind === "split";
  };
}

/**
 * The keys that a move (or a rollback) copies although they are nobody's alone: the target may have them, and others of
 * its own.
 */
export function sharedBy(duty: Duty, ownerLookup: OwnerLookup): (key: string) => boolean {
  return (key) => duty.kind !== "split" && isShared(ownerLookup, key);
}

export function isShared(ownerLookup: OwnerLookup, key: string): boolean {
  return ownerLookup.object(key)?.kind === "shared";
}

/** The keys of these organizations. */
export function ownedBy(
  organizations: { has(organizationId: OrganizationId): boolean },
  ownerLookup: OwnerLookup,
): (key: string) => boolean {
  return (key) => {
    const owner = ownerLookup.object(key);
    return owner?.kind === "organization" && organizations.has(owner.organizationId);
  };
}

/** While cleaning, as long as the migration is not settled here. */
export function enforceShares({ fence }: ObjectsContext, duty: Duty): Promise<void> {
  const { migrationId, sourcePodId, shares } = duty;
  return duty.removal === null
    ? fence.setShares(migrationId, sourcePodId, shares)
    : fence.keepShares(migrationId, sourcePodId, shares);
}

/** What both sides of a migration do first: enforce the phases, then name the routes. */
export async function enforce(context: ObjectsContext, duty: Duty): Promise<void> {
  await enforceShares(context, duty);
  // While cleaning they are there already, or are settled.
  if (duty.removal === null) await context.fence.stageRoutes(stageOf(duty));
}
