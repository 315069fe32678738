/** `npm run simulate -- …`: reads what is asked for and hands over to `commands/`. */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { HOLES_EXIT_CODE, reportCoverage } from "./commands/coverage.ts";
import { writeHashes } from "./commands/hashes.ts";
import { runMany } from "./commands/many.ts";
import { type MutantTable, reportMutants } from "./commands/mutants.ts";
import { show } from "./commands/one.ts";
import { readBundle, replayLog } from "./commands/replay-log.ts";
import { runScenarios } from "./commands/scenarios.ts";
import { reportStoreHunts } from "./commands/store-hunts.ts";
import { addCoverage } from "./coverage/coverage.ts";
import { coveragePage } from "./coverage/html.ts";
import { MUTANTS, mutantNamed } from "./mutants/all.ts";
import { EXIT_CODES, type Report, simulate } from "./run.ts";
import { SCENARIOS } from "./scenarios/all.ts";

const DEFAULT_SEEDS = 500;

const USAGE = `usage: npm run simulate -- [options]
  --seeds N          N seeds on all cores (default ${DEFAULT_SEEDS})
  --from N           the first of them (default 1)
  --minutes M        fresh seeds for so long
  --seed N           this one, with its story
  --scenario NAME    a story with a name, or all of them
  --replay FILE      the seed and scenario of a report that a failure left
  --replay-log FILE  the log of a real cluster, from a bundle of \`cleave diagnose\`: the state after each record
  --trace            every line of the story
  --calm             without faults
  --no-shrink        report failures as they came
  --coverage         what these seeds and all scenarios reach: faults × states × messages, transitions, marks
  --hashes FILE      the trace of every kept seed and of these as one line each; equal files are equal behaviour
  --html FILE        with --coverage: one page of it, to be read without a network
  --mutant-table FILE  with --html: the results that --mutants --json left, for the same page
  --mutants          break the program in every known way; which checker finds it, after how many seeds
  --mutant NAME      in this way
  --stores           with --mutants: those in what only real servers run, which tests on these have to find; with --mutant
                     NAME that one, or those whose test's path has this in it
  --hunts N          independent hunts for each mutant (default 5)
  --json FILE        with --mutants: the results as data
scenarios:
${SCENARIOS.map(({ name, about }) => `  ${name.padEnd(34)} ${about}`).join("\n")}
exit codes: ${Object.entries(EXIT_CODES)
  .map(([verdict, code]) => `${code} ${verdict}`)
  .join(", ")}, ${HOLES_EXIT_CODE} a reachable transition or a mark was never reached (--coverage)`;

/** A hunt for a mutant gives up after so many. */
const MUTANT_SEEDS = 1_000;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      from: { type: "string", default: "1" },
      minutes: { type: "string" },
      seed: { type: "string" },
      scenario: { type: "string" },
      replay: { type: "string" },
      "replay-log": { type: "string" },
      trace: { type: "boolean", default: false },
      calm: { type: "boolean", default: false },
      "no-shrink": { type: "boolean", default: false },
      coverage: { type: "boolean", default: false },
      hashes: { type: "string" },
      html: { type: "string" },
      "mutant-table": { type: "string" },
      mutants: { type: "boolean", default: false },
      mutant: { type: "string" },
      stores: { type: "boolean", default: false },
      hunts: { type: "string", default: "5" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.mutants && values.stores) return reportStoreHunts(values.mutant ?? null);
  if (values.mutants || values.mutant !== undefined) {
    const mutants = values.mutant === undefined ? MUTANTS : [mutantNamed(values.mutant)];
    const [hunts, most] = [Number(values.hunts), Number(values.seeds ?? MUTANT_SEEDS)];
    return reportMutants(mutants, hunts, most, values.json ?? null);
  }
  const echo = values.trace ? (line: string) => console.log(line) : null;
  const tracing = echo === null ? {} : { echo };
  const bundle = values["replay-log"];
  if (bundle !== undefined) return replayLog(await readBundle(bundle), (line) => console.log(line));
  if (values.replay !== undefined) {
    const { seed, scenario } = JSON.parse(readFileSync(values.replay, "utf8")) as Report;
    return show(await simulate({ seed, scenario, ...tracing }), values.trace);
  }
  if (values.scenario !== undefined) return (await runScenarios(values.scenario, echo)).exitCode;
  if (values.seed !== undefined)
    return show(
      await simulate({ seed: Number(values.seed), faults: !values.calm, ...tracing }),
      values.trace,
    );
  if (values.hashes !== undefined)
    return writeHashes(values.hashes, Number(values.from), Number(values.seeds ?? DEFAULT_SEEDS));
  const minutes = values.minutes === undefined ? null : Number(values.minutes);
  const covering = values.coverage || values.html !== undefined;
  const { exitCode, coverage } = await runMany({
    from: Number(values.from),
    seeds: values.seeds === undefined ? (minutes === null ? DEFAULT_SEEDS : null) : Number(values.seeds),
    minutes,
    calm: values.calm,
    shrinking: !values["no-shrink"],
    coverage: covering,
  });
  if (!covering || coverage === null) return exitCode;
  const stories = await runScenarios("all", null, ({ coverage: more }) => {
    if (more) addCoverage(coverage, more);
  });
  if (values.html !== undefined) {
    const table = values["mutant-table"];
    const mutants = table === undefined ? null : (JSON.parse(readFileSync(table, "utf8")) as MutantTable);
    writeFileSync(values.html, coveragePage(coverage, mutants));
    console.log(`wrote ${values.html}`);
  }
  return reportCoverage(coverage, exitCode || stories.exitCode);
}

process.exitCode = await main();
