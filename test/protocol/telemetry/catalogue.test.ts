/** The metrics are an interface: names and labels are pinned, and the page in docs lists every one of them. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { METRICS, type MetricSpec } from "../../../protocol/telemetry/catalogue.ts";
import { Meters } from "../../../protocol/telemetry/meters.ts";
import { metricsPage, TELEMETRY_PAGE } from "../../../scripts/docs.ts";

const specs = Object.entries(METRICS) as [string, MetricSpec][];

it("are pinned: a change here breaks somebody's alerts, and belongs into the upgrade notes", () => {
  expect(specs.map(([name, { kind, by, labels }]) => `${name}{${labels.join()}} ${kind} ${by}`)).toEqual([
    "cleave_log_sequence{} gauge both",
    "cleave_nats_connected{} gauge both",
    "cleave_ready{} gauge both",
    "cleave_checkpoint_sequence{} gauge both",
    "cleave_checkpoint_age_seconds{} gauge both",
    "cleave_decisions_total{type} counter coordinator",
    "cleave_report_age_seconds{pod} gauge coordinator",
    "cleave_migration_state{migration,kind,state} gauge coordinator",
    "cleave_migration_waiting_reasons{migration} gauge coordinator",
    "cleave_migration_paused{migration} gauge coordinator",
    "cleave_cutover_attempts{migration} gauge coordinator",
    "cleave_fence_age_seconds{migration} gauge coordinator",
    "cleave_read_only_window_seconds{outcome} histogram coordinator",
    "cleave_evidence_age_seconds{migration,pod,store} gauge coordinator",
    "cleave_webhook_deliveries_total{webhook,outcome} counter coordinator",
    "cleave_webhook_pending{webhook} gauge coordinator",
    "cleave_state_reached{migration,store,state} gauge agent",
    "cleave_lag_bytes{migration,store} gauge agent",
    "cleave_lag_repositories{migration,store} gauge agent",
    "cleave_lag_objects{migration,store} gauge agent",
    "cleave_lag_known{migration,store} gauge agent",
    "cleave_verified{migration,store} gauge agent",
    "cleave_progress_done{migration,store,state,unit} gauge agent",
    "cleave_progress_total{migration,store,state,unit} gauge agent",
    "cleave_wal_kept_bytes{migration} gauge agent",
    "cleave_reverse_replication_lag_bytes{migration,store,from} gauge agent",
    "cleave_reverse_replication_lag_repositories{migration,store,from} gauge agent",
    "cleave_reverse_replication_lag_objects{migration,store,from} gauge agent",
    "cleave_reverse_replication_verified{migration,store,from} gauge agent",
    "cleave_reverse_replication_problems{migration,store,from,code} gauge agent",
    "cleave_store_problems{migration,store,code} gauge agent",
    "cleave_stragglers{migration,store} gauge agent",
    "cleave_reach_seconds{store,state} histogram agent",
    "cleave_copied_bytes_total{store} counter agent",
    "cleave_copied_items_total{store,unit} counter agent",
    "cleave_guard_answers_total{outcome} counter agent",
    "cleave_guard_held{} gauge agent",
    "cleave_hook_calls_total{point,outcome} counter agent",
    "cleave_hook_seconds{point} histogram agent",
  ]);
});

describe("names and labels", () => {
  it.each(specs)("of %s follow Prometheus' conventions", (name, { kind, labels, help }) => {
    expect(name).toMatch(/^cleave_[a-z_]+$/);
    expect(name.endsWith("_total") && kind === "gauge" && !name.startsWith("cleave_progress")).toBe(false);
    if (kind === "counter") expect(name).toMatch(/_total$/);
    if (kind === "histogram") expect(name).toMatch(/_seconds$/);
    // Whatever grows with the data would make as many series.
    for (const label of labels) expect(label).not.toMatch(/organi|repository|table|object|key|user/);
    expect(help.length).toBeGreaterThan(20);
  });

  it("that are another process's cannot be written", () => {
    const meters = new Meters({ exposer: "agent" });
    expect(() => meters.set("cleave_report_age_seconds", { pod: "pod-0" }, 1)).toThrow(
      "is no metric of the agent",
    );
    meters.set("cleave_log_sequence", {}, 1);
  });
});

it("docs/12-telemetry.md lists them as `npm run docs` renders them", () => {
  const page = readFileSync(TELEMETRY_PAGE, "utf8");
  expect(page).toBe(metricsPage(page));
});
