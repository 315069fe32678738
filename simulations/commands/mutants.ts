/** `--mutants`: the hunt, told line by line, and its results as data for the page. */
import { writeFileSync } from "node:fs";
import { type Catch, foundBy, type Hunted, huntMutants, isCaught, medianTried } from "../mutants/hunt.ts";
import type { Mutant } from "../mutants/mutant.ts";

export interface MutantRow {
  readonly name: string;
  readonly says: string;
  /** Checkers, most often first. */
  readonly by: string;
  /** Seeds until it was found, median; null: by a story, or not at all. */
  readonly median: number | null;
  /** Of all hunts. */
  readonly most: number | null;
  readonly caught: boolean;
}

export interface MutantTable {
  readonly hunts: number;
  readonly mostSeeds: number;
  readonly rows: readonly MutantRow[];
}

/** Also into `file`, where there is one. Returns the exit code: 1 when one was not caught, or a seed fails without them. */
export async function reportMutants(
  mutants: readonly Mutant[],
  hunts: number,
  mostSeeds: number,
  file: string | null,
): Promise<number> {
  console.log(`${"mutant".padEnd(46)} ${"found by".padEnd(18)} seeds, median of ${hunts}`);
  const onHunted = (one: Hunted) => {
    const { name, by, caught, median } = rowOf(one);
    const seeds = caught
      ? (median ?? "not every hunt found it")
      : `NOT CAUGHT by ${mostSeeds} seeds and all stories`;
    console.log(`${name.padEnd(46)} ${by.padEnd(18)} ${seeds}`);
  };
  const guilty = new Set<number>();
  const onGuilty = ({ seed, by, message }: Catch) => {
    guilty.add(seed);
    console.log(`seed ${seed} fails without any mutant: ${by}: ${message}`);
  };
  const hunted = await huntMutants(mutants, { hunts, mostSeeds, onHunted, onGuilty });
  const rows = mutants.flatMap((mutant) => hunted.filter((one) => one.mutant === mutant).map(rowOf));
  const table: MutantTable = { hunts, mostSeeds, rows };
  if (file !== null) writeFileSync(file, `${JSON.stringify(table, null, 2)}\n`);
  const caught = rows.filter((row) => row.caught).length;
  console.log(`mutants caught ${caught} of ${mutants.length}`);
  return caught === mutants.length && guilty.size === 0 ? 0 : 1;
}

function rowOf(hunted: Hunted): MutantRow {
  const { name, says } = hunted.mutant;
  const median = medianTried(hunted);
  const most = median === null ? null : Math.max(...hunted.catches.map((found) => found?.tried ?? 0));
  return { name, says, by: foundBy(hunted), median, most, caught: isCaught(hunted) };
}
