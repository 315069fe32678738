/**
 * `npm run demo`: splits a Pod under traffic into several and proves that nothing was lost; `npm run demo -- move` moves
 * organizations between two Pods instead, `npm run demo -- rollback` brings one back, and `npm run demo -- lifecycle`
 * follows a split to its very end. This file is the beginning; each story and step is in its own file. Ends with 0 only if everything held.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pc from "../../coordinator/cli/colors.ts";
import { type Ending, endAll } from "./cluster/endings.ts";
import { type Layout, podsOfSplit } from "./cluster/layout.ts";
import { prepareRun } from "./cluster/prepare.ts";
import type { Processes } from "./cluster/processes.ts";
import { parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { renderReport, writeReport } from "./report/report.ts";
import { runDemo } from "./run-demo.ts";
import { runLifecycle } from "./run-lifecycle.ts";
import { MOVE_PODS, runMove } from "./run-move.ts";
import { runRollback } from "./run-rollback.ts";

const RUN = { split: runDemo, move: runMove, rollback: runRollback, lifecycle: runLifecycle } as const;
const KEPT = "kept.json";

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if ("stop" in options) return await stopKept(options.stop);
  const pods = options.story === "move" ? MOVE_PODS : podsOfSplit(options.pods);
  const { folder, layout, processes } = await prepareRun("cleave-demo-", pods);
  const progress = new Progress();
  try {
    const report = await Promise.race([
      RUN[options.story]({ options, layout, processes, progress }),
      interruption(),
      processes.failed,
    ]);
    progress.stop();
    console.log(renderReport(report));
    if (options.report !== null) writeReport(options.report, report);
    if (options.keep) return await keep(processes, folder, layout, report.ok);
    if (!report.ok) keepLogs(layout.logs);
    return report.ok ? 0 : 1;
  } catch (error) {
    progress.stop();
    if (error instanceof Interrupted) {
      console.error(pc.yellow("stopped; cleaning up…"));
      return error.exitCode;
    }
    console.error(pc.red(error instanceof Error ? error.message : String(error)));
    keepLogs(layout.logs);
    return 1;
  } finally {
    const forced = await processes.end();
    if (forced !== "") console.error(pc.yellow(`ended by force: ${forced}`));
  }
}

class Interrupted extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super("interrupted");
    this.exitCode = exitCode;
  }
}

/** Rejects on Ctrl-C and the other polite ways to end a program; a second one changes nothing. */
function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    process.on("SIGINT", () => reject(new Interrupted(130)));
    process.on("SIGTERM", () => reject(new Interrupted(143)));
    process.on("SIGHUP", () => reject(new Interrupted(129)));
  });
}

function keepLogs(logs: string): void {
  const kept = mkdtempSync(join(tmpdir(), "cleave-demo-logs-"));
  cpSync(logs, kept, { recursive: true });
  const ledger = join(logs, "../traffic/ledger.jsonl");
  if (existsSync(ledger)) cpSync(ledger, join(kept, "ledger.jsonl"));
  console.error(`logs of all processes, and what clients know: ${kept}`);
}

async function keep(processes: Processes, folder: string, layout: Layout, ok: boolean): Promise<number> {
  await processes.keep(join(folder, KEPT));
  const lines = [
    "",
    pc.bold("Everything is still running:"),
    `  router       ${layout.routerUrl}/organizations/1/issues`,
    `  dashboard    ${layout.coordinatorUrl}/  (token: ${layout.token})`,
    ...layout.pods.map(
      (pod) => `  ${pod.podId.padEnd(11)}  guard http://127.0.0.1:${pod.guardPort} · psql "${psql(pod)}"`,
    ),
    `  logs         ${layout.logs}`,
    "",
    `  export CLEAVE_URL=${layout.coordinatorUrl} CLEAVE_TOKEN=${layout.token}`,
    "  npm run cleave -- status        (also: watch, routes, events, history, rollback)",
    "",
    `  to end it:   npm run demo -- --stop ${folder}`,
  ];
  console.log(lines.join("\n"));
  return ok ? 0 : 1;
}

function psql(pod: Layout["pods"][number]): string {
  const { database, host, password, port, user } = pod.postgres;
  return `postgresql://${user}:${password}@${host}:${port}/${database}`;
}

async function stopKept(folder: string): Promise<number> {
  let endings: Ending[];
  try {
    endings = JSON.parse(readFileSync(join(folder, KEPT), "utf8")) as Ending[];
  } catch {
    console.error(pc.red(`${folder} is not the folder of a kept run`));
    return 1;
  }
  const forced = await endAll(endings);
  console.log(forced.length === 0 ? "ended" : `ended, by force: ${forced.join(", ")}`);
  return 0;
}

process.exitCode = await main();
