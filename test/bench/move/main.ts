/**
 * `npm run bench:move`: what moves an organization, against what PostgreSQL brings for it. Each ratio is of figures of
 * the same run: the contenders take turns, in another order each round, and medians of the rounds' ratios are printed.
 *
 * - Copy (copy.ts): throughput against the faster of `pg_dump --data-only | psql`, from a database that has the
 *   organization's rows alone, and a subscription's initial copy with row filters.
 * - Apply (apply.ts): the time for a backlog against a subscription's apply worker that has the same one.
 *
 * - Window (window.ts): for how long a client that writes all the time waits, against a switchover by hand
 *   (switchover.ts), and against itself with ten times the data.
 */
import { loadavg } from "node:os";
import { Command, Option } from "commander";
import { DATABASE } from "../../support/postgres/postgres.ts";
import { BenchReport, percentile } from "../report.ts";
import { ApplyBench, type ApplyRound } from "./apply.ts";
import { copyRound } from "./copy.ts";
import { BenchPods, type Contender, publish } from "./pods.ts";
import { measureWindow } from "./window.ts";

interface Flags {
  readonly rounds: string;
  readonly rows: string;
  readonly concurrency: string;
  readonly transactions: string;
  readonly changes: string;
  readonly share: string;
  readonly rate: string;
  readonly only?: "copy" | "apply" | "window";
  readonly json?: string;
}

const flags = new Command("npm run bench:move --")
  .description("Measures copying, applying and the read-only window against PostgreSQL's own means.")
  .option("--rounds <n>", "of every contender", "5")
  .option("--rows <n>", "items of each of ten organizations; as many events", "100000")
  .option("--concurrency <n>", "ranges that Cleave copies at once", "2")
  .option("--transactions <n>", "of a backlog", "5000")
  .option("--changes <n>", "of each of them", "10")
  .option("--share <n>", "of the changes that are of the organization that moves", "0.5")
  .option("--rate <n>", "writes per second while the window is measured", "60")
  .addOption(new Option("--only <part>", "one of them").choices(["copy", "apply", "window"]))
  .option("--json <file>", "write the figures as JSON")
  .parse()
  .opts<Flags>();
const [rounds, rows, concurrency, transactions, changes, share] = [
  flags.rounds,
  flags.rows,
  flags.concurrency,
  flags.transactions,
  flags.changes,
  flags.share,
].map(Number) as [number, number, number, number, number, number];

const median = (values: readonly number[]) => percentile(values, 0.5);
const load = () => `load ${loadavg()[0]?.toFixed(1)}`;
/** Whoever comes first finds other caches than whoever comes last. */
const turned = <T>(all: readonly T[], by: number): T[] =>
  all.map((_, at) => all[(at + by) % all.length] as T);

async function measureCopies(pods: BenchPods, report: BenchReport): Promise<void> {
  const seconds: Record<Contender, number[]> = { cleave: [], native: [], dump: [] };
  let copied = 0;
  for (let round = 0; round < rounds; round++) {
    const results = await copyRound(pods, concurrency, turned(["cleave", "native", "dump"] as const, round));
    if (new Set(results.map((result) => result.rows)).size !== 1)
      throw new Error(`they did not copy the same: ${JSON.stringify(results)}`);
    copied = results[0]?.rows ?? 0;
    for (const result of results) seconds[result.contender].push(result.seconds);
    console.log(
      `copy, round ${round + 1}: ${results.map((one) => `${one.contender} ${one.seconds.toFixed(2)} s`).join(", ")} (${load()})`,
    );
  }
  for (const [contender, values] of Object.entries(seconds))
    report.figure(`copy: ${contender}`, copied / median(values), "rows/s");
  const against = (contender: Contender) =>
    median(seconds.cleave.map((own, round) => (seconds[contender][round] ?? Number.NaN) / own));
  report.ratio("copy-to-pg-dump", against("dump"), "≥", 1);
  report.ratio("copy-to-subscription", against("native"), "≥", 1);
}

async function measureApplies(pods: BenchPods, report: BenchReport): Promise<void> {
  const bench = new ApplyBench(pods);
  await bench.prepare();
  const seconds: Record<ApplyRound["contender"], number[]> = { cleave: [], native: [] };
  for (let round = 0; round < rounds; round++) {
    const backlog = { transactions, changes, share, known: rows };
    const results = await bench.round(backlog, turned(["cleave", "native"] as const, round));
    for (const result of results) seconds[result.contender].push(result.seconds);
    console.log(
      `apply, round ${round + 1}: ${results.map((one) => `${one.contender} ${one.seconds.toFixed(2)} s`).join(", ")} (${load()})`,
    );
  }
  const [own, native] = await bench.digests();
  if (own !== native) throw new Error("they do not have the same rows at the end");
  await bench.remove();
  for (const [contender, values] of Object.entries(seconds))
    report.figure(`apply: ${contender}`, (transactions * changes) / median(values), "changes/s");
  const ratios = seconds.cleave.map((value, round) => (seconds.native[round] ?? Number.NaN) / value);
  report.ratio("apply-to-subscription", median(ratios), "≥", 1);
}

// So that the servers end with it.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));
const report = new BenchReport("move");
console.log(`${load()} before; figures of a machine that does something else say little`);
if (flags.only !== "window") {
  const pods = await BenchPods.start(rows);
  try {
    await publish(await pods.connect(pods.source, DATABASE));
    if (flags.only !== "apply") await measureCopies(pods, report);
    if (flags.only !== "copy") await measureApplies(pods, report);
  } finally {
    await pods.remove();
  }
}
if (flags.only === undefined || flags.only === "window")
  await measureWindow(report, { rounds: Math.min(rounds, 3), rate: Number(flags.rate) });
report.finish(flags.json);
