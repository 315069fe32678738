/** `--mutants --stores`: defects in what only real servers run, told line by line. Takes some minutes, and starts servers. */
import { huntInStores } from "../mutants/hunt-stores.ts";
import { STORE_HUNTS } from "../mutants/on-servers/all.ts";

/**
 * `part`: those of that name, or whose test's path has it; null: all. Returns the exit code: 1 when one was not caught, or a
 * test fails without any.
 */
export async function reportStoreHunts(part: string | null): Promise<number> {
  const hunted = STORE_HUNTS.filter(
    ({ name, tests }) => part === null || name === part || tests.file.includes(part),
  );
  console.log(`${"mutant".padEnd(36)} found by`);
  let caught = 0;
  const good = await huntInStores(hunted, ({ mutant, sound, caught: found, ms }) => {
    if (found && sound) caught += 1;
    const by = found ? mutant.tests.file : "NOT CAUGHT";
    const doubt = sound ? "" : " (its tests fail without it)";
    console.log(`${mutant.name.padEnd(36)} ${by}${doubt}, ${Math.round(ms / 1_000)} s`);
  });
  console.log(`mutants caught ${caught} of ${hunted.length}`);
  return good ? 0 : 1;
}
