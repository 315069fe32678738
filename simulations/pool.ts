/** Many seeds on all cores. A thread whose simulation breaks it is replaced, and its seed counts as a crash. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Report } from "./run.ts";
import type { Task } from "./worker.ts";

/** A run that takes longer than this in real time hangs in a loop without events. */
const HANGS_AFTER_MS = 60_000;

export type Job = Pick<Task, "seed" | "scenario">;

export interface PoolOptions {
  /** The next one, or null when there is none. */
  readonly next: () => Job | null;
  readonly onReport: (report: Report, job: Job) => void;
  readonly onBroken: (seed: number, error: Error) => void;
  readonly faults?: boolean;
  readonly threads?: number;
  readonly coverage?: boolean;
}

export async function simulateMany(options: PoolOptions): Promise<void> {
  const threads = options.threads ?? availableParallelism();
  await Promise.all(Array.from({ length: threads }, () => runThread(options)));
}

async function runThread(options: PoolOptions): Promise<void> {
  let worker: Worker | null = null;
  for (;;) {
    const job = options.next();
    if (job === null) break;
    worker ??= new Worker(new URL("./worker.ts", import.meta.url));
    const outcome = await runOne(worker, {
      ...job,
      faults: options.faults ?? true,
      coverage: options.coverage ?? false,
    });
    if (outcome instanceof Error) {
      options.onBroken(job.seed, outcome);
      await worker.terminate();
      worker = null;
    } else options.onReport(outcome, job);
  }
  await worker?.terminate();
}

function runOne(worker: Worker, task: Task): Promise<Report | Error> {
  return new Promise((resolve) => {
    const settle = (outcome: Report | Error) => {
      clearTimeout(hangs);
      worker.off("message", settle);
      worker.off("error", settle);
      resolve(outcome);
    };
    const hangs = setTimeout(() => settle(new Error(`no end within ${HANGS_AFTER_MS} ms`)), HANGS_AFTER_MS);
    worker.on("message", settle);
    worker.on("error", settle);
    worker.postMessage(task);
  });
}
