/** Every story ends as it says, whatever happens between two of its events. */
import { describe, expect, it } from "vitest";
import { LIFECYCLES } from "../../protocol/migration-machine.ts";
import { graphOfTheMachine } from "../../simulations/coverage/graph.ts";
import { SCENARIOS, scenariosNamed } from "../../simulations/scenarios/all.ts";
import { ENTERED_BY } from "../../simulations/scenarios/story.ts";
import { runJobs } from "./many.ts";

const SEEDS = [1, 2, 3];

describe("stories", () => {
  it("all end as they say", async () => {
    const runs = SCENARIOS.flatMap(({ name, story }) =>
      SEEDS.map((seed) => ({ name, story, job: { seed, scenario: story.scenario() } })),
    );
    const reports = await runJobs(runs.map(({ job }) => job));
    const wrong = runs.flatMap(({ name, story }, i) => {
      const report = reports[i];
      if (report === undefined) return [`${name}: no report`];
      const { seed, verdict, invariant, message } = report;
      const words = verdict === "pass" ? story.unmet(report) : [`${verdict} ${invariant}: ${message}`];
      return words.map((word) => `${name}, seed ${seed}: ${word}\nnpm run simulate -- --scenario ${name}`);
    });
    expect(wrong).toEqual([]);
  }, 240_000);

  it("each state of a migration has one of its name", () => {
    expect(SCENARIOS.map(({ name }) => name)).toEqual(expect.arrayContaining([...LIFECYCLES]));
    expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
  });

  it("a state is entered by the event that the machine says", () => {
    const { reachable, onlyForTotality } = graphOfTheMachine();
    for (const [state, event] of Object.entries(ENTERED_BY)) {
      // A migration begins in its first state: nothing leads there.
      if (state === "planned") continue;
      const ways = [...reachable, ...onlyForTotality].filter(
        ({ from, to }) => to === state && from !== state,
      );
      expect(ways.map((way) => way.event)).toContain(event);
    }
  });

  it("an unknown name is an error that lists all", () => {
    expect(() => scenariosNamed("nothing")).toThrow("there is no scenario nothing; there are all, planned");
  });
});
