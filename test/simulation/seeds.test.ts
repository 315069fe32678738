/** The simulator itself: the same seed is the same run, a fixed set of seeds passes, and so does every seed that once failed. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { simulateMany } from "../../simulations/pool.ts";
import type { Report } from "../../simulations/run.ts";

interface PastSeed {
  readonly seed: number;
  /** What it found, in a few words. */
  readonly found: string;
}

const past = JSON.parse(
  readFileSync(new URL("../../simulations/seeds.json", import.meta.url), "utf8"),
) as readonly PastSeed[];

async function run(seeds: readonly number[], threads = 2): Promise<Map<number, Report>> {
  const reports = new Map<number, Report>();
  const left = [...seeds];
  await simulateMany({
    threads,
    next: () => left.shift() ?? null,
    onReport: (report) => reports.set(report.seed, report),
    onBroken: (seed, error) => {
      throw new Error(`seed ${seed}: ${error.message}`);
    },
  });
  return reports;
}

const failed = (reports: Map<number, Report>) =>
  [...reports.values()]
    .filter(({ verdict }) => verdict !== "pass")
    .map(({ seed, invariant, message }) => `seed ${seed}: ${invariant} ${message}`);

describe("simulation", () => {
  it("gives the same trace for the same seed, in whatever thread and after whatever other seed", async () => {
    const first = await run([7, 8, 9], 1);
    const second = await run([9, 8, 7], 1);
    for (const seed of [7, 8, 9]) expect(second.get(seed)?.hash).toBe(first.get(seed)?.hash);
    expect(new Set([...first.values()].map(({ hash }) => hash)).size).toBe(3);
  });

  it("passes a fixed set of seeds, and completes migrations in them", async () => {
    const reports = await run(Array.from({ length: 30 }, (_, i) => 1_000 + i));
    expect(failed(reports)).toEqual([]);
    const completed = [...reports.values()].reduce((sum, { migrations }) => sum + migrations, 0);
    expect(completed).toBeGreaterThanOrEqual(25);
  });

  it("passes every seed that once failed", async () => {
    expect(failed(await run(past.map(({ seed }) => seed)))).toEqual([]);
  });
});
