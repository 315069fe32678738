/** An agent's metrics, from what it says of itself anyway: its reports, its health, its guard. */
import type { ReverseReplicationStatus, StoreStatus } from "../../protocol/evidence.ts";
import type { Report } from "../../protocol/messages.ts";
import type { Meters } from "../../protocol/telemetry/meters.ts";
import type { WatchedBus, WatchedCheckpoints } from "../../protocol/telemetry/watched-ports.ts";
import { STORE_STATES } from "../../protocol/wording.ts";

export interface Measured {
  readonly health: () => { readonly ready: boolean; readonly connected: boolean; readonly sequence: number };
  readonly bus: WatchedBus;
  readonly checkpoints: WatchedCheckpoints;
  /** Requests that wait at the guard. */
  readonly held: () => number;
}

/** Sets the gauges before every scrape. */
export function measureAgent(meters: Meters, { health, bus, checkpoints, held }: Measured): void {
  meters.onScrape(() => {
    const { ready, connected, sequence } = health();
    meters.set("cleave_ready", {}, ready ? 1 : 0);
    meters.set("cleave_nats_connected", {}, connected ? 1 : 0);
    meters.set("cleave_log_sequence", {}, sequence);
    meters.set("cleave_checkpoint_sequence", {}, checkpoints.sequence);
    meters.set("cleave_checkpoint_age_seconds", {}, checkpoints.ageSeconds);
    meters.set("cleave_guard_held", {}, held());
    if (bus.latest !== null) measureReport(meters, bus.latest);
  });
}

function measureReport(meters: Meters, report: Report): void {
  meters.clear(
    "cleave_state_reached",
    "cleave_lag_bytes",
    "cleave_lag_repositories",
    "cleave_lag_objects",
    "cleave_lag_known",
    "cleave_verified",
    "cleave_progress_done",
    "cleave_progress_total",
    "cleave_wal_kept_bytes",
    "cleave_store_problems",
    "cleave_stragglers",
    "cleave_reverse_replication_lag_bytes",
    "cleave_reverse_replication_lag_repositories",
    "cleave_reverse_replication_lag_objects",
    "cleave_reverse_replication_verified",
    "cleave_reverse_replication_problems",
  );
  for (const [migration, { stores }] of Object.entries(report.migrations))
    for (const [store, status] of Object.entries(stores)) measureStore(meters, migration, store, status);
}

const LAG = {
  bytes: "cleave_lag_bytes",
  repositories: "cleave_lag_repositories",
  objects: "cleave_lag_objects",
} as const;

const REVERSE_REPLICATION_LAG = {
  bytes: "cleave_reverse_replication_lag_bytes",
  repositories: "cleave_reverse_replication_lag_repositories",
  objects: "cleave_reverse_replication_lag_objects",
} as const;

function measureStore(meters: Meters, migration: string, store: string, status: StoreStatus): void {
  const labels = { migration, store };
  const { goal, lag, progress, problems, keptBytes } = status;
  const state = STORE_STATES[goal];
  meters.set("cleave_state_reached", { ...labels, state }, status.reached ? 1 : 0);
  if (lag !== null && lag.amount !== null) meters.set(LAG[lag.unit], labels, lag.amount);
  if (goal === "follow" || goal === "match") {
    meters.set("cleave_lag_known", labels, lag !== null && lag.amount !== null ? 1 : 0);
    meters.set("cleave_verified", labels, status.verified ? 1 : 0);
  }
  if (progress !== null) {
    const { unit } = progress;
    meters.set("cleave_progress_done", { ...labels, state, unit }, progress.done);
    meters.set("cleave_progress_total", { ...labels, state, unit }, progress.total);
  }
  if (keptBytes !== undefined) meters.set("cleave_wal_kept_bytes", { migration }, keptBytes);
  const counted = new Map<string, number>();
  for (const { code } of problems) counted.set(code, (counted.get(code) ?? 0) + 1);
  for (const [code, number] of counted) meters.set("cleave_store_problems", { ...labels, code }, number);
  meters.set("cleave_stragglers", labels, status.stragglers.length);
  for (const [from, way] of Object.entries(status.reverseReplication ?? {}))
    measureReverseReplication(meters, { ...labels, from }, way);
}

function measureReverseReplication(
  meters: Meters,
  labels: { migration: string; store: string; from: string },
  { lag, problem, verified }: ReverseReplicationStatus,
): void {
  if (lag.amount !== null) meters.set(REVERSE_REPLICATION_LAG[lag.unit], labels, lag.amount);
  meters.set("cleave_reverse_replication_verified", labels, verified ? 1 : 0);
  if (problem !== null)
    meters.set("cleave_reverse_replication_problems", { ...labels, code: problem.code }, 1);
}
