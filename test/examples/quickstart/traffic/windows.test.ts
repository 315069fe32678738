import { expect, test } from "vitest";
import type { LedgerEntry } from "../../../../examples/quickstart/traffic/ledger.ts";
import { percentile, windowsOf } from "../../../../examples/quickstart/traffic/windows.ts";

const write = (
  sentAt: number,
  endedAt: number,
  podId: string,
  more: Partial<LedgerEntry> = {},
): LedgerEntry => ({
  kind: "issue",
  organization: "1",
  key: `k${sentAt}`,
  revision: 1,
  state: "x",
  outcome: "acknowledged",
  sentAt,
  endedAt,
  podId,
  ...more,
});
const assignments = new Map([["1", "pod-100"]]);
const windows = (entries: LedgerEntry[]) => windowsOf(entries, "pod-0", assignments);

test("the window runs from the first write that waited to the first answer of the new Pod", () => {
  const [window] = windows([
    write(100, 104, "pod-0"),
    write(150, 900, "pod-100"),
    write(200, 903, "pod-100"),
    write(910, 914, "pod-100"),
  ]);
  expect(window).toMatchObject({ windowMs: 750, gapMs: 796, longestGapMs: 796, openedAt: 900 });
});

test("a write that the source still finished after the fence does not shorten the window", () => {
  const [window] = windows([
    write(100, 104, "pod-0"),
    write(120, 600, "pod-0", { long: true }),
    write(150, 900, "pod-100"),
  ]);
  expect(window?.windowMs).toBe(750);
});

test("a transaction kept open on purpose does not lengthen the window", () => {
  const [window] = windows([
    write(100, 104, "pod-0"),
    write(101, 905, "pod-100", { long: true }),
    write(150, 900, "pod-100"),
  ]);
  expect(window?.windowMs).toBe(750);
});

test("where no ordinary write crossed the window the whole gap counts", () => {
  const [window] = windows([write(100, 104, "pod-0"), write(101, 905, "pod-100", { long: true })]);
  expect(window?.windowMs).toBe(801);
});

test("organizations that did not move, unanswered writes and answers without a Pod are left out", () => {
  expect(
    windows([
      write(100, 104, "pod-0"),
      write(150, 900, "pod-100", { outcome: "ambiguous" }),
      write(150, 900, "pod-100", { organization: "2" }),
    ]),
  ).toEqual([]);
});

test("percentiles are the nearest rank", () => {
  expect(percentile([], 0.5)).toBeNull();
  expect(percentile([5], 0.99)).toBe(5);
  expect(percentile([4, 1, 3, 2], 0.5)).toBe(2);
  expect(percentile([4, 1, 3, 2], 0.99)).toBe(4);
});
