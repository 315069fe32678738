/** What one PostgreSQL server holds, as a function of its WAL. */
import type { Assignments } from "../../../protocol/assignments.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { PodId } from "../../../protocol/ids.ts";

/** Up to where a snapshot of a server reaches: the version of its state. */
export type SnapshotId = number;

/** A row is named by the write that made it. */
export interface RowId {
  readonly organization: string;
  readonly write: string;
}

export type Change =
  | {
      readonly type: "row";
      readonly organization: string;
      readonly write: string;
      /** By a move's copy: on another Pod somebody committed it. */
      readonly copied?: true;
    }
  | {
      readonly type: "stage";
      readonly migrationId: string;
      readonly sourcePodId: PodId;
      readonly assignments: Assignments;
      /** A move: writers note the rows that they change. */
      readonly logical?: boolean;
    }
  | {
      readonly type: "shares";
      readonly migrationId: string;
      readonly epoch: number | null;
      readonly phases: Readonly<Record<string, SharePhase>>;
    }
  | {
      readonly type: "marker";
      readonly migrationId: string;
      readonly epoch: number;
      readonly token: string;
      /** Of a move: up to there every noted row was compared. */
      readonly verified?: SnapshotId | null;
    }
  | { readonly type: "unstage"; readonly migrationId: string }
  /** The migration is over: organizations of opened shares have their target as base Pod. */
  | {
      readonly type: "settle";
      readonly migrationId: string;
      /** Of a rollback: its routes lay over those of this migration. */
      readonly of: string | null;
      /** Organizations that are on the source again. */
      readonly wentBack: readonly string[];
    }
  | MoveChange;

/** What only moves write. */
export type MoveChange =
  | { readonly type: "touch"; readonly migrationId: string; readonly row: RowId }
  | { readonly type: "verified"; readonly migrationId: string; readonly snapshot: SnapshotId }
  /** What was noted before that snapshot is forgotten. */
  | { readonly type: "prune"; readonly migrationId: string; readonly snapshot: SnapshotId }
  /** How far the change stream was applied here. */
  | { readonly type: "origin"; readonly name: string; readonly position: number | null }
  | { readonly type: "copying"; readonly name: string; readonly copy: Copying | null }
  | { readonly type: "remove"; readonly rows: readonly RowId[] }
  /** A row that was nobody's comes to an organization, as a project is transferred. */
  | { readonly type: "came"; readonly organization: string; readonly write: string }
  | { readonly type: "truncate" }
  | { readonly type: "alter" };

/** A base copy as the target remembers it. */
export interface Copying {
  readonly snapshot: string;
  readonly consistentAt: number;
  /** Rows that are here, in the order of the copy. */
  readonly rows: number;
  readonly done: boolean;
}

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
  readonly logical: boolean;
}

export interface Note {
  readonly row: RowId;
  /** The version in which it became visible: a snapshot has it or not, however early it was written. */
  readonly version: number;
}

/** A rollback's routes lie over those of the migration that it rolls back. */
export function newestFirst<V>(routes: ReadonlyMap<string, V>): [migrationId: string, V][] {
  return [...routes].reverse();
}

export class PostgresState {
  /** Grows with every commit that became visible. */
  version = 0;
  readonly rows = new Map<string, string[]>();
  readonly routes = new Map<string, StagedRoutes>();
  /** Of organizations that a migration, over by now, brought elsewhere than to the default Pod. */
  readonly base = new Map<string, PodId>();
  /** By migration, then by target. */
  readonly shares = new Map<string, Map<string, Share>>();
  readonly markers = new Map<string, string>();
  /** Of markers of moves. */
  readonly verifiedAt = new Map<string, SnapshotId | null>();
  /** By migration: rows that writers touched, and up to where all of them were compared. */
  readonly touched = new Map<string, Note[]>();
  readonly verified = new Map<string, SnapshotId>();
  readonly origins = new Map<string, number>();
  readonly copying = new Map<string, Copying>();

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
        const { assignments, logical = false } = change;
        this.routes.set(change.migrationId, { assignments, stagedAt: this.version, logical });
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
        this.verifiedAt.set(`${change.migrationId}/${change.epoch}`, change.verified ?? null);
        return;
      case "settle":
        this.#settle(change);
        return;
      case "unstage":
        this.#forget(change.migrationId);
        return;
      default:
        this.#applyMove(change);
    }
  }

  #settle({ migrationId, of, wentBack }: Extract<Change, { type: "settle" }>): void {
    const over = of === null ? undefined : this.routes.get(of);
    const left = new Map(over?.assignments);
    for (const [organization, target] of this.routes.get(migrationId)?.assignments ?? []) {
      const share = this.shares.get(migrationId)?.get(target);
      if (share?.phase !== "opened") continue;
      this.base.set(organization, wentBack.includes(organization) ? share.source : target);
      left.delete(organization);
    }
    // In place: whose routes lie over whose is as before.
    if (of !== null && over !== undefined) this.routes.set(of, { ...over, assignments: left });
    this.#forget(migrationId);
  }

  #forget(migrationId: string): void {
    for (const known of [this.routes, this.shares, this.touched, this.verified]) known.delete(migrationId);
  }

  #applyMove(change: MoveChange): void {
    switch (change.type) {
      case "touch": {
        const note = { row: change.row, version: this.version };
        const notes = this.touched.get(change.migrationId);
        if (notes) notes.push(note);
        else this.touched.set(change.migrationId, [note]);
        return;
      }
      case "verified":
        this.verified.set(change.migrationId, change.snapshot);
        return;
      case "prune": {
        const notes = this.touched.get(change.migrationId) ?? [];
        this.touched.set(
          change.migrationId,
          notes.filter(({ version }) => version > change.snapshot),
        );
        return;
      }
      case "origin":
        if (change.position === null) this.origins.delete(change.name);
        else this.origins.set(change.name, change.position);
        return;
      case "copying":
        if (change.copy === null) this.copying.delete(change.name);
        else this.copying.set(change.name, change.copy);
        return;
      case "remove":
        for (const { organization, write } of change.rows) {
          const left = this.rows.get(organization)?.filter((known) => known !== write) ?? [];
          if (left.length > 0) this.rows.set(organization, left);
          else this.rows.delete(organization);
        }
        return;
      case "came": {
        const { organization, write } = change;
        const rows = this.rows.get(organization);
        if (rows) rows.push(write);
        else this.rows.set(organization, [write]);
        return;
      }
      // Of tables that hold nothing here: what matters is what a stream makes of them.
      case "truncate":
      case "alter":
    }
  }
}
