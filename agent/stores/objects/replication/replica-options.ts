/** What a target's copy of a source's objects is made from. */
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { RateLimit } from "../../common/rate-limit.ts";
import type { KnownRoot } from "../../common/root/known-root.ts";
import type { LossBound } from "../../common/root/losses.ts";
import type { ObjectBackend } from "../backend/backend.ts";
import type { Inventory } from "../inventory/inventory.ts";
import type { PeerClient } from "./source-feed.ts";

export interface ReplicaOptions {
  readonly migrationId: MigrationId;
  readonly backend: ObjectBackend;
  /** This Pod's own: asked before anything is written or deleted. */
  readonly root: KnownRoot;
  readonly lossBound: LossBound;
  readonly inventory: Inventory;
  readonly client: PeerClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly rateLimit: RateLimit;
  readonly concurrency: number;
  readonly inScope: (key: string) => boolean;
  /** Copied too, and never removed: the target has its own of them. */
  readonly isShared: (key: string) => boolean;
  /** Only these two are copied; else everything. */
  readonly selective: boolean;
  /**
   * What is here is kept true by a tracker, and differs when somebody else changed it: then it is copied anew. Runs what
   * changes an object, in turn with the tracker's own looks. Null: nobody but this replica changes anything.
   */
  readonly tracked: ((key: string, change: () => Promise<void>) => Promise<void>) | null;
  readonly onChange: () => void;
}
