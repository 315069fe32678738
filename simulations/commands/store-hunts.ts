/** `--mutants --stores`: defects in SQL, told line by line. Takes some minutes, and starts real servers. */
import { huntInStores } from "../mutants/hunt-stores.ts";
import { STORE_HUNTS } from "../mutants/on-servers/all.ts";

/** Returns the exit code: 1 when one was not caught, or a test fails without any. */
export async function reportStoreHunts(): Promise<number> {
  console.log(`${"mutant".padEnd(36)} found by`);
  let caught = 0;
  const good = await huntInStores(({ mutant, sound, caught: found, ms }) => {
    if (found && sound) caught += 1;
    const by = found ? mutant.tests.file : "NOT CAUGHT";
    const doubt = sound ? "" : " (its tests fail without it)";
    console.log(`${mutant.name.padEnd(36)} ${by}${doubt}, ${Math.round(ms / 1_000)} s`);
  });
  console.log(`mutants caught ${caught} of ${STORE_HUNTS.length}`);
  return good ? 0 : 1;
}
