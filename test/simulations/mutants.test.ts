/** Every mutant still fits the code it changes. That each is caught takes minutes: `npm run simulate -- --mutants`. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { MUTANTS } from "../../simulations/mutants/all.ts";
import { applyEdit, checkMutant } from "../../simulations/mutants/mutant.ts";
import { STORE_HUNTS } from "../../simulations/mutants/on-servers/all.ts";

it.each([...MUTANTS, ...STORE_HUNTS].map((mutant) => [mutant.name, mutant] as const))(
  "%s fits",
  (_name, mutant) => {
    checkMutant(mutant);
  },
);

it("names are unique, and there are enough", () => {
  expect(new Set(MUTANTS.map((mutant) => mutant.name)).size).toBe(MUTANTS.length);
  expect(MUTANTS.length).toBeGreaterThanOrEqual(25);
});

it("each has its row in docs/simulation.md, and no row is of one that is gone", () => {
  const page = readFileSync(new URL("../../docs/simulation.md", import.meta.url), "utf8");
  const hunted = page.slice(page.indexOf("### On real servers"), page.indexOf("## What was found"));
  for (const { name } of STORE_HUNTS) expect(hunted).toContain(`\`${name}\``);
  const table = page.slice(page.indexOf("## Mutants"), page.indexOf("### On real servers"));
  const rows = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name);
  expect(rows.sort()).toEqual(MUTANTS.map(({ name }) => name).sort());
});

it("an edit that does not fit, or fits twice, is an error", () => {
  const edit = { file: "a.ts", find: "x", replace: "y" };
  expect(applyEdit("a x b", edit, "m")).toBe("a y b");
  expect(() => applyEdit("a b", edit, "m")).toThrow("found 0 times");
  expect(() => applyEdit("x x", edit, "m")).toThrow("found 2 times");
});
