/** `history`: the audit trail of a migration, for a terminal, for a program, and for a change ticket. */
import { writeFile } from "node:fs/promises";
import type { Command } from "commander";
import { CleaveError } from "../../protocol/errors.ts";
import { MigrationId } from "../../protocol/ids.ts";
import type { StoredRecord } from "../api/ports.ts";
import { chartOf, type HistoryEntry, historyOf } from "../domain/history.ts";
import pc from "./colors.ts";
import { type Context, examples } from "./context.ts";
import { duration, plain } from "./format.ts";
import { allRecords } from "./records.ts";
import { windowOf } from "./window.ts";

export function registerHistoryCommand(program: Command, context: Context): void {
  program
    .command("history")
    .argument("<migration>")
    .option("--report <file>", "write a report for a change ticket (Markdown; - for standard output)")
    .description(
      "who decided what, when and why, with the evidence, from the log alone; --json: an entry a line",
    )
    .addHelpText("after", examples("history split-2026-11", "history split-2026-11 --report change-4711.md"))
    .action(async (id: string, options: { report?: string }) => {
      const parsed = MigrationId.safeParse(id);
      const records = await allRecords(context.client());
      const entries = parsed.success ? historyOf(records, parsed.data) : [];
      if (entries.length === 0) throw new CleaveError("MIGRATION_UNKNOWN", `the log has no migration ${id}`);
      if (options.report !== undefined) {
        const text = reportOf(id, entries, records);
        if (options.report === "-") process.stdout.write(text);
        else {
          await writeFile(options.report, text);
          context.print({ migrationId: id, report: options.report }, `written to ${options.report}`);
        }
        return;
      }
      for (const entry of entries) console.log(context.json ? JSON.stringify(entry) : entryText(entry));
    });
}

function entryText(entry: HistoryEntry): string {
  const moved = entry.to !== null && entry.to !== entry.from ? pc.cyan(` → ${entry.to}`) : "";
  const head = `${String(entry.sequence).padStart(5)}  ${new Date(entry.at).toISOString()}  ${plain(entry.what)}${moved}  ${pc.dim(plain(entry.by))}`;
  const why = entry.why.map((reason) => `       ${pc.yellow("because")} ${plain(reason)}`);
  const findings = entry.findings.map(
    ({ severity, code, message }) => `       ${severity} ${code}: ${plain(message)}`,
  );
  const evidence = evidenceRows(entry).map(
    ([pod, store, digest]) => `       ${pc.green("proved")} ${pod} ${store} ${plain(digest)}`,
  );
  return [head, ...why, ...findings, ...evidence].join("\n");
}

function evidenceRows({ evidence }: HistoryEntry): [pod: string, store: string, digest: string][] {
  return Object.entries(evidence ?? {}).flatMap(([pod, stores]) =>
    Object.entries(stores).map(([store, { digest }]): [string, string, string] => [pod, store, digest]),
  );
}

/** In a table of Markdown nothing may end the cell, begin an element or a link. */
function cell(text: string): string {
  return plain(text).replace(/[\\|<>[\]`*_]/g, (character) => `\\${character}`);
}

/** For people who were not there: what happened, who did it, what proves it, and which way it went. */
export function reportOf(
  id: string,
  entries: readonly HistoryEntry[],
  records: readonly StoredRecord[],
): string {
  const [first, last] = [entries[0] as HistoryEntry, entries.at(-1) as HistoryEntry];
  const window = windowOf(records, id);
  const people = [...new Set(entries.map(({ by }) => by).filter((by) => by.startsWith("operator:")))];
  const lines = [
    `# ${cell(id)}`,
    "",
    `${cell(first.what)}.`,
    "",
    `- planned ${new Date(first.at).toISOString()} by ${cell(first.by)}`,
    `- now: **${last.to ?? "unknown"}**, since ${new Date(last.at).toISOString()} (record ${last.sequence} of the log)`,
    `- decided by people: ${people.map(cell).join(", ") || "nothing"}`,
    window === null
      ? "- no organization was transferred"
      : `- read-only for ${duration(window.openedAt - window.raisedAt)} by the log's clock`,
    "",
    "## What happened",
    "",
    "| record | when | by | what | state |",
    "|---|---|---|---|---|",
    ...entries.map((entry) => {
      const why = entry.why.length > 0 ? ` (${entry.why.map(cell).join("; ")})` : "";
      const state = entry.to === entry.from ? "" : (entry.to ?? "");
      return `| ${entry.sequence} | ${new Date(entry.at).toISOString()} | ${cell(entry.by)} | ${cell(entry.what)}${why} | ${state} |`;
    }),
    ...section("What checks found", findingLines(entries)),
    ...section("Evidence", evidenceLines(entries)),
    "",
    "## The way it went",
    "",
    "```mermaid",
    chartOf(entries),
    "```",
    "",
  ];
  return lines.join("\n");
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", `## ${title}`, "", ...lines];
}

function findingLines(entries: readonly HistoryEntry[]): string[] {
  return entries.flatMap(({ findings, sequence }) =>
    findings.map(
      ({ severity, code, message }) => `- record ${sequence}: ${severity} ${code}: ${cell(message)}`,
    ),
  );
}

function evidenceLines(entries: readonly HistoryEntry[]): string[] {
  const rows = entries.flatMap((entry) =>
    evidenceRows(entry).map((row) => `| ${entry.sequence} | ${row.map(cell).join(" | ")} |`),
  );
  return rows.length === 0 ? [] : ["| record | Pod | store | digest |", "|---|---|---|---|", ...rows];
}
