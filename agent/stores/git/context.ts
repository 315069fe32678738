/** What the Git store is made from, and what its parts share. */
import type { OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { Named, OwnerLookup } from "../common/inventory/owner-lookup.ts";
import type { Claims } from "../common/reverse/claims.ts";
import type { KnownRoot } from "../common/root/known-root.ts";
import { StateFile } from "../common/state-file.ts";
import type { NamedItems } from "../common/verification/named.ts";
import type { ScrubMemory } from "../common/verification/scrubbed.ts";
import type { FileFence } from "../file-fence/file-fence.ts";
import type { RepositoryBackend } from "./backend/backend.ts";
import type { GitConfig, Peer } from "./config.ts";
import type { Absence } from "./inventory/absence.ts";
import type { Inventory } from "./inventory/inventory.ts";
import type { KnownRepositories } from "./inventory/known-repositories.ts";
import { ownerText } from "./inventory/repository-entry.ts";

export interface GitStoreOptions {
  readonly podId: PodId;
  readonly config: GitConfig;
  /** By Pod. */
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  /** Initialised by the agent, and shared with the objects. */
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of this store's own. */
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  /** Where the repositories are. */
  readonly backend: RepositoryBackend;
}

export interface GitContext extends GitStoreOptions {
  /** Asked before anything counts as deleted, and before anything is. */
  readonly root: KnownRoot;
  /** What is not there, and why it may not count as deleted. */
  readonly absence: Absence;
  readonly known: KnownRepositories;
  readonly inventory: Inventory;
  /** Whose repositories are mirrored to this Pod's dormant copies, and by whom. */
  readonly claims: Claims;
  /** What the database names, against what is there. */
  readonly named: NamedItems;
  /** What this process has read back of its copies. */
  readonly scrubbed: ScrubMemory;
  /** Tells the agent and waiting peers that a status or an answer may be another now. */
  readonly changed: () => void;
}

/** The owners that evidence is about: others go on changing on the source while these are fenced. */
export function assignedOwners({ assignments }: Duty): ReadonlySet<string> {
  return ownersOf(assignments.keys());
}

/** Whether a row names a repository of theirs. */
export function assigned({ assignments }: Duty): (one: Named) => boolean {
  return ({ organization }) => organization !== null && assignments.has(organization as OrganizationId);
}

/** As inventory entries name them. */
export function ownersOf(organizations: Iterable<OrganizationId>): ReadonlySet<string> {
  return new Set([...organizations].map((id) => ownerText({ kind: "organization", organizationId: id })));
}

/** Names the target's place, which was looked at before anything was made there. */
export function emptyRecord({ stateDirectory }: GitContext, { migrationId }: Duty): StateFile {
  return new StateFile(stateDirectory, `empty-before-${migrationId}`);
}
