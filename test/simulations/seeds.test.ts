/** The simulator itself: the same seed is the same run, a fixed set of seeds passes, and so does every seed that once failed. */
import { describe, expect, it } from "vitest";
import { keptSeeds } from "../../simulations/kept-seeds.ts";
import { failuresOf, runJobs } from "./many.ts";

const jobs = (...seeds: readonly number[]) => seeds.map((seed) => ({ seed }));

describe("simulation", () => {
  it("gives the same trace for the same seed, in whatever thread and after whatever other seed", async () => {
    const first = await runJobs(jobs(7, 8, 9), 1);
    const second = await runJobs(jobs(9, 8, 7), 1);
    const hashes = first.map(({ hash }) => hash);
    expect(second.map(({ hash }) => hash).reverse()).toEqual(hashes);
    expect(new Set(hashes).size).toBe(3);
  });

  it("passes a fixed set of seeds, and completes migrations in them", async () => {
    const reports = await runJobs(jobs(...Array.from({ length: 30 }, (_, i) => 1_000 + i)));
    expect(failuresOf(reports)).toEqual([]);
    const completed = reports.reduce((sum, { migrations }) => sum + migrations, 0);
    expect(completed).toBeGreaterThanOrEqual(25);
  });

  it("passes every seed that once failed", async () => {
    expect(failuresOf(await runJobs(keptSeeds()))).toEqual([]);
  });
});
