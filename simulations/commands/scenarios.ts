/** `--scenario NAME | all`: stories, each with a few seeds, because what happens between two events is drawn. */
import { EXIT_CODES, type Report, simulate, type Verdict } from "../run.ts";
import { scenariosNamed } from "../scenarios/all.ts";
import type { NamedStory } from "../scenarios/story.ts";

const SEEDS = [1, 2, 3];

export interface StoryOutcome {
  readonly seed: number;
  readonly report: Report;
  /** Empty when it ended as it should. */
  readonly wrong: readonly string[];
}

export async function runStory(
  { story }: NamedStory,
  seeds: readonly number[] = SEEDS,
  echo: ((line: string) => void) | null = null,
  coverage = false,
): Promise<StoryOutcome[]> {
  const outcomes: StoryOutcome[] = [];
  for (const seed of seeds) {
    const tracing = echo === null ? {} : { echo };
    const report = await simulate({ seed, scenario: story.scenario(), coverage, ...tracing });
    const { verdict, invariant, message } = report;
    const wrong =
      verdict === "pass" ? story.unmet(report) : [`${verdict} ${invariant ?? ""}: ${message ?? ""}`];
    outcomes.push({ seed, report, wrong });
  }
  return outcomes;
}

/** Tells each story's end; of one that ended wrongly, the newest lines too. */
export async function runScenarios(
  name: string,
  echo: ((line: string) => void) | null,
  onReport: ((report: Report) => void) | null = null,
): Promise<{ readonly exitCode: number }> {
  const stories = scenariosNamed(name);
  let worst: Verdict = "pass";
  let failed = 0;
  for (const named of stories) {
    const outcomes = await runStory(named, SEEDS, echo, onReport !== null);
    for (const { report } of outcomes) onReport?.(report);
    const bad = outcomes.filter(({ wrong }) => wrong.length > 0);
    console.log(`${bad.length === 0 ? "ok " : "BAD"} ${named.name.padEnd(34)} ${named.about}`);
    for (const { seed, report, wrong } of bad) {
      failed += 1;
      worst = report.verdict === "pass" ? "liveness" : report.verdict;
      if (echo === null && stories.length === 1) for (const line of report.story) console.log(line);
      for (const line of wrong) console.log(`    seed ${seed}: ${line}`);
    }
  }
  console.log(`${stories.length} scenarios, ${stories.length * SEEDS.length} runs, ${failed} failed`);
  return { exitCode: EXIT_CODES[worst] };
}
