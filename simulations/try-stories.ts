import { runStory } from "./commands/scenarios.ts";
import { ROLLBACK_STORIES } from "./scenarios/rollbacks.ts";

const only = process.argv[2];
for (const one of ROLLBACK_STORIES) {
  if (only && !only.split(",").includes(one.name)) continue;
  const outcomes = await runStory(one, [1, 2]);
  for (const { seed, wrong, report } of outcomes)
    console.log(
      one.name,
      seed,
      wrong.length === 0 ? "ok" : `BAD ${wrong.join(" | ")} ${report.story.slice(-12).join("\n   ")}`,
    );
}
process.exit(0);
