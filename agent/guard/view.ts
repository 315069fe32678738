/** What the guard knows, as the agent's loop tells it. From memory: it answers within microseconds. */
import type { Route } from "../../protocol/cluster.ts";
import type { OrganizationId } from "../../protocol/ids.ts";
import type { Access } from "../domain/guard.ts";

export interface GuardView {
  /** May this Pod serve it now? `organizationId` is null for a request that concerns no organization. */
  access(organizationId: OrganizationId | null, write: boolean): Access;
  /** Null while the cluster is not configured. */
  route(organizationId: OrganizationId): Route | null;
  /** `listener` is called after any change that may change an answer. Returns the unsubscribe function. */
  onChange(listener: () => void): () => void;
}
