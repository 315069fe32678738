/** Explores small configurations of the protocol to their ends: `npm run model-check -- --config NAME | --all`. */
import { CONFIGURATIONS } from "./configurations.ts";
import { explore } from "./explore.ts";

for (const name of process.argv.slice(2)) {
  const configuration = CONFIGURATIONS.find((one) => one.name === name);
  if (!configuration) continue;
  const began = performance.now();
  const r = explore(configuration, null, {
    states: 3_000_000,
    onProgress: (a, b, c) => console.log(a, b, c, Math.round(performance.now() - began)),
  });
  console.log({ ...r, configuration: name, ms: performance.now() - began });
  console.log(r.counterexample?.steps.join("\n"));
}
