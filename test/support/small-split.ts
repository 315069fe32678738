/** The demo's split as a test: small, without words, with something that happens before or during it. */
import { cpSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import { type Layout, podsOfSplit } from "../../examples/quickstart/cluster/layout.ts";
import { prepareRun } from "../../examples/quickstart/cluster/prepare.ts";
import type { Processes } from "../../examples/quickstart/cluster/processes.ts";
import type { DemoOptions } from "../../examples/quickstart/options.ts";
import { Progress } from "../../examples/quickstart/progress.ts";
import type { Report } from "../../examples/quickstart/report/report.ts";
import { runDemo } from "../../examples/quickstart/run-demo.ts";
import { runLifecycle } from "../../examples/quickstart/run-lifecycle.ts";
import { MOVE_PODS, runMove } from "../../examples/quickstart/run-move.ts";
import { runRollback } from "../../examples/quickstart/run-rollback.ts";
import type { StepContext } from "../../examples/quickstart/steps.ts";
import { holding } from "./hold.ts";

export const SMALL: DemoOptions = {
  story: "split",
  pods: 2,
  organizations: 4,
  rows: 2_000,
  repositories: 6,
  objects: 40,
  rate: 20,
  seed: 1,
  repositoriesFrom: null,
  report: null,
  keep: false,
  trafficMs: 600,
  longTransactions: false,
  objectShare: 0.12,
  readsPerWrite: 1 / 3,
  settlingMs: 500,
};

/** Before the time limit of the tests that kill processes, which may wait for ever. */
const TOO_LONG_MS = 300_000;

export interface SmallSplit {
  readonly options?: Partial<DemoOptions>;
  readonly beforeSplit?: (cluster: {
    readonly coordinator: Coordinator;
    readonly planFile: string;
    readonly layout: Layout;
    readonly processes: Processes;
    /** Of a rollback: what is about to go back. */
    readonly organizations?: readonly string[];
  }) => Promise<void>;
  /** After so long it fails with what it waits for; shorter than the test's own time limit. */
  readonly withinMs?: number;
  /** Called when all traffic has ended. */
  readonly beforeAudit?: () => Promise<void>;
  /** Looks at the cluster while it still runs. */
  readonly afterwards?: (coordinator: Coordinator, layout: Layout) => Promise<void>;
}

/** Runs it and ends everything. When it fails, the logs of all processes are kept and the error names them. */
export function smallSplit({ options, beforeSplit, ...after }: SmallSplit): Promise<Report> {
  const pods = podsOfSplit(options?.pods ?? SMALL.pods);
  return run(pods, after, (context, started) =>
    runDemo({
      ...context,
      options: { ...SMALL, ...options },
      beforeSplit: async (coordinator, planFile) => {
        started(coordinator);
        const { layout, processes } = context;
        await beforeSplit?.({ coordinator, planFile, layout, processes });
      },
    }),
  );
}

export interface SmallMove extends SmallSplit {
  /** Called under traffic, when the busiest organization is served by its new Pod. */
  readonly afterMove?: (coordinator: Coordinator, layout: Layout) => Promise<void>;
}

/** The same of a move; `beforeSplit` is called before the busiest organization is moved. */
export function smallMove({ options, beforeSplit, afterMove, ...after }: SmallMove): Promise<Report> {
  return run(MOVE_PODS, after, (context, started) =>
    runMove({
      ...context,
      options: { ...SMALL, story: "move", ...options },
      beforeMove: async (coordinator, planFile) => {
        started(coordinator);
        const { layout, processes } = context;
        await beforeSplit?.({ coordinator, planFile, layout, processes });
      },
      afterMove: async (coordinator) => void (await afterMove?.(coordinator, context.layout)),
    }),
  );
}

/** A split to its very end, and one organization back; `beforeSplit` is called before the split. */
export function smallLifecycle({ options, beforeSplit, ...after }: SmallSplit): Promise<Report> {
  return run(podsOfSplit(SMALL.pods), after, (context, started) =>
    runLifecycle({
      ...context,
      options: { ...SMALL, story: "lifecycle", ...options },
      beforeSplit: async (coordinator, planFile) => {
        started(coordinator);
        const { layout, processes } = context;
        await beforeSplit?.({ coordinator, planFile, layout, processes });
      },
    }),
  );
}

export interface SmallRollback extends SmallSplit {
  /** Called before the split: `beforeSplit` is called before the rollback. */
  readonly first?: SmallSplit["beforeSplit"];
  /** Instead of the operator's command. */
  readonly rollBack?: (organizations: readonly string[]) => Promise<void>;
}

/** A split, and one organization rolled back; `beforeSplit` is called before the rollback. */
export function smallRollback(small: SmallRollback): Promise<Report> {
  const { options, beforeSplit, first, rollBack, ...after } = small;
  return run(podsOfSplit(SMALL.pods), after, (context, started) =>
    runRollback({
      ...context,
      options: { ...SMALL, story: "rollback", ...options },
      ...(rollBack && { rollBack }),
      beforeSplit: async (coordinator, planFile) => {
        started(coordinator);
        const { layout, processes } = context;
        await first?.({ coordinator, planFile, layout, processes });
      },
      beforeRollback: async (coordinator, organizations) => {
        started(coordinator);
        const { layout, processes } = context;
        await beforeSplit?.({ coordinator, planFile: "", layout, processes, organizations });
      },
    }),
  );
}

async function run(
  pods: readonly string[],
  { beforeAudit, afterwards, withinMs = TOO_LONG_MS }: Omit<SmallSplit, "options" | "beforeSplit">,
  demo: (
    context: Omit<StepContext, "options">,
    started: (coordinator: Coordinator) => void,
  ) => Promise<Report>,
): Promise<Report> {
  const prepared = await prepareRun("cleave-e2e-", pods);
  const { processes } = prepared;
  const layout = { ...prepared.layout, agentSettings: holding(prepared.folder) };
  // Nobody reads it; a stream that is read by nobody must not fill up.
  const progress = new Progress(new PassThrough().resume());
  let coordinator: Coordinator | undefined;
  const over = new AbortController();
  try {
    const started = (running: Coordinator) => {
      coordinator = running;
    };
    const context = { layout, processes, progress, ...(beforeAudit && { beforeAudit }) };
    const report = await Promise.race([
      demo(context, started),
      processes.failed,
      tooLong(withinMs, () => coordinator, over.signal),
    ]);
    if (coordinator) await afterwards?.(coordinator, layout);
    const failed = report.evidence.filter((check) => !check.ok);
    if (failed.length > 0)
      throw new Error(`the audit failed: ${JSON.stringify({ ...report, evidence: failed }, null, 1)}`);
    return report;
  } catch (error) {
    const kept = mkdtempSync(join(tmpdir(), "cleave-e2e-logs-"));
    cpSync(layout.logs, kept, { recursive: true });
    throw new Error(`${(error as Error).message}\nlogs: ${kept}`, { cause: error });
  } finally {
    over.abort();
    progress.stop();
    await processes.end();
  }
}

/** Rejects with what every migration waits for, before the test is ended without a word. */
async function tooLong(
  withinMs: number,
  coordinator: () => Coordinator | undefined,
  signal: AbortSignal,
): Promise<never> {
  await sleep(withinMs, undefined, { signal });
  const { migrations } = (await coordinator()?.status()) ?? { migrations: [] };
  const told = ["migrationId", "lifecycle", "attempts", "reason", "waitingFor", "possibleCommands"];
  throw new Error(`not done after ${withinMs / 1000} s: ${JSON.stringify(migrations, told, 1)}`);
}
