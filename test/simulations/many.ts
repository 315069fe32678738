/** Runs in threads of their own: while one goes on, its thread has no time or chance but the simulated. */
import { type Job, simulateMany } from "../../simulations/pool.ts";
import type { Report } from "../../simulations/run.ts";

/** One report for each job, in the order of the jobs. */
export async function runJobs(jobs: readonly Job[], threads = 2): Promise<Report[]> {
  const reports = new Map<Job, Report>();
  const left = [...jobs];
  await runNext(
    () => left.shift() ?? null,
    (report, job) => reports.set(job, report),
    threads,
  );
  return jobs.map((job) => reports.get(job) as Report);
}

export async function runNext(
  next: () => Job | null,
  onReport: (report: Report, job: Job) => void,
  threads: number,
): Promise<void> {
  await simulateMany({
    threads,
    next,
    onReport,
    onBroken: (seed, error) => {
      throw new Error(`seed ${seed}: ${error.message}`);
    },
  });
}

/** One line for each that did not pass, with what brings it back. */
export function failuresOf(reports: Iterable<Report>): string[] {
  return [...reports].flatMap(({ seed, verdict, invariant, message }) =>
    verdict === "pass"
      ? []
      : [`${verdict} ${invariant ?? ""}: ${message}\nreproduce: npm run simulate -- --seed ${seed} --trace`],
  );
}
