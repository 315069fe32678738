/** What the HTTP API asks of the coordinator; implemented by coordinator.ts. */
import type { Assignments } from "../protocol/assignments.ts";
import type { ClusterState, Route } from "../protocol/cluster.ts";
import type { ReadRecord } from "../protocol/events.ts";
import type { MigrationId, OrganizationId } from "../protocol/ids.ts";
import type { Plan } from "../protocol/plan.ts";
import type { Command } from "./domain/commands.ts";
import type { RollbackRequest } from "./domain/rollback.ts";
import type { ClusterStatus } from "./domain/status.ts";

export type { Command } from "./domain/commands.ts";
export type { Estimate } from "./domain/pace.ts";
export type { RollbackRequest } from "./domain/rollback.ts";
export type { ClusterStatus, MigrationStatus, PodStatus, StoreView } from "./domain/status.ts";

/** A record of the log with its sequence. */
export type StoredRecord = ReadRecord & { readonly sequence: number };

export interface CoordinatorService {
  /** Resolves when the plan is in the log (also when the very same plan already was). @throws CleaveError when refused. */
  createPlan(plan: Plan, assignments: Assignments, by: string): Promise<{ migrationId: MigrationId }>;
  /** Resolves when the rollback is planned and its checks have begun. @throws CleaveError when refused. */
  rollback(request: RollbackRequest, by: string): Promise<{ migrationId: MigrationId }>;
  /** Resolves when the command's events are in the log. @throws CleaveError when refused. */
  command(migrationId: MigrationId, command: Command, by: string): Promise<void>;
  state(): ClusterState;
  status(): ClusterStatus;
  /** Null while the cluster is not configured. */
  route(organizationId: OrganizationId): Route | null;
  /** Routes that differ from the default Pod's, ordered by organization id; `next` is the cursor of the next page. */
  routes(cursor: string | null, limit: number): { routes: Route[]; next: string | null };
  events(afterSequence: number, limit: number): readonly StoredRecord[];
  /** Called when state or status changed. Returns the unsubscribe function. */
  onChange(listener: () => void): () => void;
}
