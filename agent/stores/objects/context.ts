/** What the object store is made from, what its parts share, and which keys a migration is about. */
import type { OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { OwnerLookup } from "../common/inventory/owner-lookup.ts";
import type { Claims } from "../common/reverse/claims.ts";
import type { KnownRoot } from "../common/root/known-root.ts";
import type { NamedItems } from "../common/verification/named.ts";
import type { ScrubMemory } from "../common/verification/scrubbed.ts";
import type { FileFence } from "../file-fence/file-fence.ts";
import type { ObjectBackend } from "./backend/backend.ts";
import type { ObjectsConfig, Peer } from "./config.ts";
import type { Inventory } from "./inventory/inventory.ts";

export interface ObjectsStoreOptions {
  readonly podId: PodId;
  readonly config: ObjectsConfig;
  /** By Pod. */
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  /** Initialised by the agent, and shared with Git. */
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of this store's own, beside the objects. */
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  /** Where the objects are. */
  readonly backend: ObjectBackend;
}

export interface ObjectsContext extends ObjectsStoreOptions {
  /** Asked before anything counts as deleted, and before anything is. */
  readonly root: KnownRoot;
  /** Opened at first use; the same for all migrations. */
  readonly inventory: () => Promise<Inventory>;
  /** Whose objects are copied to what is dormant on this Pod, and by whom. */
  readonly claims: Claims;
  /** What the database names, against what is there. */
  readonly named: NamedItems;
  /** What this process has read back of its copies. */
  readonly scrubbed: ScrubMemory;
  /** Tells the agent and waiting peers that a status or an answer may be another now. */
  readonly changed: () => void;
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
