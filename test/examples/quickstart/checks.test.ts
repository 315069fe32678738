import { expect, test } from "vitest";
import { countsOf } from "../../../scripts/checks.mjs";

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((result) => ({ status: result })),
});

test("tests are counted", () => {
  const results = {
    numPassedTests: 3,
    numFailedTests: 1,
    numPendingTests: 2,
    numTodoTests: 1,
    testResults: [],
  };
  expect(countsOf(results, 1)).toEqual({ passed: 3, failed: 1, skipped: 3 });
});

test("a file that could not be loaded counts as one failure beside the failed tests of others", () => {
  const results = {
    numPassedTests: 1,
    numFailedTests: 1,
    testResults: [file("failed"), file("failed", "failed", "passed")],
  };
  expect(countsOf(results, 1)).toMatchObject({ passed: 1, failed: 2 });
});

test("a run that fails without a failed test has failed", () => {
  expect(countsOf({ numPassedTests: 5, testResults: [] }, 1).failed).toBe(1);
  expect(countsOf(null, 1).failed).toBe(1);
});
