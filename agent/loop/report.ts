/** What an agent says of itself: composed from its fold, its stores' words, and what is safely on its disk. */
import type { ClusterState, Migration } from "../../protocol/cluster.ts";
import type { OwnProblem, StoreStatus } from "../../protocol/evidence.ts";
import type { PodId, StoreName } from "../../protocol/ids.ts";
import type { MigrationReport, Report } from "../../protocol/messages.ts";
import { dormantEpochOf } from "../domain/own-decisions.ts";

export interface ReportParts {
  readonly self: PodId;
  readonly state: ClusterState;
  /** An agent never speaks of what it could forget. */
  readonly durableSequence: number;
  readonly incarnation: number;
  readonly reportSequence: number;
  readonly at: number;
  readonly software: string;
  /** Of each store that has a duty in this migration; null when there is none. */
  readonly storesOf: (migration: Migration) => Partial<Record<StoreName, StoreStatus>> | null;
  /** Of the Pod itself. */
  readonly problems: readonly OwnProblem[];
  readonly preflightOf: (migration: Migration) => MigrationReport["preflight"];
}

export function composeReport(parts: ReportParts): Report {
  const { state, self, durableSequence } = parts;
  const migrations: Record<string, MigrationReport> = {};
  for (const migration of Object.values(state.migrations)) {
    const stores = parts.storesOf(migration);
    const preflight = parts.preflightOf(migration);
    if (stores === null && preflight === null) continue;
    const dormantEpoch = dormantEpochOf(migration, self, durableSequence);
    migrations[migration.migrationId] = { stores: stores ?? {}, preflight, dormantEpoch };
  }
  const unknown = Object.values(state.migrations).find((m) => m.notUnderstood !== null)?.notUnderstood;
  return {
    v: 2,
    podId: self,
    incarnation: parts.incarnation,
    reportSequence: parts.reportSequence,
    appliedSequence: durableSequence,
    at: parts.at,
    software: parts.software,
    notUnderstood: state.notUnderstood ?? unknown ?? null,
    migrations,
    ...(parts.problems.length === 0 ? {} : { problems: [...parts.problems] }),
  };
}
