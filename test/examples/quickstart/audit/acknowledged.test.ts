import { expect, test } from "vitest";
import { compare } from "../../../../examples/quickstart/audit/acknowledged.ts";
import { expectations, type LedgerEntry, ledgerKey } from "../../../../examples/quickstart/traffic/ledger.ts";

const entry = (
  key: string,
  revision: number,
  state: string | null,
  outcome: LedgerEntry["outcome"] = "acknowledged",
): LedgerEntry => ({
  kind: "issue",
  organization: "1",
  key,
  revision,
  state,
  outcome,
  sentAt: 0,
  endedAt: 0,
  podId: "pod-0",
});
const id = (key: string) => ledgerKey({ kind: "issue", organization: "1", key });
const check = (entries: LedgerEntry[], found: Record<string, string[]>) =>
  compare(
    expectations(entries),
    new Map(Object.entries(found).map(([key, states]) => [id(key), states] as const)),
  );

test("what was acknowledged and is there is well", () => {
  const entries = [entry("a", 1, "x"), entry("a", 2, "y"), entry("b", 1, "z"), entry("b", 2, null)];
  expect(check(entries, { a: ["y"] })).toEqual({ lost: [], duplicated: [], unknown: [] });
});

test("a missing, an outdated and an undeleted key are lost writes", () => {
  expect(check([entry("a", 1, "x")], {}).lost).toHaveLength(1);
  expect(check([entry("a", 1, "x"), entry("a", 2, "y")], { a: ["x"] }).lost).toHaveLength(1);
  expect(check([entry("a", 1, "x"), entry("a", 2, null)], { a: ["x"] }).lost).toHaveLength(1);
});

test("a key that exists twice is duplicated, although its state is right", () => {
  expect(check([entry("a", 1, "x")], { a: ["x", "x"] })).toMatchObject({
    lost: [],
    duplicated: [expect.stringContaining("2 times")],
  });
});

test("a write without an answer may hold or not, and nothing else may", () => {
  const entries = [entry("a", 1, "x"), entry("a", 2, "y", "ambiguous")];
  expect(check(entries, { a: ["x"] }).lost).toEqual([]);
  expect(check(entries, { a: ["y"] }).lost).toEqual([]);
  expect(check(entries, {}).lost).toHaveLength(1);
  expect(check([entry("b", 1, "x", "ambiguous")], {}).lost).toEqual([]);
});

test("what no client sent is told", () => {
  expect(check([], { a: ["x"] }).unknown).toEqual([id("a")]);
});
