/** `--mutants`: the hunt, and its results as data for the page. */
import { writeFileSync } from "node:fs";
import { foundBy, huntMutants, isCaught, medianTried } from "../mutants/hunt.ts";
import type { Mutant } from "../mutants/mutant.ts";

export interface MutantRow {
  readonly name: string;
  readonly says: string;
  /** Checkers, most often first. */
  readonly by: string;
  /** Seeds until it was found, median; null: not found. */
  readonly median: number | null;
  readonly caught: boolean;
}

export interface MutantTable {
  readonly hunts: number;
  readonly mostSeeds: number;
  readonly rows: readonly MutantRow[];
}

/** As `reportMutants` tells it, and into `file`. Returns the exit code. */
export async function writeMutants(
  mutants: readonly Mutant[],
  hunts: number,
  mostSeeds: number,
  file: string,
): Promise<number> {
  const rows: MutantRow[] = [];
  const hunted = await huntMutants(mutants, {
    hunts,
    mostSeeds,
    onHunted: (one) => {
      const median = medianTried(one);
      console.log(
        `${one.mutant.name.padEnd(46)} ${foundBy(one).padEnd(18)} ${isCaught(one) ? median : "NOT CAUGHT"}`,
      );
    },
  });
  for (const mutant of mutants) {
    const one = hunted.find((found) => found.mutant === mutant);
    if (!one) continue;
    const { name, says } = mutant;
    rows.push({ name, says, by: foundBy(one), median: medianTried(one), caught: isCaught(one) });
  }
  const table: MutantTable = { hunts, mostSeeds, rows };
  writeFileSync(file, `${JSON.stringify(table, null, 2)}\n`);
  const caught = rows.filter((row) => row.caught).length;
  console.log(`mutants caught ${caught} of ${rows.length}`);
  return caught === rows.length ? 0 : 1;
}
