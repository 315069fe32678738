/** The trace of every kept seed and of N fresh ones as one line each: two versions that write the same behave alike. */
import { writeFileSync } from "node:fs";
import { keptSeeds } from "../kept-seeds.ts";
import { type Job, simulateMany } from "../pool.ts";
import { EXIT_CODES } from "../run.ts";
import { realNow } from "../world/ambient.ts";
import { showProgress } from "./progress.ts";

/** @returns the process's exit code: 0 when every seed came to an end, whatever its verdict. */
export async function writeHashes(file: string, from: number, seeds: number): Promise<number> {
  const fresh: Job[] = Array.from({ length: seeds }, (_, i) => ({ seed: from + i }));
  const jobs = [...keptSeeds(), ...fresh];
  const lines = new Map<Job, string>();
  const startedAt = realNow();
  let next = 0;
  let broken = 0;
  const hide = showProgress(
    () => ({ runs: lines.size, failed: broken, seeds: jobs.length, endsAfterMs: null }),
    () => realNow() - startedAt,
  );
  await simulateMany({
    next: () => jobs[next++] ?? null,
    onReport: ({ seed, hash, verdict }, job) => lines.set(job, `${seed} ${hash} ${verdict}`),
    onBroken: (seed, error) => {
      broken += 1;
      console.log(`seed ${seed}: the simulator's thread broke: ${error.message}`);
    },
  });
  hide();
  writeFileSync(file, `${jobs.map((job) => lines.get(job) ?? `${job.seed} broken`).join("\n")}\n`);
  console.log(`wrote ${file}: ${jobs.length - fresh.length} kept seeds, ${seeds} from ${from}`);
  return broken === 0 ? EXIT_CODES.pass : EXIT_CODES.crash;
}
