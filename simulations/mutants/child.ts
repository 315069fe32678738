/**
 * A process with one mutant in it: runs seeds from `first` on until a checker finds something, and says so in one line
 * of JSON. Arguments: the mutant's name, the first seed, how many at most, and `moves` when each is to plan a move or
 * `reverseReplication` when each is to keep a way back; or the name and `stories`.
 */
import { mutantNamed } from "./all.ts";
import { loadMutant, UNHARMED } from "./mutant.ts";

const [name = "", first = "1", most = "1", kind = ""] = process.argv.slice(2);
if (name !== UNHARMED) loadMutant(mutantNamed(name));
if (first === "stories") await tellStories();
else await runSeeds();
process.exit();

async function runSeeds(): Promise<void> {
  const { simulate } = await import("../run.ts");
  const { drawScenario } = await import("../scenario.ts");
  for (let tried = 1; tried <= Number(most); tried++) {
    const at = Number(first) + tried - 1;
    const always = (wanted: string) => (kind === wanted ? "always" : "some");
    const scenario = drawScenario(at, true, always("moves"), always("reverseReplication"));
    const report = await simulate({ seed: at, scenario });
    if (report.verdict === "pass" || report.verdict === "inconclusive") continue;
    const { invariant, message, seed, verdict } = report;
    return found({ tried, seed, by: invariant ?? verdict, message: message ?? "" });
  }
}

/** Stories expect more than that no invariant is broken: that nobody was fenced in vain, say. */
async function tellStories(): Promise<void> {
  const { SCENARIOS } = await import("../scenarios/all.ts");
  const { runStory } = await import("../commands/scenarios.ts");
  let tried = 0;
  for (const story of SCENARIOS)
    for (const { seed, wrong } of await runStory(story)) {
      tried += 1;
      const [message] = wrong;
      if (message !== undefined) return found({ tried, seed, by: `story ${story.name}`, message });
    }
}

function found(what: { tried: number; seed: number; by: string; message: string }): void {
  process.stdout.write(`${JSON.stringify({ ...what, message: what.message.slice(0, 300) })}\n`);
}
