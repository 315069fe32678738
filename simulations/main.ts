/** `npm run simulate -- --seeds N | --seed N | --minutes M | --replay report.json | --mutants [--trace] [--no-shrink]`. */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeFault } from "./faults/fault.ts";
import { MUTANTS, mutantNamed } from "./mutants/all.ts";
import { reportMutants } from "./mutants/hunt.ts";
import { simulateMany } from "./pool.ts";
import { EXIT_CODES, type Report, simulate, type Verdict } from "./run.ts";
import { shrink } from "./shrink.ts";
import { realNow } from "./world/ambient.ts";

const USAGE = `usage: npm run simulate -- [options]
  --seeds N          N seeds on all cores (default 500)
  --from N           the first of them (default 1)
  --minutes M        fresh seeds for so long
  --seed N           this one, with its story
  --replay FILE      the seed and scenario of a report that a failure left
  --trace            every line of the story
  --calm             without faults
  --no-shrink        report failures as they came
  --mutants          break the program in every known way; which checker finds it, after how many seeds
  --mutant NAME      in this way
  --hunts N          independent hunts for each mutant (default 5)
exit codes: ${Object.entries(EXIT_CODES)
  .map(([verdict, code]) => `${code} ${verdict}`)
  .join(", ")}`;

const WORST: readonly Verdict[] = ["pass", "inconclusive", "liveness", "safety", "crash"];
const SHOWN_FAILURES = 5;
/** A hunt for a mutant gives up after so many. */
const MUTANT_SEEDS = 1_000;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      from: { type: "string", default: "1" },
      minutes: { type: "string" },
      seed: { type: "string" },
      replay: { type: "string" },
      trace: { type: "boolean", default: false },
      calm: { type: "boolean", default: false },
      "no-shrink": { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
      mutant: { type: "string" },
      hunts: { type: "string", default: "5" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.mutants || values.mutant !== undefined) {
    const mutants = values.mutant === undefined ? MUTANTS : [mutantNamed(values.mutant)];
    return reportMutants(mutants, Number(values.hunts), Number(values.seeds ?? MUTANT_SEEDS));
  }
  const tracing = values.trace ? { echo: (line: string) => console.log(line) } : {};
  if (values.replay !== undefined) {
    const { seed, scenario } = JSON.parse(readFileSync(values.replay, "utf8")) as Report;
    return show(await simulate({ seed, scenario, ...tracing }), values.trace);
  }
  if (values.seed !== undefined)
    return show(
      await simulate({ seed: Number(values.seed), faults: !values.calm, ...tracing }),
      values.trace,
    );
  return runMany(Number(values.from), values.seeds, values.minutes, values.calm, !values["no-shrink"]);
}

function show(report: Report, traced: boolean): number {
  if (!traced) for (const line of report.story) console.log(line);
  const { seed, verdict, invariant, message, hash, virtualMs, realMs, events, acknowledged, reads } = report;
  console.log(
    `seed ${seed}: ${verdict}${invariant ? ` ${invariant}` : ""}; trace ${hash}; ${(virtualMs / 1000).toFixed(1)} s in ${Math.round(realMs)} ms, ${events} events, ${acknowledged} writes, ${reads} reads`,
  );
  if (message) console.log(message);
  return EXIT_CODES[verdict];
}

async function runMany(
  from: number,
  seeds: string | undefined,
  minutes: string | undefined,
  calm: boolean,
  shrinking: boolean,
): Promise<number> {
  const startedAt = realNow();
  const endsAt = minutes === undefined ? Number.POSITIVE_INFINITY : startedAt + Number(minutes) * 60_000;
  const count =
    minutes !== undefined && seeds === undefined ? Number.POSITIVE_INFINITY : Number(seeds ?? 500);
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
  await simulateMany({
    faults: !calm,
    next: () => (next < from + count && realNow() < endsAt ? next++ : null),
    onReport: (report) => {
      totals.runs += 1;
      totals.migrations += report.migrations;
      totals.aborted += report.aborted;
      totals.virtualMs += report.virtualMs;
      totals.events += report.events;
      totals.writes += report.acknowledged;
      totals.reads += report.reads;
      totals.faults += report.faultsApplied.length;
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
  const realMs = realNow() - startedAt;
  for (const failure of distinct(failures).slice(0, SHOWN_FAILURES)) await explain(failure, shrinking);
  const perMinute = Math.round((totals.migrations / realMs) * 60_000);
  console.log(
    `${totals.runs} seeds from ${from}: ${failures.length} failed; ${totals.faults} faults, ${totals.writes} writes acknowledged, ${totals.reads} reads, ${totals.aborted} migrations aborted, ${totals.events} events`,
  );
  console.log(
    `${totals.migrations} migrations completed, ${perMinute} per minute; virtual to real time ${Math.round(totals.virtualMs / realMs)} to 1; ${(realMs / 1000).toFixed(1)} s`,
  );
  return EXIT_CODES[worst];
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

process.exitCode = await main();
