/** To the very end on real servers, with every process killed while what is dormant is removed. */
import { afterEach, expect, it } from "vitest";
import { Saboteur } from "../support/saboteur.ts";
import { smallLifecycle } from "../support/small-split.ts";

/** In the middle of the files, of the rows, and of what comes between. */
const KILLS = [
  ["agent-pod-0", 30],
  ["agent-pod-100", 250],
  ["agent-pod-101", 600],
  ["coordinator", 400],
] as const;

let saboteur: Saboteur | undefined;
afterEach(async () => await saboteur?.stop());

it("what is dormant is removed although every process is killed meanwhile, and one organization goes back", async () => {
  let history = "";
  const report = await smallLifecycle({
    options: { rows: 8_000, seed: 11 },
    beforeSplit: async ({ layout, processes }) => {
      const kills = KILLS.map(([name, delayMs]) => ({ name, at: "cleaning" as const, delayMs }));
      saboteur = new Saboteur(layout, processes, kills);
      await saboteur.start();
    },
    afterwards: async (coordinator) => {
      history = await coordinator.cleave("history", "demo-split");
    },
  });
  expect(saboteur?.killed.map(({ name, at }) => [name, at]).sort()).toEqual(
    KILLS.map(([name]) => [name, "cleaning"]).sort(),
  );
  const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
  expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual({
    lostWrites: 0,
    duplicatedWrites: 0,
    staleReads: 0,
    failedRequests: 0,
  });
  expect(history).toContain("nothing dormant is left → completed");
}, 240_000);
