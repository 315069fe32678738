/**
 * Before every test file: a RegExp where a text stands is an error of the test. `toMatchObject` takes it for an object
 * without properties, which everything has; `not.toEqual` and its like never find it. The linter sees the ones that
 * are written in place, this the ones that are held elsewhere.
 */
import { expect } from "vitest";

expect.addEqualityTesters([
  (one, other) => {
    if (!(one instanceof RegExp) && !(other instanceof RegExp)) return undefined;
    if (one instanceof RegExp && other instanceof RegExp) return String(one) === String(other);
    throw new Error("a RegExp equals no text; use expect.stringMatching(…)");
  },
]);
