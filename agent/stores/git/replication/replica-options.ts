/** What a target's running copy is made from, and what of a source cannot be copied. */
import type { Problem } from "../../../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { GitContext } from "../context.ts";
import { parseOwner, type RepositoryEntry } from "../inventory/repository-entry.ts";
import type { InventoryView } from "../verification/inventory-view.ts";
import type { Mirror } from "./mirror.ts";
import type { SourceFeed } from "./source-feed.ts";

export interface ReplicaOptions {
  readonly context: GitContext;
  readonly feed: SourceFeed;
  readonly mirror: Mirror;
  readonly migrationId: MigrationId;
  readonly source: PodId;
  /** Only the view's repositories are copied; else all, and the view's first. */
  readonly selective: boolean;
  readonly view: InventoryView;
  /** What is here is kept true by a tracker, and differs when somebody else changed it: then it is mirrored anew. */
  readonly watchOwn: boolean;
  readonly concurrency: number;
  readonly onChange: () => void;
}

/** What can be mirrored at best in part: never equal, and here is why. */
export function unusable(wanted: RepositoryEntry): Problem | null {
  if (wanted.deleted) return null;
  if (wanted.reason === "unreadable")
    return {
      code: "REPOSITORY_UNREADABLE",
      message: `${wanted.path} on the source: ${wanted.detail}`.slice(0, 2_000),
    };
  if (parseOwner(wanted.owner) === null)
    return { code: "OWNER_UNKNOWN", message: `repository ${wanted.path} has no owner by the rules` };
  return null;
}
