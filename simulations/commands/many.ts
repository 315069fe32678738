/** Many seeds on all cores: totals, and every sort of failure explained. */
import { writeFileSync } from "node:fs";
import { constants } from "node:os";
import { addCoverage, type Coverage, noCoverage } from "../coverage/coverage.ts";
import { describeFault } from "../faults/fault.ts";
import { simulateMany } from "../pool.ts";
import { EXIT_CODES, type Report, type Verdict } from "../run.ts";
import { shrink } from "../shrink.ts";
import { realNow } from "../world/ambient.ts";
import { showProgress } from "./progress.ts";

const WORST: readonly Verdict[] = ["pass", "inconclusive", "liveness", "safety", "crash"];
const SHOWN_FAILURES = 5;

export interface ManyOptions {
  readonly from: number;
  /** Null: as many as `minutes` allow. */
  readonly seeds: number | null;
  readonly minutes: number | null;
  readonly calm: boolean;
  readonly shrinking: boolean;
  readonly coverage: boolean;
}

export interface Many {
  readonly exitCode: number;
  /** Null: it was interrupted, so what was not reached says nothing. */
  readonly coverage: Coverage | null;
}

export async function runMany({
  from,
  seeds,
  minutes,
  calm,
  shrinking,
  coverage: collecting,
}: ManyOptions): Promise<Many> {
  const startedAt = realNow();
  const endsAt = minutes === null ? Number.POSITIVE_INFINITY : startedAt + minutes * 60_000;
  const count = seeds ?? Number.POSITIVE_INFINITY;
  const coverage = noCoverage();
  let next = from;
  const totals = {
    runs: 0,
    migrations: 0,
    aborted: 0,
    virtualMs: 0,
    events: 0,
    writes: 0,
    reads: 0,
    faults: 0,
  };
  const failures: Report[] = [];
  let worst: Verdict = "pass";
  const note = (verdict: Verdict) => {
    if (WORST.indexOf(verdict) > WORST.indexOf(worst)) worst = verdict;
  };
  // What runs comes to its end, and what it found is told.
  let interruptedBy: NodeJS.Signals | null = null;
  const interrupt = (signal: NodeJS.Signals) => {
    if (interruptedBy !== null) process.exit(128 + constants.signals[signal]);
    interruptedBy = signal;
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, interrupt);
  const hide = showProgress(
    () => ({
      runs: totals.runs,
      failed: failures.length,
      seeds,
      endsAfterMs: minutes === null ? null : minutes * 60_000,
    }),
    () => realNow() - startedAt,
  );
  await simulateMany({
    faults: !calm,
    coverage: collecting,
    next: () =>
      next < from + count && realNow() < endsAt && interruptedBy === null ? { seed: next++ } : null,
    onReport: (report) => {
      totals.runs += 1;
      totals.migrations += report.migrations;
      totals.aborted += report.aborted;
      totals.virtualMs += report.virtualMs;
      totals.events += report.events;
      totals.writes += report.acknowledged;
      totals.reads += report.reads;
      totals.faults += report.faultsApplied.length;
      if (report.coverage) addCoverage(coverage, report.coverage);
      note(report.verdict);
      if (report.verdict === "pass") return;
      failures.push(report);
      console.log(
        `seed ${report.seed}: ${report.verdict} ${report.invariant ?? ""} ${report.message?.split("\n")[0]}`,
      );
    },
    onBroken: (seed, error) => {
      note("crash");
      console.log(`seed ${seed}: the simulator's thread broke: ${error.message}`);
    },
  });
  hide();
  for (const signal of signals) process.off(signal, interrupt);
  const realMs = realNow() - startedAt;
  for (const failure of distinct(failures).slice(0, SHOWN_FAILURES)) await explain(failure, shrinking);
  const perMinute = Math.round((totals.migrations / realMs) * 60_000);
  console.log(
    `${totals.runs} seeds from ${from}: ${failures.length} failed; ${totals.faults} faults, ${totals.writes} writes acknowledged, ${totals.reads} reads, ${totals.aborted} migrations aborted, ${totals.events} events`,
  );
  console.log(
    `${totals.migrations} migrations completed, ${perMinute} per minute; virtual to real time ${Math.round(totals.virtualMs / realMs)} to 1; ${(realMs / 1000).toFixed(1)} s`,
  );
  if (interruptedBy === null) return { exitCode: EXIT_CODES[worst], coverage };
  const rest = seeds === null ? "" : ` --seeds ${from + seeds - next}`;
  console.log(`interrupted; go on with: npm run simulate -- --from ${next}${rest}`);
  return { exitCode: EXIT_CODES[worst] || 128 + constants.signals[interruptedBy], coverage: null };
}

/** One failure of each sort: the same invariant with the same words. */
function distinct(failures: readonly Report[]): Report[] {
  const sorts = new Map<string, Report>();
  for (const failure of failures) {
    const sort = `${failure.verdict} ${failure.invariant} ${failure.message?.replace(/[\w.-]*\d[\w.-]*/g, "#").slice(0, 100)}`;
    if (!sorts.has(sort)) sorts.set(sort, failure);
  }
  return [...sorts.values()];
}

async function explain(failure: Report, shrinking: boolean): Promise<void> {
  const report = shrinking ? await shrink(failure) : failure;
  const file = `simulation-${report.seed}.json`;
  writeFileSync(file, JSON.stringify({ ...report, story: [] }, null, 2));
  const { scenario } = report;
  console.log(`\n── seed ${report.seed}: ${report.verdict} ${report.invariant ?? ""} ${"─".repeat(60)}`);
  for (const line of report.story) console.log(line);
  console.log(`${report.invariant ?? report.verdict}: ${report.message}`);
  console.log(
    `left after shrinking: ${scenario.clients} clients, ${scenario.organizations} organizations, ${scenario.incidents.length} incidents, ${scenario.faults.length} faults (were ${failure.scenario.faults.length})`,
  );
  for (const fault of scenario.faults) console.log(`  ${describeFault(fault)}`);
  console.log(`reproduce:      npm run simulate -- --seed ${report.seed} --trace`);
  console.log(`reproduce this: npm run simulate -- --replay ${file} --trace\n`);
}
