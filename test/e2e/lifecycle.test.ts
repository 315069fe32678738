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

const saboteurs: Saboteur[] = [];
afterEach(async () => {
  for (const saboteur of saboteurs.splice(0)) await saboteur.stop();
});

it("what is dormant is removed although every process is killed meanwhile, and one organization goes back", async () => {
  let history = "";
  const report = await smallLifecycle({
    options: { rows: 8_000, seed: 11 },
    beforeSplit: async ({ layout, processes }) => {
      for (const [name, delayMs] of KILLS) {
        const saboteur = new Saboteur(layout, processes, name, [{ at: "cleaning", delayMs }]);
        saboteurs.push(saboteur);
        await saboteur.start();
      }
    },
    afterwards: async (coordinator) => {
      history = await coordinator.cleave("history", "demo-split");
    },
  });
  expect(saboteurs.map(({ killedAt }) => killedAt)).toEqual(KILLS.map(() => ["cleaning"]));
  const { lostWrites, duplicatedWrites, staleReads, failedRequests } = report;
  expect({ lostWrites, duplicatedWrites, staleReads, failedRequests }).toEqual({
    lostWrites: 0,
    duplicatedWrites: 0,
    staleReads: 0,
    failedRequests: 0,
  });
  expect(history).toContain("nothing dormant is left → completed");
}, 240_000);
