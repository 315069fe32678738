/** What the database names against what is there. */
import { expect, it } from "vitest";
import { namedAndMissing } from "../../../../../agent/stores/git/verification/named-repositories.ts";

const warn = { missing: "warn" as const, acceptMissing: [] as string[] };
const named = Array.from({ length: 14 }, (_, number) => `red/${number}.git`);

it("missing ones are named, the first ten and how many more; the configuration says how bad that is", () => {
  expect(namedAndMissing(named, new Set(named), warn)).toEqual([]);
  const [found] = namedAndMissing(named, new Set(["red/0.git"]), warn);
  expect(found).toMatchObject({ code: "REPOSITORY_MISSING", severity: "warning" });
  expect(found?.message).toContain('13 repositories ("red/1.git"');
  expect(found?.message).toContain('"red/10.git" and 3 more');
  expect(
    namedAndMissing(named, new Set(["red/0.git"]), { ...warn, missing: "refuse" as const }),
  ).toMatchObject([{ severity: "error" }]);
});

it("those that are accepted by name are not asked for", () => {
  const accepting = { ...warn, acceptMissing: ["red/1*.git"] };
  expect(namedAndMissing(named, new Set(named.slice(0, 10)), accepting)).toEqual([]);
});

it("when none is there, it is another disk than the database's", () => {
  expect(namedAndMissing(named, new Set(["blue/1.git"]), warn)).toMatchObject([{ severity: "error" }]);
});
