/** The read-only window of a move as clients see it, against a manual switchover, and against its own with ten times the data. */
import { prepareRun } from "../../../examples/quickstart/cluster/prepare.ts";
import type { DemoOptions } from "../../../examples/quickstart/options.ts";
import { Progress } from "../../../examples/quickstart/progress.ts";
import type { Report } from "../../../examples/quickstart/report/report.ts";
import { MOVE_PODS, runMove } from "../../../examples/quickstart/run-move.ts";
import { type BenchReport, percentile } from "../report.ts";
import { manualSwitchoverMs } from "./switchover.ts";

const SMALL = { organizations: 6, rows: 10_000, repositories: 8, objects: 100 };
const SCALE = 10;

export interface WindowOptions {
  readonly rounds: number;
  /** Writes per second of all clients together. */
  readonly rate: number;
}

/** Adds figures and ratios to `report`: goals are a fifth of the manual one, 50 ms, and no growth. */
export async function measureWindow(report: BenchReport, { rounds, rate }: WindowOptions): Promise<void> {
  const manual: number[] = [];
  const windows: Record<"small" | "large", number[]> = { small: [], large: [] };
  for (let round = 1; round <= rounds; round += 1) {
    manual.push(await manualSwitchoverMs(SMALL.rows));
    for (const [size, scale] of [
      ["small", 1],
      ["large", SCALE],
    ] as const) {
      const { readOnlyMs, phasesMs, ok } = await move(scale, rate, round);
      if (readOnlyMs.p50 !== null) windows[size].push(readOnlyMs.p50);
      const phases = ["draining", "matching", "opening"].map((name) => `${name} ${phasesMs[name] ?? "?"} ms`);
      console.log(
        `round ${round}, ${size}: window p50 ${readOnlyMs.p50} max ${readOnlyMs.max} ms (${phases.join(", ")})${ok ? "" : " NOT OK"}`,
      );
    }
    console.log(`round ${round}, manual switchover: ${manual.at(-1)?.toFixed(0)} ms`);
  }
  const of = (values: readonly number[]) => percentile(values, 0.5);
  report.figure("manual switchover", of(manual), "ms");
  report.figure("window of a move, p50", of(windows.small), "ms");
  report.figure("the same with ten times the data", of(windows.large), "ms");
  report.ratio("window-to-manual", of(windows.small) / of(manual), "≤", 0.2);
  report.ratio("window-to-50ms", of(windows.small) / 50, "≤", 1);
  report.ratio("window-growth-10x", of(windows.large) / of(windows.small), "≤", 1.1);
}

async function move(scale: number, rate: number, seed: number): Promise<Report> {
  const options: DemoOptions = {
    story: "move",
    pods: 1,
    organizations: SMALL.organizations,
    rows: SMALL.rows * scale,
    repositories: SMALL.repositories * scale,
    objects: SMALL.objects * scale,
    rate,
    seed,
    repositoriesFrom: null,
    report: null,
    keep: false,
    trafficMs: 2_000,
    // Each would add the plan's grace to the window; the writes of this benchmark end by themselves.
    longTransactions: false,
    objectShare: 0.02,
    readsPerWrite: 0.05,
    settlingMs: 2_000,
  };
  const { layout, processes } = await prepareRun("cleave-bench-", MOVE_PODS);
  const progress = new Progress();
  try {
    return await Promise.race([runMove({ options, layout, processes, progress }), processes.failed]);
  } finally {
    progress.stop();
    await processes.end();
  }
}
