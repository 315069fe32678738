/**
 * One store of one Pod (PostgreSQL, Git, objects), as the agent drives it. A store knows nothing of the log,
 * of the coordinator or of other stores, so a fourth one can be added without touching the protocol.
 */
import type { Assignments } from "../assignments.ts";
import type { SharePhase } from "../cluster.ts";
import type { CheckStage, Finding, Goal, StoreStatus } from "../evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId, StoreName } from "../ids.ts";
import type { MigrationKind, Settings } from "../plan.ts";

/**
 * What one Pod has to reach in one migration, derived from the log alone.
 *
 * Goals of a source: `prepare` (guards installed and routes staged, change tracking and slots on: while seeding),
 * `serve` (the same, kept up; also after a lowered fence), `fence` (epoch: refuse writes, drain, final
 * positions, evidence), `yield` (after the transfer: enforce `shares`, evidence no longer needed).
 * Goals of a target: `seed` (base copy), `follow` (live), `match` (epoch: apply the source's marker, compare,
 * evidence; goes on following), `activate` (after the transfer: promoted, identity and `shares` durable, still
 * closed), `open` (enforce `shares`: its own share is `opened`).
 * The way back: a target in `reverseReplication` is armed in `activate` (a slot, say, from a point where nobody can have begun to
 * write), and while it is `open` its store keeps what the source needs to follow; the source's store, while it yields,
 * applies what each target in `reverseReplication` with an opened share changes to its own dormant copy and compares the two
 * (`StoreStatus.reverseReplication`). What is not in `reverseReplication` any more is taken down by both. While a rollback in `rollbacks` has
 * the phase `transferred`, nothing flows back from its Pod; once it is `opened`, its organizations flow back no more.
 * Of a rollback (`kind`), source and target are those of its own direction: its target's copy is the one that `of` left
 * dormant here and keeps level, so that nothing is copied; otherwise its goals mean what they mean for a move. When it
 * is aborted, everything is again as `of` had it.
 * Either: `release` (the migration was aborted: remove everything that was made for it and nothing else).
 * Either, once retention is over (rule 10): `removeFiles` and then `removeRows`, on every Pod of the migration. What is
 * dormant here is removed in two steps, because rows tell whose a repository is: in the first, stores of files remove
 * what `removal` permits, and rows stay; in the second, rows go too, and every store settles: routes of the migration
 * become their organizations' base routes, and nothing of the migration is left but who is authoritative. A store for
 * which a step has nothing goes on enforcing `shares`.
 */
export interface Duty {
  readonly migrationId: MigrationId;
  /** Of a split, a target gets everything; else what the assigned organizations own and nothing else. */
  readonly kind: MigrationKind;
  /** Of a rollback: the migration whose way back it is; null otherwise. */
  readonly of: MigrationId | null;
  /** Of a rollback whose source is lost: `activate` and `yield` come without anything before, and without evidence. */
  readonly forced: boolean;
  /** Targets whose changes flow back, or will when they are open. */
  readonly reverseReplication: readonly PodId[];
  /** This migration's rollbacks that are being made or were: not those that were refused, aborted or given back. */
  readonly rollbacks: readonly RollbackShare[];
  readonly role: "source" | "target";
  readonly goal: Goal;
  readonly podId: PodId;
  readonly sourcePodId: PodId;
  readonly targetPodIds: readonly PodId[];
  /** The cluster's default Pod: authoritative for organizations without a route. */
  readonly defaultPodId: PodId;
  readonly assignments: Assignments;
  /** Per target: how its share is to be enforced on this Pod. */
  readonly shares: Readonly<Record<PodId, SharePhase>>;
  /** Of the newest fence; null before the first. */
  readonly epoch: Epoch | null;
  readonly settings: Settings;
  /** What may be removed here; null while nothing may. */
  readonly removal: Removal | null;
}

/** What a rollback takes out of a migration's way back. */
export interface RollbackShare {
  readonly migrationId: MigrationId;
  /** The rollback's source: the target of the migration that is rolled back. */
  readonly podId: PodId;
  /** As for its target's share; `opened` also after the rollback is over. */
  readonly phase: SharePhase;
  readonly assignments: Assignments;
}

/** Rule 10: deletion asks twice. Asked by a store before each batch, and answered from the newest fold of the log. */
export interface Removal {
  /**
   * The log says that another Pod is authoritative, that this migration's retention is over, and that no other live
   * migration claims the organization. A store asks its own Pod's routes besides.
   */
  mayRemove(organizationId: OrganizationId): boolean;
}

export interface Store {
  readonly name: StoreName;
  /**
   * Checks without changing anything. `start`: before anything was changed (a target must be empty).
   * `fence`: right before the fence (guards in place, nothing that could not be drained).
   * `removal`: before dormant data is removed; the duty's goal is `removeRows`. Says as an `info` what would go, in
   * numbers and bytes, and as an `error` what must not be removed or cannot.
   * Problems are findings; it throws only when aborted.
   */
  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]>;
  /**
   * Brings the store to the duty's goal and resolves when it is reached; what has to continue (following,
   * change tracking) goes on in the background until another goal, `close`, or a fault. Idempotent, and
   * resumable after a kill at any instruction. Called again after it threw, with a pause between, and whenever
   * the duty changed; never twice at once for one migration. Stops soon after `signal` aborts (throwing its
   * reason), leaving a state from which any goal can be reached.
   * @throws CleaveError for whatever keeps it from the goal; the agent reports it as a problem and retries.
   */
  reach(duty: Duty, signal: AbortSignal): Promise<void>;
  /** What is known now, from memory. `goal` is that of the last `reach`. */
  status(migrationId: MigrationId): StoreStatus | null;
  /** `listener` is called after any status changed in a way that matters to others. Returns the unsubscribe function. */
  onChange(listener: () => void): () => void;
  /** Ends background work and connections; leaves the store itself (PostgreSQL, files, fences) as it is. */
  close(): Promise<void>;
}
