/** Looks for every mutant with fresh seeds: which checker finds it, and after how many. */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Mutant } from "./mutant.ts";

export interface Catch {
  /** Seeds that were run, the one that failed included. */
  readonly tried: number;
  readonly seed: number;
  /** `I2`, or the verdict where no invariant is named. */
  readonly by: string;
  readonly message: string;
}

export interface Hunted {
  readonly mutant: Mutant;
  /** One for each hunt; null where no seed failed. */
  readonly catches: readonly (Catch | null)[];
}

export interface HuntOptions {
  /** Independent hunts for each mutant. */
  readonly hunts: number;
  /** At which a hunt gives up. */
  readonly mostSeeds: number;
  readonly onHunted: (hunted: Hunted) => void;
}

/** Hunts start far from each other, and from the seeds that everything else uses. */
const FIRST_SEED = 5_000_000;
const BETWEEN = 100_000;

export async function huntMutants(mutants: readonly Mutant[], options: HuntOptions): Promise<Hunted[]> {
  const queue = [...mutants];
  const results: Hunted[] = [];
  const worker = async () => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const catches: (Catch | null)[] = [];
      for (let hunt = 0; hunt < options.hunts; hunt++)
        catches.push(await runChild(mutant.name, FIRST_SEED + hunt * BETWEEN, options.mostSeeds));
      const hunted = { mutant, catches };
      results.push(hunted);
      options.onHunted(hunted);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}

/** Caught: every hunt found it. */
export function isCaught({ catches }: Hunted): boolean {
  return catches.every((found) => found !== null);
}

export function medianTried({ catches }: Hunted): number | null {
  const tried = catches.map((found) => found?.tried ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
  const median = tried[Math.floor((tried.length - 1) / 2)];
  return median === undefined || median === Number.POSITIVE_INFINITY ? null : median;
}

/** Checkers by how often they were the first to find it. */
export function foundBy({ catches }: Hunted): string {
  const counts = Map.groupBy(
    catches.flatMap((found) => (found ? [found.by] : [])),
    (by) => by,
  );
  return [...counts]
    .sort((a, b) => b[1].length - a[1].length)
    .map(([by]) => by)
    .join(", ");
}

/** The whole report and the closing line. Returns the exit code. */
export async function reportMutants(
  mutants: readonly Mutant[],
  hunts: number,
  mostSeeds: number,
): Promise<number> {
  console.log(`${"mutant".padEnd(46)} ${"found by".padEnd(18)} seeds, median of ${hunts}`);
  const all = await huntMutants(mutants, {
    hunts,
    mostSeeds,
    onHunted: (hunted) => {
      const median = medianTried(hunted);
      const missed = hunted.catches.filter((found) => found === null).length;
      const seeds =
        missed > 0 ? `NOT CAUGHT in ${missed} of ${hunts} hunts of ${mostSeeds} seeds` : String(median);
      console.log(`${hunted.mutant.name.padEnd(46)} ${foundBy(hunted).padEnd(18)} ${seeds}`);
    },
  });
  const caught = all.filter(isCaught).length;
  console.log(`mutants caught ${caught} of ${all.length}`);
  return caught === all.length ? 0 : 1;
}

function runChild(name: string, first: number, most: number): Promise<Catch | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, "child.ts"), name, String(first), String(most)],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let output = "";
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += String(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      errors += String(chunk);
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) {
        reject(new Error(`mutant ${name}: the process ended with ${code}: ${errors.slice(-2_000)}`));
        return;
      }
      if (output === "") {
        resolve(null);
        return;
      }
      const found = JSON.parse(output) as {
        tried: number;
        seed: number;
        verdict: string;
        invariant: string | null;
        message?: string;
      };
      resolve({
        tried: found.tried,
        seed: found.seed,
        by: found.invariant ?? found.verdict,
        message: found.message ?? "",
      });
    });
  });
}
