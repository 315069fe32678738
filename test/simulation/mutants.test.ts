/** Every mutant still fits the code it changes. That each is caught takes minutes: `npm run simulate -- --mutants`. */
import { expect, it } from "vitest";
import { MUTANTS } from "../../simulations/mutants/all.ts";
import { applyEdit, checkMutant } from "../../simulations/mutants/mutant.ts";

it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))("%s fits", (_name, mutant) => {
  checkMutant(mutant);
});

it("names are unique, and there are enough", () => {
  expect(new Set(MUTANTS.map((mutant) => mutant.name)).size).toBe(MUTANTS.length);
  expect(MUTANTS.length).toBeGreaterThanOrEqual(25);
});

it("an edit that does not fit, or fits twice, is an error", () => {
  const edit = { file: "a.ts", find: "x", replace: "y" };
  expect(applyEdit("a x b", edit, "m")).toBe("a y b");
  expect(() => applyEdit("a b", edit, "m")).toThrow("found 0 times");
  expect(() => applyEdit("x x", edit, "m")).toThrow("found 2 times");
});
