/** An analysis for people: a table for the terminal, a rules file to edit, and a drawing. */
import Table from "cli-table3";
import { stringify } from "yaml";
import type { Analysis, TableReport } from "./analyze.ts";

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 10 ? 0 : 1)} ${UNITS[unit]}`;
}

/** Control characters in names would let a table write to the operator's terminal. */
export const printable = (text: string) => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "�");

const errorsOf = (report: TableReport) => report.blockers.filter(({ severity }) => severity === "error");

/** Tables that nothing explains, or that cannot be moved as they are. */
export const isBlocked = (report: TableReport) => report.rule === null || errorsOf(report).length > 0;

function kindOf({ rule, path }: TableReport): string {
  if (rule === null) return "?";
  if ("clusterWide" in rule) return "cluster-wide";
  if ("shared" in rule) return "shared";
  if ("local" in rule) return "of one Pod";
  return path.join(" → ").replaceAll("public.", "");
}

export function renderTable(analysis: Analysis): string {
  const table = new Table({
    head: ["table", "rows", "size", "whose", "how sure", "change record"],
    style: { head: [], border: [], compact: true },
    wordWrap: true,
    colWidths: [28, 9, 9, 52, 12, 18],
  });
  for (const report of analysis.tables)
    table.push([
      printable(report.table.replace(/^public\./, "")) +
        (report.partitions > 0 ? ` +${report.partitions}` : ""),
      String(report.rows),
      formatBytes(report.bytes),
      printable(kindOf(report)),
      report.certainty,
      report.changeRecord === "not asked" ? "" : report.changeRecord,
    ]);
  return table.toString();
}

/** What has to be decided or repaired, one line each, errors first; empty when there is nothing. */
export function renderProblems(analysis: Analysis): string[] {
  const lines = analysis.tables.flatMap((report) => [
    ...report.blockers.map(({ severity, message }) => ({ severity, text: `${report.table}: ${message}` })),
    ...(report.suggestion === null
      ? []
      : [{ severity: "error", text: `${report.table}: looks ${report.suggestion}` }]),
    ...(report.replicaIdentityNeeded === null
      ? []
      : [
          {
            severity: "warning",
            text: `${report.table}: a move needs ALTER TABLE … ${report.replicaIdentityNeeded}`,
          },
        ]),
  ]);
  if (analysis.largeObjects > 0)
    lines.push({
      severity: "error",
      text: `${analysis.largeObjects} large objects: they belong to nobody and no change stream has them`,
    });
  const ordered = [...lines].sort((a, b) => Number(a.severity !== "error") - Number(b.severity !== "error"));
  return ordered.map(({ severity, text }) =>
    printable(`${severity === "error" ? "error  " : "warning"} ${text}`),
  );
}

/** `ownership.yaml`, with the reason beside every rule, and what is unexplained as comments to be filled in. */
export function renderRules(analysis: Analysis): string {
  const { ownership, tables } = analysis;
  const lines = [
    "# Who owns what. Made by `cleave analyze`; edit it, commit it, and give it to every agent.",
    "version: 1",
    `root: ${flow(ownership.root)}`,
    "tables:",
  ];
  for (const report of tables) {
    if (report.rule !== null) {
      lines.push(`  # ${report.certainty}: ${comment(report.because)}`);
      lines.push(`  ${key(report.table)}: ${flow(report.rule)}`);
    } else {
      lines.push(`  # UNEXPLAINED; looks ${comment(report.suggestion ?? "like nothing known")}`);
      lines.push(
        `  # ${key(report.table)}: { clusterWide: true }   # or { shared: true }, { local: true }, { organization: … }`,
      );
    }
  }
  const rest = {
    ...(ownership.repositories === undefined ? {} : { repositories: ownership.repositories }),
    ...(ownership.objects.length === 0 ? {} : { objects: ownership.objects }),
    ...(ownership.objectKeys === undefined ? {} : { objectKeys: ownership.objectKeys }),
  };
  if (Object.keys(rest).length > 0) lines.push(stringify(rest).trimEnd());
  else
    lines.push(
      "# repositories: { sql: SELECT path, organization … }",
      "# objects: [{ prefix: uploads/, organization: next-segment }]",
      "# objectKeys: { sql: SELECT key … }",
    );
  return `${lines.join("\n")}\n`;
}

const comment = (text: string) => printable(text);
const flow = (value: unknown) => stringify(value, { collectionStyle: "flow", lineWidth: 0 }).trim();
const key = (text: string) => stringify(text, { lineWidth: 0 }).trim();
