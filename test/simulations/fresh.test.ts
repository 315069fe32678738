/**
 * Seeds that nobody has run, for a bounded time. The first follows from the commit, so that a run can be repeated; on one
 * thread, because other test files need the other one.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import type { Report } from "../../simulations/run.ts";
import { failuresOf, runNext } from "./many.ts";

/** Longer for a night: `FRESH_SEEDS_SECONDS=3600 npm test -- test/simulations/fresh.test.ts`. */
const SECONDS = Number(process.env["FRESH_SEEDS_SECONDS"] ?? 60);
/** Beyond the seeds that everything else uses. */
const BEYOND = 10_000_000;

/** Where there is no repository (a release's sources), always the same. */
async function firstSeed(): Promise<number> {
  const run = promisify(execFile)("git", ["rev-parse", "HEAD"], { cwd: import.meta.dirname });
  const commit = await run.then(
    ({ stdout }) => stdout.trim(),
    () => "0",
  );
  return BEYOND + Number.parseInt(commit.slice(0, 7), 16);
}

it(
  `fresh seeds pass for ${SECONDS} s`,
  async () => {
    const first = await firstSeed();
    const endsAt = Date.now() + SECONDS * 1_000;
    const failed: Report[] = [];
    let runs = 0;
    // One failure is enough: what is left of the time would only hide its words.
    const next = () => (Date.now() < endsAt && failed.length === 0 ? { seed: first + runs++ } : null);
    const onReport = (report: Report) => {
      if (report.verdict !== "pass") failed.push(report);
    };
    await runNext(next, onReport, 1);
    console.log(`${runs} fresh seeds: npm run simulate -- --from ${first} --seeds ${runs}`);
    expect(failuresOf(failed)).toEqual([]);
    expect(runs).toBeGreaterThan(SECONDS / 10);
  },
  (SECONDS + 60) * 1_000,
);
