/** Looks for every mutant with fresh seeds: which checker finds it, and after how many. */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type Mutant, UNHARMED } from "./mutant.ts";

export interface Catch {
  /** Runs, the one that failed included. */
  readonly tried: number;
  readonly seed: number;
  /** `I2`, or the verdict where no invariant is named, or `story NAME`. */
  readonly by: string;
  readonly message: string;
}

export interface Hunted {
  readonly mutant: Mutant;
  /** One for each hunt; null where no seed failed. */
  readonly catches: readonly (Catch | null)[];
  /** Told only where a hunt with seeds found nothing. */
  readonly story: Catch | null;
}

export interface HuntOptions {
  /** Independent hunts for each mutant. */
  readonly hunts: number;
  /** At which a hunt gives up. */
  readonly mostSeeds: number;
  readonly onHunted: (hunted: Hunted) => void;
  /** A seed failed, and does so without any mutant. */
  readonly onGuilty: (failure: Catch) => void;
}

/** Hunts start far from each other, and from the seeds that everything else uses. */
const FIRST_SEED = 5_000_000;
const BETWEEN = 100_000;

export async function huntMutants(mutants: readonly Mutant[], options: HuntOptions): Promise<Hunted[]> {
  const queue = [...mutants];
  const results: Hunted[] = [];
  const worker = async () => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const hunted = await huntOne(mutant, options);
      results.push(hunted);
      options.onHunted(hunted);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}

/** A mutant that one hunt misses is left to the stories: no other hunt would find it surely. */
async function huntOne(mutant: Mutant, options: HuntOptions): Promise<Hunted> {
  const catches: (Catch | null)[] = [];
  for (let hunt = 0; hunt < options.hunts; hunt++) {
    const found = await huntOnce(mutant, FIRST_SEED + hunt * BETWEEN, options);
    catches.push(found);
    if (found === null) return { mutant, catches, story: await runChild(mutant.name, "stories") };
  }
  return { mutant, catches, story: null };
}

/** A seed that fails without the mutant too is a find of its own, and no catch: the hunt goes on behind it. */
async function huntOnce(
  { name, moves, reverseReplication }: Mutant,
  first: number,
  { mostSeeds, onGuilty }: HuntOptions,
): Promise<Catch | null> {
  const kind = moves ? ["moves"] : reverseReplication ? ["reverseReplication"] : [];
  for (let from = first; from < first + mostSeeds; ) {
    const found = await runChild(name, String(from), String(first + mostSeeds - from), ...kind);
    if (found === null) return null;
    const alone = await runChild(UNHARMED, String(found.seed), "1", ...kind);
    if (alone === null) return { ...found, tried: found.seed - first + 1 };
    onGuilty(alone);
    from = found.seed + 1;
  }
  return null;
}

/** Every hunt found it, or a story does. */
export function isCaught({ catches, story }: Hunted): boolean {
  return story !== null || catches.every((found) => found !== null);
}

/** Seeds until it was found; null where that was left to a story. */
export function medianTried({ catches }: Hunted): number | null {
  const tried = catches.map((found) => found?.tried ?? null).filter((count) => count !== null);
  if (tried.length < catches.length) return null;
  return tried.sort((a, b) => a - b)[Math.floor((tried.length - 1) / 2)] ?? null;
}

/** Checkers by how often they were the first to find it. */
export function foundBy({ catches, story }: Hunted): string {
  if (story !== null) return story.by;
  const counts = Map.groupBy(
    catches.flatMap((found) => (found ? [found.by] : [])),
    (by) => by,
  );
  return [...counts]
    .sort((a, b) => b[1].length - a[1].length)
    .map(([by]) => by)
    .join(", ");
}

function runChild(...args: readonly string[]): Promise<Catch | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, "child.ts"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
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
      if (code !== 0)
        reject(new Error(`mutant ${args[0]}: the process ended with ${code}: ${errors.slice(-2_000)}`));
      else resolve(output === "" ? null : (JSON.parse(output) as Catch));
    });
  });
}
