/** What the HTTP API asks of the coordinator; implemented by coordinator.ts. */
import type { Assignments } from "../../protocol/assignments.ts";
import type { ClusterState, Route, SharePhase } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import type { MigrationId, OrganizationId, PodId, RouteVersion } from "../../protocol/ids.ts";
import type { Plan } from "../../protocol/plan.ts";
import type { Command } from "../domain/commands.ts";
import type { RollbackRequest } from "../domain/rollback.ts";
import type { ClusterStatus } from "../domain/status.ts";

export type { Command } from "../domain/commands.ts";
export type { Estimate } from "../domain/pace.ts";
export type { RollbackRequest } from "../domain/rollback.ts";
export type { ClusterStatus, MigrationStatus, PodStatus, StoreView } from "../domain/status.ts";

/** A record of the log with its sequence. */
export type StoredRecord = ReadRecord & { readonly sequence: number };

/** One organization of a migration: where it is to go, and who is authoritative for it now. */
export interface MigratedOrganization {
  readonly organizationId: OrganizationId;
  readonly podId: PodId;
  readonly phase: SharePhase;
  readonly servedBy: PodId;
  readonly routeVersion: RouteVersion;
}

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
  /** Routes that differ from the default Pod's, by organization id; `after` is the `next` of the page before. */
  routes(
    after: OrganizationId | null,
    limit: number,
  ): Promise<{ routes: Route[]; next: OrganizationId | null }>;
  /** A migration's, by id; `found` begin with `prefix`. @throws CleaveError MIGRATION_UNKNOWN. */
  organizations(
    migrationId: MigrationId,
    page: { readonly after: OrganizationId | null; readonly prefix: string; readonly limit: number },
  ): Promise<{ organizations: MigratedOrganization[]; found: number; next: OrganizationId | null }>;
  events(afterSequence: number, limit: number): readonly StoredRecord[];
  /** Called when state or status changed. Returns the unsubscribe function. */
  onChange(listener: () => void): () => void;
}
