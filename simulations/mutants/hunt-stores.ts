/** Looks whether real servers find each defect of `on-servers/`: its tests pass without it, and fail with it. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { checkMutant, ROOT, UNHARMED } from "./mutant.ts";
import type { StoreMutant } from "./on-servers/store-mutant.ts";

export interface StoreHunted {
  readonly mutant: StoreMutant;
  /** Its tests pass without it. */
  readonly sound: boolean;
  readonly caught: boolean;
  readonly ms: number;
}

/** One after the other: each starts servers. */
export async function huntInStores(
  mutants: readonly StoreMutant[],
  onHunted: (hunted: StoreHunted) => void,
): Promise<boolean> {
  const sound = new Map<string, boolean>();
  let good = true;
  for (const mutant of mutants) {
    // A test that fails because its mutant does not fit has found nothing.
    checkMutant(mutant);
    const key = `${mutant.tests.file} ${mutant.tests.name}`;
    const startedAt = performance.now();
    if (!sound.has(key)) sound.set(key, await passes(UNHARMED, mutant));
    const hunted = {
      mutant,
      sound: sound.get(key) === true,
      caught: !(await passes(mutant.name, mutant)),
      ms: performance.now() - startedAt,
    };
    good &&= hunted.sound && hunted.caught;
    onHunted(hunted);
  }
  return good;
}

/** A test that would wait for ever counts as one that fails: vitest itself ends it. */
const TEST_MS = 90_000;

function passes(name: string, { tests }: StoreMutant): Promise<boolean> {
  const config = join(import.meta.dirname, "vitest.config.ts");
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const args = [
    "run",
    "--config",
    config,
    "--bail",
    "1",
    `--testTimeout=${TEST_MS}`,
    tests.file,
    "-t",
    tests.name,
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [vitest, ...args], {
      cwd: ROOT,
      stdio: "ignore",
      env: { ...process.env, CLEAVE_MUTANT: name },
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code === 0));
  });
}
