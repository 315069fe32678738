/**
 * Explores small configurations of the protocol to their ends, over the functions that run in production:
 *
 *     npm run model-check                             the configuration `abort-race`
 *     npm run model-check -- --config NAME | --all | --list
 *     npm run model-check -- --wrong STEP [--config NAME]   with a deliberately wrong step, to see it found
 *
 * Exit code 0: complete and nothing found; 1: a counterexample; 2: called wrongly; 3: not complete.
 */
import { parseArgs } from "node:util";
import { WRONG_STEPS, type WrongStep } from "./configuration.ts";
import { CONFIGURATIONS, configurationNamed } from "./configurations.ts";
import { explore, type Result } from "./explore.ts";

const DEFAULT = "abort-race";

function tell(result: Result, seconds: number): void {
  const { configuration, counterexample } = result;
  const perSecond = Math.round(result.states / seconds).toLocaleString("en");
  console.log(
    [
      `  states ${result.states.toLocaleString("en")}`,
      `transitions ${result.transitions.toLocaleString("en")}`,
      `depth ${result.depth}`,
      `logs ${result.logs}`,
      `${seconds.toFixed(1)} s`,
      `${perSecond} states/s`,
      `memory ${Math.round(process.memoryUsage().rss / 1024 ** 2)} MiB`,
    ].join(", "),
  );
  for (const [end, count] of Object.entries(result.ends).sort()) console.log(`  ends: ${count} × ${end}`);
  if (counterexample === null) {
    const verdict = result.complete
      ? "complete: every state was looked at, and nothing was found"
      : "NOT complete: too many states";
    console.log(`  ${verdict}`);
    return;
  }
  console.log(`  ${counterexample.violation.invariant} is broken: ${counterexample.violation.what}`);
  console.log(`  the shortest way there, from ${configuration.from}:`);
  counterexample.steps.forEach((step, index) => {
    console.log(`    ${String(index + 1).padStart(2)}  ${step}`);
  });
}

function main(): number {
  const { values } = parseArgs({
    options: {
      config: { type: "string", default: DEFAULT },
      all: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      wrong: { type: "string" },
      "max-states": { type: "string", default: "20000000" },
    },
  });
  if (values.list) {
    for (const { name, about } of CONFIGURATIONS) console.log(`${name.padEnd(20)} ${about}`);
    console.log("\nwrong steps:");
    for (const [name, about] of Object.entries(WRONG_STEPS)) console.log(`${name.padEnd(24)} ${about}`);
    return 0;
  }
  const { wrong } = values;
  if (wrong !== undefined && !Object.hasOwn(WRONG_STEPS, wrong))
    throw new Error(`there is no wrong step ${wrong}; --list names them`);
  const states = Number(values["max-states"]);
  if (!Number.isInteger(states) || states < 1) throw new Error("--max-states takes a positive number");
  const chosen = values.all ? CONFIGURATIONS : [configurationNamed(values.config)];
  let code = 0;
  for (const configuration of chosen) {
    console.log(`${configuration.name}: ${configuration.about}`);
    const began = performance.now();
    const onProgress = (seen: number, depth: number, waiting: number) => {
      if (process.stderr.isTTY)
        process.stderr.write(`\r  ${seen} states, depth ${depth}, ${waiting} waiting `);
    };
    const result = explore(configuration, (wrong as WrongStep | undefined) ?? null, { states, onProgress });
    if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
    tell(result, (performance.now() - began) / 1000);
    code = Math.max(code, result.counterexample ? 1 : result.complete ? 0 : 3);
  }
  return code;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
