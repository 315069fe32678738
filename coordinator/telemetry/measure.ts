/** A coordinator's metrics: what it hears and decides. What agents measure is exposed by the agents. */
import type { ReadRecord } from "../../protocol/events.ts";
import type { MigrationId } from "../../protocol/ids.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Meters } from "../../protocol/telemetry/meters.ts";
import type { WatchedCheckpoints } from "../../protocol/telemetry/watched-ports.ts";
import type { CoordinatorService } from "../api/ports.ts";
import type { MigrationStatus } from "../domain/status.ts";

export interface Measured {
  readonly service: CoordinatorService;
  readonly ready: () => boolean;
  readonly connected: () => boolean;
  /** Null: the coordinator keeps no checkpoint. */
  readonly checkpoints: WatchedCheckpoints | null;
  readonly clock: Clock;
}

/** Records taken from the service at once. */
const BATCH = 1_000;

/**
 * Sets the gauges before every scrape, and counts decisions and windows as they are folded. Call it when the log is
 * read: what was decided before this process came was counted by others.
 * @returns what ends the counting.
 */
export function measureCoordinator(meters: Meters, measured: Measured): () => void {
  const { service, clock } = measured;
  const windows = new Windows(meters);
  const evidence = new EvidenceAges();
  let seen = service.state().sequence;
  for (const { migrationId, lifecycle, context } of Object.values(service.state().migrations))
    if (context.fence !== null && (context.fenceUp || lifecycle === "activating"))
      windows.opened(migrationId, context.fence.raisedAt);
  const unsubscribe = service.onChange(() => {
    for (;;) {
      const records = service.events(seen, BATCH);
      for (const record of records) {
        seen = record.sequence;
        for (const event of record.events)
          meters.count("cleave_decisions_total", { type: event.type === "Unknown" ? "unknown" : event.type });
        windows.fold(record);
      }
      if (records.length < BATCH) return;
    }
  });
  meters.onScrape(() => {
    const status = service.status();
    meters.clear(
      "cleave_report_age_seconds",
      "cleave_migration_state",
      "cleave_migration_waiting_reasons",
      "cleave_migration_paused",
      "cleave_cutover_attempts",
      "cleave_fence_age_seconds",
      "cleave_evidence_age_seconds",
    );
    for (const { podId, lastReportAgeMs } of status.pods)
      meters.set(
        "cleave_report_age_seconds",
        { pod: podId },
        lastReportAgeMs === null ? Number.POSITIVE_INFINITY : lastReportAgeMs / 1_000,
      );
    for (const migration of status.migrations) measureMigration(meters, migration, status.at);
    for (const { labels, sinceMs } of evidence.look(status.migrations, clock.monotonic()))
      meters.set("cleave_evidence_age_seconds", labels, sinceMs / 1_000);
  });
  return unsubscribe;
}

/** What can be told before the log is read. */
export function measureProcess(meters: Meters, measured: Measured): void {
  const { service, ready, connected, checkpoints } = measured;
  meters.onScrape(() => {
    meters.set("cleave_ready", {}, ready() ? 1 : 0);
    meters.set("cleave_nats_connected", {}, connected() ? 1 : 0);
    meters.set("cleave_log_sequence", {}, service.state().sequence);
    meters.set("cleave_checkpoint_sequence", {}, checkpoints?.sequence ?? 0);
    meters.set("cleave_checkpoint_age_seconds", {}, checkpoints?.ageSeconds ?? 0);
  });
}

function measureMigration(meters: Meters, status: MigrationStatus, now: number): void {
  const migration = status.migrationId;
  meters.set("cleave_migration_state", { migration, kind: status.kind, state: status.lifecycle }, 1);
  meters.set("cleave_migration_waiting_reasons", { migration }, status.waitingFor.length);
  meters.set("cleave_migration_paused", { migration }, status.paused === null ? 0 : 1);
  meters.set("cleave_cutover_attempts", { migration }, status.attempts);
  if (status.fence !== null)
    meters.set("cleave_fence_age_seconds", { migration }, Math.max(0, now - status.fence.raisedAt) / 1_000);
}

/** From a fence to each of its ends. */
class Windows {
  readonly #meters: Meters;
  readonly #raisedAt = new Map<MigrationId, number>();

  constructor(meters: Meters) {
    this.#meters = meters;
  }

  opened(migrationId: MigrationId, raisedAt: number): void {
    this.#raisedAt.set(migrationId, raisedAt);
  }

  fold({ at, events }: ReadRecord): void {
    for (const event of events) {
      if (event.type === "FenceRaised") this.opened(event.migrationId, at);
      else if (event.type === "Opened") this.#ended(event.migrationId, at, "opened");
      else if (event.type === "TransferRevoked") this.#ended(event.migrationId, at, "revoked");
      else if (event.type === "FenceLowered" || event.type === "MigrationAborted") {
        this.#ended(event.migrationId, at, "lowered");
        this.#raisedAt.delete(event.migrationId);
      }
    }
  }

  #ended(migrationId: MigrationId, at: number, outcome: string): void {
    const raisedAt = this.#raisedAt.get(migrationId);
    if (raisedAt === undefined) return;
    // Two clocks: an agent's `Opened` may carry an earlier time than the coordinator's `FenceRaised`.
    this.#meters.observe("cleave_read_only_window_seconds", { outcome }, Math.max(0, at - raisedAt) / 1_000);
  }
}

interface EvidenceAge {
  readonly labels: { readonly migration: string; readonly pod: string; readonly store: string };
  readonly sinceMs: number;
}

interface Known {
  readonly is: string;
  readonly since: number;
}

/** Evidence carries no time: it is as old as this process knows it. Looked at with every scrape. */
class EvidenceAges {
  #known = new Map<string, Known>();

  look(migrations: readonly MigrationStatus[], now: number): EvidenceAge[] {
    const next = new Map<string, Known>();
    const ages: EvidenceAge[] = [];
    for (const { migrationId, pods } of migrations)
      for (const { podId, stores } of pods)
        for (const [store, view] of Object.entries(stores)) {
          if (!view?.evidence) continue;
          const key = `${migrationId}/${podId}/${store}`;
          const is = `${view.evidence.epoch} ${view.evidence.digest}`;
          const before = this.#known.get(key);
          const found = before?.is === is ? before : { is, since: now };
          next.set(key, found);
          ages.push({ labels: { migration: migrationId, pod: podId, store }, sinceMs: now - found.since });
        }
    this.#known = next;
    return ages;
  }
}
