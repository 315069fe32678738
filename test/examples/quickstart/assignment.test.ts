import { expect, test } from "vitest";
import { assign } from "../../../examples/quickstart/assignment.ts";

const organizations = (...sizes: number[]) => sizes.map((size, i) => ({ id: String(i + 1), size }));

test("the largest two thirds move, and the Pods get about the same", () => {
  const result = assign(organizations(50, 40, 30, 20, 10, 5, 4, 3, 2), ["a", "b"]);
  expect(Object.fromEntries(result)).toEqual({ a: ["1", "4", "5"], b: ["2", "3", "6"] });
});

test("every Pod gets one, also when one organization outweighs all others or weighs nothing", () => {
  expect(
    [...assign(organizations(1000, 0, 0, 0), ["a", "b", "c"]).values()].map((list) => list.length),
  ).toEqual([1, 1, 1]);
});

test("at least one stays; too few organizations are an error", () => {
  const moved = [...assign(organizations(3, 2, 1), ["a", "b"]).values()].flat();
  expect(moved).toHaveLength(2);
  expect(() => assign(organizations(1, 1), ["a", "b"])).toThrow("too few");
});
