/** The demo's result: as JSON for programs, as a short table for people. */
import { writeFileSync } from "node:fs";
import Table from "cli-table3";
import pc from "../../../coordinator/cli/colors.ts";
import type { AuditResult } from "../audit/audit.ts";
import type { Check } from "../audit/check.ts";
import { percentile, type Window } from "../traffic/windows.ts";

export interface Percentiles {
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

export interface Report {
  readonly ok: boolean;
  readonly kind: "split" | "move" | "rollback" | "lifecycle";
  /** Pods afterwards. */
  readonly pods: number;
  readonly organizations: number;
  readonly movedOrganizations: number;
  readonly acknowledgedWrites: number;
  readonly lostWrites: number;
  readonly duplicatedWrites: number;
  readonly staleReads: number;
  readonly neighbourRefusals: number;
  readonly failedRequests: number;
  /** Refusals by guards and Pods that the router turned into waiting. */
  readonly refusedWrites: number;
  /** By organization, as traffic/windows.ts defines it. */
  readonly readOnlyMs: Percentiles;
  /** From the last acknowledgement by the old Pod to the first by the new one: the window is never longer. */
  readonly gapMs: Percentiles;
  readonly phasesMs: Readonly<Record<string, number>>;
  readonly floorMs: number | null;
  readonly floorPartsMs: {
    readonly commitToReplay: number | null;
    readonly append: number | null;
    readonly promotion: number | null;
  };
  readonly evidence: readonly Check[];
  readonly seed: number;
}

export interface Measured {
  readonly kind: "split" | "move" | "rollback" | "lifecycle";
  readonly pods: number;
  readonly organizations: number;
  readonly movedOrganizations: number;
  readonly acknowledgedWrites: number;
  readonly staleReads: number;
  readonly failedRequests: number;
  readonly refusedWrites: number;
  readonly neighbourRefusals: number;
  readonly windows: readonly Window[];
  readonly phasesMs: Readonly<Record<string, number>>;
  readonly floorMs: number | null;
  readonly floorPartsMs: Report["floorPartsMs"];
  readonly audit: AuditResult;
  readonly evidence: readonly Check[];
  readonly seed: number;
}

export function makeReport(measured: Measured): Report {
  const { audit, windows } = measured;
  const checks: Check[] = [
    ...measured.evidence,
    ...audit.checks,
    {
      name: "every moved organization was written on both Pods",
      ok: windows.length === measured.movedOrganizations,
      detail: `${windows.length} of ${measured.movedOrganizations} windows seen`,
    },
  ];
  const zeros = [
    audit.lostWrites,
    audit.duplicatedWrites,
    measured.staleReads,
    measured.neighbourRefusals,
    measured.failedRequests,
  ];
  return {
    ok:
      zeros.every((count) => count === 0) &&
      checks.every((check) => check.ok) &&
      measured.acknowledgedWrites > 0,
    kind: measured.kind,
    pods: measured.pods,
    organizations: measured.organizations,
    movedOrganizations: measured.movedOrganizations,
    acknowledgedWrites: measured.acknowledgedWrites,
    lostWrites: audit.lostWrites,
    duplicatedWrites: audit.duplicatedWrites,
    staleReads: measured.staleReads,
    neighbourRefusals: measured.neighbourRefusals,
    failedRequests: measured.failedRequests,
    refusedWrites: measured.refusedWrites,
    readOnlyMs: percentiles(windows.map((window) => window.windowMs)),
    gapMs: percentiles(windows.map((window) => window.gapMs)),
    phasesMs: measured.phasesMs,
    floorMs: rounded(measured.floorMs),
    floorPartsMs: {
      commitToReplay: rounded(measured.floorPartsMs.commitToReplay),
      append: rounded(measured.floorPartsMs.append),
      promotion: rounded(measured.floorPartsMs.promotion),
    },
    evidence: checks,
    seed: measured.seed,
  };
}

export function writeReport(file: string, report: Report): void {
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}

/** For the terminal: what a person wants to know first, then what was looked at. */
export function renderReport(report: Report): string {
  const table = new Table({
    // Lines around it and none within.
    chars: { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "", middle: "  " },
    style: { head: [], border: [] },
    colAligns: ["left", "right"],
  });
  const ms = (value: number | null) => (value === null ? "unknown" : `${value.toFixed(0)} ms`);
  const three = ({ p50, p99, max }: Percentiles) => `${ms(p50)} / ${ms(p99)} / ${ms(max)}`;
  const zero = (count: number) => (count === 0 ? pc.green("0") : pc.red(String(count)));
  table.push(
    [`Pods after the ${report.kind}`, report.pods],
    ["organizations, of which moved", `${report.organizations}, ${report.movedOrganizations}`],
    ["read-only per organization, p50 / p99 / max", three(report.readOnlyMs)],
    ["… from last to first answer (upper bound)", three(report.gapMs)],
    // A move promotes nothing; what it is to be held against is measured by its benchmark.
    ...(report.kind !== "split" ? [] : [["floor of this machine", ms(report.floorMs)]]),
    ["writes acknowledged", report.acknowledgedWrites],
    ["writes lost", zero(report.lostWrites)],
    ["writes duplicated or never made by a client", zero(report.duplicatedWrites)],
    ["stale reads", zero(report.staleReads)],
    ["refusals that clients saw as waiting", report.refusedWrites],
    ["refusals of neighbours", zero(report.neighbourRefusals)],
    ["requests failed", zero(report.failedRequests)],
  );
  const phases = Object.entries(report.phasesMs)
    .map(([name, value]) => `${name} ${value < 10_000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`}`)
    .join(" · ");
  const checks = report.evidence.map(
    (check) => `${check.ok ? pc.green("✔") : pc.red("✖")} ${check.name} ${pc.dim(check.detail)}`,
  );
  const verdict = report.ok
    ? pc.green(pc.bold("Nothing was lost."))
    : pc.red(pc.bold(`The ${report.kind} did not hold what it promises; see the marks above.`));
  return [table.toString(), `phases: ${phases}`, "", ...checks, "", verdict].join("\n");
}

function percentiles(values: readonly number[]): Percentiles {
  return {
    p50: rounded(percentile(values, 0.5)),
    p99: rounded(percentile(values, 0.99)),
    max: rounded(percentile(values, 1)),
  };
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 10) / 10;
}
