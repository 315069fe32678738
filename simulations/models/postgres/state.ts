/** What one PostgreSQL server holds, as a function of its WAL. */
import type { Assignments } from "../../../protocol/assignments.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { PodId } from "../../../protocol/ids.ts";

export type Change =
  | { readonly type: "row"; readonly organization: string; readonly write: string }
  | {
      readonly type: "stage";
      readonly migrationId: string;
      readonly sourcePodId: PodId;
      readonly assignments: Assignments;
    }
  | {
      readonly type: "shares";
      readonly migrationId: string;
      readonly epoch: number | null;
      readonly phases: Readonly<Record<string, SharePhase>>;
    }
  | { readonly type: "marker"; readonly migrationId: string; readonly epoch: number; readonly token: string }
  | { readonly type: "unstage"; readonly migrationId: string };

export interface WalRecord {
  /** Bytes from the beginning of the history. */
  readonly end: number;
  readonly changes: readonly Change[];
}

export interface Share {
  readonly source: PodId;
  phase: SharePhase;
  epoch: number | null;
  /** The state's version at its last change: an older snapshot cannot pass it. */
  changedAt: number;
}

export interface StagedRoutes {
  readonly assignments: Assignments;
  readonly stagedAt: number;
}

export class PostgresState {
  /** Grows with every commit that became visible. */
  version = 0;
  readonly rows = new Map<string, string[]>();
  readonly routes = new Map<string, StagedRoutes>();
  /** By migration, then by target. */
  readonly shares = new Map<string, Map<string, Share>>();
  readonly markers = new Map<string, string>();

  apply(record: WalRecord): void {
    this.version += 1;
    for (const change of record.changes) this.#apply(change);
  }

  #apply(change: Change): void {
    switch (change.type) {
      case "row": {
        const rows = this.rows.get(change.organization);
        if (rows) rows.push(change.write);
        else this.rows.set(change.organization, [change.write]);
        return;
      }
      case "stage": {
        this.routes.set(change.migrationId, { assignments: change.assignments, stagedAt: this.version });
        const shares = new Map<string, Share>();
        for (const target of new Set(change.assignments.values()))
          shares.set(target, {
            source: change.sourcePodId,
            phase: "source",
            epoch: null,
            changedAt: this.version,
          });
        this.shares.set(change.migrationId, shares);
        return;
      }
      case "shares":
        for (const [target, phase] of Object.entries(change.phases)) {
          const share = this.shares.get(change.migrationId)?.get(target);
          if (!share) continue;
          share.phase = phase;
          share.epoch = change.epoch ?? share.epoch;
          share.changedAt = this.version;
        }
        return;
      case "marker":
        this.markers.set(`${change.migrationId}/${change.epoch}`, change.token);
        return;
      case "unstage":
        this.routes.delete(change.migrationId);
        this.shares.delete(change.migrationId);
        return;
    }
  }
}
