/**
 * Every metric that Cleave exposes: names, units, labels and meanings are an interface that alerts and dashboards stand
 * on. A test pins the names, and `docs` renders the page from here. Labels never name an organization, a repository, a
 * table or a person: their number would grow with the data.
 */

export type MetricKind = "gauge" | "counter" | "histogram";
export type Exposer = "coordinator" | "agent" | "both";

export interface MetricSpec {
  readonly kind: MetricKind;
  /** Who measures it exposes it, and nobody else: sums over all processes count nothing twice. */
  readonly by: Exposer;
  readonly labels: readonly string[];
  readonly help: string;
  /** Upper bounds of a histogram, in its unit. */
  readonly buckets?: readonly number[];
}

/** From a window that nobody feels to one that reaches the default deadline. */
const WINDOW_SECONDS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60];
const WORK_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3_600, 21_600];
const CALL_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60];

export const METRICS = {
  cleave_log_sequence: {
    kind: "gauge",
    by: "both",
    labels: [],
    help: "Sequence of the last record of the log that this process has folded",
  },
  cleave_nats_connected: {
    kind: "gauge",
    by: "both",
    labels: [],
    help: "1 while NATS answers this process, otherwise 0",
  },
  cleave_ready: {
    kind: "gauge",
    by: "both",
    labels: [],
    help: "1 when the log is read and this process works, otherwise 0",
  },
  cleave_checkpoint_sequence: {
    kind: "gauge",
    by: "both",
    labels: [],
    help: "Sequence of the log up to which this process's checkpoint is on disk; 0 while there is none",
  },
  cleave_checkpoint_age_seconds: {
    kind: "gauge",
    by: "both",
    labels: [],
    help: "Since the checkpoint was last written or, before that, since this process began; 0 where none is kept",
  },
  cleave_decisions_total: {
    kind: "counter",
    by: "coordinator",
    labels: ["type"],
    help: "Events folded since this process had read the log, by event type",
  },
  cleave_report_age_seconds: {
    kind: "gauge",
    by: "coordinator",
    labels: ["pod"],
    help: "Since the last report of the Pod's agent; +Inf before the first",
  },
  cleave_migration_state: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration", "kind", "state"],
    help: "1 for the state in which a migration is; other states are absent",
  },
  cleave_migration_waiting_reasons: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration"],
    help: "For how many things the migration waits; `cleave status` says them in sentences",
  },
  cleave_migration_paused: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration"],
    help: "1 while an operator holds the migration, otherwise 0",
  },
  cleave_cutover_attempts: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration"],
    help: "Fences that the migration has raised",
  },
  cleave_fence_age_seconds: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration"],
    help: "For how long a fence has been up; absent while none is",
  },
  cleave_read_only_window_seconds: {
    kind: "histogram",
    by: "coordinator",
    labels: ["outcome"],
    buckets: WINDOW_SECONDS,
    help: "From a raised fence, by the log's times, until a target opened (`opened`), its share went back (`revoked`) or the source served again (`lowered`)",
  },
  cleave_evidence_age_seconds: {
    kind: "gauge",
    by: "coordinator",
    labels: ["migration", "pod", "store"],
    help: "Since this process was first asked about a store's newest evidence; absent without evidence",
  },
  cleave_webhook_deliveries_total: {
    kind: "counter",
    by: "coordinator",
    labels: ["webhook", "outcome"],
    help: "Notifications by outcome: `delivered`, or `failed` and to be tried again",
  },
  cleave_webhook_pending: {
    kind: "gauge",
    by: "coordinator",
    labels: ["webhook"],
    help: "Records of the log that a webhook has not been told of yet",
  },
  cleave_state_reached: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "state"],
    help: "1 when what the store is doing (`state`) is done or is being kept up, otherwise 0",
  },
  cleave_lag_bytes: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "How far the target is behind its source; absent where it is unknown, which counts as too far",
  },
  cleave_lag_repositories: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "As cleave_lag_bytes, in repositories",
  },
  cleave_lag_objects: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "As cleave_lag_bytes, in objects",
  },
  cleave_lag_known: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "1 when the target knows how far it is behind, otherwise 0; while it follows",
  },
  cleave_verified: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "1 when the background comparison has seen everything and no difference is open, otherwise 0; while it follows",
  },
  cleave_progress_done: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "state", "unit"],
    help: "How much is done of what takes long: a copy (`copying`), a removal (`removing`)",
  },
  cleave_progress_total: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "state", "unit"],
    help: "How much there is to do, in the same unit",
  },
  cleave_wal_kept_bytes: {
    kind: "gauge",
    by: "agent",
    labels: ["migration"],
    help: "WAL that the source's disk keeps for its slowest target",
  },
  cleave_reverse_replication_lag_bytes: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "from"],
    help: "Of a source after the transfer: how far its dormant copy is behind the Pod `from`; absent where it is unknown",
  },
  cleave_reverse_replication_lag_repositories: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "from"],
    help: "As cleave_reverse_replication_lag_bytes, in repositories",
  },
  cleave_reverse_replication_lag_objects: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "from"],
    help: "As cleave_reverse_replication_lag_bytes, in objects",
  },
  cleave_reverse_replication_verified: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "from"],
    help: "1 when the dormant copy was compared with the Pod `from` and no difference is open, otherwise 0",
  },
  cleave_reverse_replication_problems: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "from", "code"],
    help: "1 for the problem that keeps changes of the Pod `from` from flowing back, by code",
  },
  cleave_store_problems: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store", "code"],
    help: "Problems that keep a store from getting on now, by code",
  },
  cleave_stragglers: {
    kind: "gauge",
    by: "agent",
    labels: ["migration", "store"],
    help: "Writers that were terminated or are waited for at the fence",
  },
  cleave_reach_seconds: {
    kind: "histogram",
    by: "agent",
    labels: ["store", "state"],
    buckets: WORK_SECONDS,
    help: "How long a store took to come to a state, once it did",
  },
  cleave_copied_bytes_total: {
    kind: "counter",
    by: "agent",
    labels: ["store"],
    help: "Bytes that came from other Pods: base backups, WAL that a standby replayed, objects",
  },
  cleave_copied_items_total: {
    kind: "counter",
    by: "agent",
    labels: ["store", "unit"],
    help: "What this Pod's agent has copied or applied from other Pods: rows and changes of moves, repositories, objects",
  },
  cleave_guard_answers_total: {
    kind: "counter",
    by: "agent",
    labels: ["outcome"],
    help: "The guard's answers: `allow`, or the reason of a refusal: `wrongPod`, `fenced`, `opening`, `unconfirmed`, `unknownIdentity`, `invalid`",
  },
  cleave_guard_held: {
    kind: "gauge",
    by: "agent",
    labels: [],
    help: "Requests that wait at the guard for the outcome of a cutover now",
  },
  cleave_hook_calls_total: {
    kind: "counter",
    by: "agent",
    labels: ["point", "outcome"],
    help: "Calls of lifecycle hooks, by point and outcome: `done` or `failed`",
  },
  cleave_hook_seconds: {
    kind: "histogram",
    by: "agent",
    labels: ["point"],
    buckets: CALL_SECONDS,
    help: "How long calls of lifecycle hooks took",
  },
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof METRICS;
