import { expect, test } from "vitest";
import { floorOf, promotionOf } from "../../../../examples/quickstart/report/floor.ts";
import { phasesOf } from "../../../../examples/quickstart/report/phases.ts";
import { type Measured, makeReport, renderReport } from "../../../../examples/quickstart/report/report.ts";

const measured: Measured = {
  kind: "split",
  pods: 3,
  organizations: 4,
  movedOrganizations: 1,
  acknowledgedWrites: 10,
  staleReads: 0,
  failedRequests: 0,
  refusedWrites: 3,
  neighbourRefusals: 0,
  windows: [
    {
      organization: "1",
      from: "pod-0",
      to: "pod-100",
      windowMs: 100.04,
      gapMs: 120,
      longestGapMs: 120,
      openedAt: 5,
    },
  ],
  phasesMs: { draining: 10 },
  floorMs: null,
  floorPartsMs: { commitToReplay: null, append: null, promotion: null },
  audit: { lostWrites: 0, duplicatedWrites: 0, checks: [{ name: "a", ok: true, detail: "" }] },
  evidence: [],
  seed: 1,
};

test("a run in which all is well is ok, and its window is told by percentiles", () => {
  const report = makeReport(measured);
  expect(report).toMatchObject({ ok: true, readOnlyMs: { p50: 100, p99: 100, max: 100 }, floorMs: null });
  expect(renderReport(report)).toContain("Nothing was lost.");
});

test.each([
  ["a lost write", { audit: { ...measured.audit, lostWrites: 1 } }],
  ["a duplicated write", { audit: { ...measured.audit, duplicatedWrites: 1 } }],
  ["a failed check", { audit: { ...measured.audit, checks: [{ name: "a", ok: false, detail: "" }] } }],
  ["a stale read", { staleReads: 1 }],
  ["a refused neighbour", { neighbourRefusals: 1 }],
  ["a failed request", { failedRequests: 1 }],
  ["no write at all", { acknowledgedWrites: 0 }],
  ["an organization without a window", { windows: [] }],
] satisfies [string, Partial<Measured>][])("%s is not ok", (_, change) => {
  expect(makeReport({ ...measured, ...change }).ok).toBe(false);
});

test("phases run from record to record, the last of each kind", () => {
  const events = [
    { at: 100, type: "FenceRaised" },
    { at: 500, type: "FenceRaised" },
    { at: 520, type: "SourceDrained" },
    { at: 550, type: "ConsensusReached" },
    { at: 550, type: "AuthorityTransferred" },
    { at: 600, type: "Opened" },
    { at: 650, type: "Opened" },
  ] as const;
  expect(phasesOf(events)).toEqual({ draining: 20, matching: 30, deciding: 0, opening: 100 });
});

test("the floor is the sum of its parts, and unknown when one is", () => {
  expect(floorOf({ commitToReplayMs: 2, appendMs: 1, promotionMs: 100 })).toBe(105);
  expect(floorOf({ commitToReplayMs: 2, appendMs: 1, promotionMs: null })).toBeNull();
});

test("the promotion's time is read from the server's log", () => {
  const log = [
    "2026-01-31 10:00:00.000 UTC [1] LOG:  database system is ready to accept read-only connections",
    "2026-01-31 10:00:01.100 UTC [2] LOG:  received promote request",
    "2026-01-31 10:00:01.150 UTC [2] LOG:  archive recovery complete",
    "2026-01-31 10:00:01.180 UTC [1] LOG:  database system is ready to accept connections",
  ].join("\n");
  expect(promotionOf(log)).toBe(80);
  expect(promotionOf("")).toBeNull();
});
