import type { ClusterState } from "../cluster.ts";

/** A durable copy of the fold, so that a restart need not read the whole log. Never required (I8). */
export interface Checkpoints {
  /** The newest complete checkpoint, or null; a damaged or foreign one counts as none. */
  load(): Promise<ClusterState | null>;
  /** Durable when it resolves: synced, and never half of one and half of another. */
  save(state: ClusterState): Promise<void>;
}
