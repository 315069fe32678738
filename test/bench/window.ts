/**
 * `npm run bench:window`: the read-only window as clients see it, against the floor of the same machine in the same
 * run, and against ten times the data.
 *
 * Each round is a whole split under traffic, first of the small Pod, then of the large one (rows, repositories,
 * objects and organizations times `--scale`), so that both meet the same machine. The window of a run is the median
 * over its organizations (examples/quickstart/traffic/windows.ts defines it); the floor is what no split can do
 * without (examples/quickstart/report/floor.ts): commit to replay on all replicas, three appends, promotion.
 * Figures are medians over the rounds; `failed-requests` counts over all of them.
 */
import { Command } from "commander";
import { podsOfSplit } from "../../examples/quickstart/cluster/layout.ts";
import { prepareRun } from "../../examples/quickstart/cluster/prepare.ts";
import type { DemoOptions } from "../../examples/quickstart/options.ts";
import { Progress } from "../../examples/quickstart/progress.ts";
import type { Report } from "../../examples/quickstart/report/report.ts";
import { runDemo } from "../../examples/quickstart/run-demo.ts";
import { BenchReport, percentile } from "./report.ts";

interface Flags {
  readonly rounds: string;
  readonly rate: string;
  readonly scale: string;
  readonly pods: string;
  readonly rows: string;
  readonly json?: string;
}

const flags = new Command("npm run bench:window --")
  .description("Measures the read-only window of a split against its floor, and its growth with the data.")
  .option("--rounds <n>", "pairs of a small and a large split", "2")
  .option("--rate <n>", "writes per second", "500")
  .option("--scale <n>", "how much larger the large Pod is", "10")
  .option("--pods <n>", "new Pods", "2")
  .option("--rows <n>", "rows of the small Pod; the rest is in proportion", "30000")
  .option("--json <file>", "write the figures as JSON")
  .parse()
  .opts<Flags>();

const [rounds, rate, scale, pods, rows] = [flags.rounds, flags.rate, flags.scale, flags.pods, flags.rows].map(
  Number,
) as [number, number, number, number, number];
const small = {
  organizations: 12,
  rows,
  repositories: Math.ceil(rows / 3_000) + 6,
  objects: Math.ceil(rows / 150),
};
const large = {
  organizations: small.organizations * scale,
  rows: small.rows * scale,
  repositories: small.repositories * scale,
  objects: small.objects * scale,
};

async function split(sizes: typeof small, seed: number): Promise<Report> {
  const options: DemoOptions = {
    story: "split",
    ...sizes,
    pods,
    rate,
    seed,
    repositoriesFrom: null,
    report: null,
    keep: false,
    trafficMs: 4_000,
    // Each would add the plan's grace to the window; the writes of this benchmark end by themselves.
    longTransactions: false,
    // The machine has to carry the clients, the applications and the router as well: it measures writes.
    objectShare: 0.02,
    readsPerWrite: 0.05,
    settlingMs: 3_000,
  };
  const { layout, processes } = await prepareRun("cleave-bench-", podsOfSplit(pods));
  const progress = new Progress();
  try {
    return await Promise.race([runDemo({ options, layout, processes, progress }), processes.failed]);
  } finally {
    progress.stop();
    await processes.end();
  }
}

const median = (values: readonly (number | null)[]) =>
  percentile(
    values.filter((value) => value !== null),
    0.5,
  );

const report = new BenchReport("window");
const runs: { small: Report; large: Report }[] = [];
for (let round = 1; round <= rounds; round += 1) {
  const pair = { small: await split(small, round), large: await split(large, round) };
  runs.push(pair);
  for (const [name, run] of Object.entries(pair)) {
    const phases = Object.entries(run.phasesMs)
      .filter(([phase]) => ["draining", "matching", "deciding", "opening"].includes(phase))
      .map(([phase, ms]) => `${phase} ${Math.round(ms)} ms`);
    const { p50, p99, max } = run.readOnlyMs;
    console.log(
      `round ${round}, ${name}: window p50 ${p50} p99 ${p99} max ${max} ms; floor ${run.floorMs?.toFixed(1)} ms; ${phases.join(", ")}`,
    );
    if (!run.ok)
      console.log(
        `  not ok: ${run.evidence
          .filter((check) => !check.ok)
          .map((check) => `${check.name}: ${check.detail}`)
          .join("; ")}`,
      );
  }
}
for (const name of ["small", "large"] as const) {
  const of = (pick: (run: Report) => number | null) => median(runs.map((run) => pick(run[name])));
  report.figure(
    `${name}: window p50`,
    of((run) => run.readOnlyMs.p50),
    "ms",
  );
  report.figure(
    `${name}: window p99`,
    of((run) => run.readOnlyMs.p99),
    "ms",
  );
  report.figure(
    `${name}: window max`,
    of((run) => run.readOnlyMs.max),
    "ms",
  );
  report.figure(
    `${name}: floor`,
    of((run) => run.floorMs),
    "ms",
  );
  report.figure(
    `${name}: of it promotion`,
    of((run) => run.floorPartsMs.promotion),
    "ms",
  );
  for (const phase of ["draining", "matching", "deciding", "opening"]) {
    report.figure(
      `${name}: ${phase}`,
      of((run) => run.phasesMs[phase] ?? null),
      "ms",
    );
  }
}
const all = runs.flatMap((run) => [run.small, run.large]);
report.figure(
  "failed requests",
  all.reduce((sum, run) => sum + run.failedRequests, 0),
  "",
);
report.figure(
  "lost writes",
  all.reduce((sum, run) => sum + run.lostWrites, 0),
  "",
);
const ratios = (pick: (pair: { small: Report; large: Report }) => number) => percentile(runs.map(pick), 0.5);
report.ratio(
  "window-to-floor",
  ratios(({ small: run }) => (run.readOnlyMs.p50 ?? Number.NaN) / (run.floorMs ?? Number.NaN)),
  "≤",
  1.5,
);
report.ratio(
  `window-growth-${scale}x`,
  ratios((pair) => (pair.large.readOnlyMs.p50 ?? Number.NaN) / (pair.small.readOnlyMs.p50 ?? Number.NaN)),
  "≤",
  1.1,
);
report.ratio(
  "failed-requests",
  all.reduce((sum, run) => sum + run.failedRequests, 0),
  "≤",
  0,
);
report.finish(flags.json);
