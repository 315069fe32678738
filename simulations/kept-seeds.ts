/** Seeds that once failed, kept in `seeds.json` with what they found. */
import { readFileSync } from "node:fs";
import type { Job } from "./pool.ts";
import { drawScenario } from "./scenario.ts";

interface KeptSeed {
  readonly seed: number;
  /** What it found, in a few words. */
  readonly found: string;
  /** It is of a time when seeds drew moves; the others stay what they were. */
  readonly moves?: true;
}

/** One job for each, in the order of the file. */
export function keptSeeds(): Job[] {
  const text = readFileSync(new URL("./seeds.json", import.meta.url), "utf8");
  return (JSON.parse(text) as readonly KeptSeed[]).map(({ seed, moves }) =>
    moves ? { seed } : { seed, scenario: drawScenario(seed, true, "never", "never") },
  );
}
