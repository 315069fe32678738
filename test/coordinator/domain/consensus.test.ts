import { describe, expect, it } from "vitest";
import { exactConsensus, notCaughtUp, preflight } from "../../../coordinator/domain/consensus.ts";
import { accept, noObservations, type Observations } from "../../../coordinator/domain/observations.ts";
import type { ClusterState } from "../../../protocol/cluster.ts";
import type { Report } from "../../../protocol/messages.ts";
import { fold, pod, report, say, storeStatus, theMigration, until } from "../../support/story.ts";

const hear = (state: ClusterState, reports: readonly Report[], now = 1_000): Observations =>
  reports.reduce((observations, one) => accept(observations, state, one, now), noObservations);

describe("a report", () => {
  const state = fold(until.ready());
  it("from an unknown Pod is refused", () => {
    expect(() => hear(state, [report("pod-7", { goal: "serve" })])).toThrow(/not in the cluster/);
  });
  it("of an older incarnation is refused, even with a higher sequence", () => {
    const newer = report("pod-0", { goal: "serve", incarnation: 2 });
    const older = report("pod-0", { goal: "serve", incarnation: 1, reportSequence: 99 });
    expect(() => hear(state, [newer, older])).toThrow(/is known/);
  });
  it("that arrives twice is refused the second time", () => {
    const one = report("pod-0", { goal: "serve" });
    expect(() => hear(state, [one, one])).toThrow(/is known/);
  });
});

describe("the first consensus", () => {
  const state = fold(until.ready());
  const migration = theMigration(state);
  const all = [
    report("pod-0", { goal: "serve" }),
    report("pod-100", { goal: "follow" }),
    report("pod-101", { goal: "follow" }),
  ];
  const reasons = (reports: readonly Report[], now = 1_000) =>
    notCaughtUp(state, migration, hear(state, reports), now);

  it("holds when all are within their bounds", () => expect(reasons(all)).toEqual([]));
  it("misses a silent voter", () =>
    expect(reasons(all.slice(0, 2))).toEqual(["pod-101: its agent has not reported"]));
  it("misses a voter that fell silent", () => expect(reasons(all, 60_000)).toHaveLength(3));
  it("says how far behind", () => {
    const lagging = storeStatus("follow", { lag: { amount: 4_200_000, unit: "bytes" } });
    const late = report("pod-101", { goal: "follow", stores: { postgres: lagging } });
    expect(reasons([...all.slice(0, 2), late])).toEqual(["pod-101: WAL 4.2 MB behind, bound 1.0 MB"]);
  });
  it.each([
    ["an unknown lag", storeStatus("follow", { lag: { amount: null, unit: "bytes" } })],
    ["no lag at all", storeStatus("follow", { lag: null })],
    ["an unfinished verification", storeStatus("follow", { verified: false })],
    ["a problem", storeStatus("follow", { problems: [{ code: "MISMATCH", message: "something differs" }] })],
    ["a goal not reached", storeStatus("follow", { reached: false })],
    ["another goal", storeStatus("seed")],
  ])("counts %s as no", (_, status) => {
    const odd = report("pod-101", { goal: "follow", stores: { git: status } });
    expect(reasons([...all.slice(0, 2), odd])).toHaveLength(1);
  });
  it("counts a missing store as no", () => {
    const without = report("pod-101", { goal: "follow" });
    const stores = without.migrations[migration.migrationId]?.stores ?? {};
    delete stores.objects;
    expect(reasons([...all.slice(0, 2), without])).toEqual(["pod-101: objects has not begun"]);
  });
});

describe("the exact consensus", () => {
  const state = fold(until.fencing());
  const migration = theMigration(state);
  const raised = migration.context.fence?.raisedSequence ?? 0;
  const options = { evidenceEpoch: 1, appliedSequence: raised };
  const all = [
    report("pod-0", { goal: "fence", ...options }),
    report("pod-100", { goal: "match", ...options }),
    report("pod-101", { goal: "match", ...options }),
  ];
  const check = (reports: readonly Report[], now = 1_000) =>
    exactConsensus(state, migration, hear(state, reports), now);
  const replacing = (podId: string, changed: Report) =>
    all.map((one) => (one.podId === pod(podId) ? changed : one));

  it("holds when every store of every Pod has the same digest", () => {
    expect(check(all)).toMatchObject({ drained: true, waitingFor: [] });
  });
  it.each(["postgres", "git", "objects"] as const)("fails on a difference in %s", (store) => {
    const other = report("pod-101", { goal: "match", ...options, digests: { [store]: "other" } });
    expect(check(replacing("pod-101", other)).waitingFor).toEqual([expect.stringContaining("differs")]);
  });
  it.each(["postgres", "git", "objects"] as const)("fails without %s", (store) => {
    const without = report("pod-101", { goal: "match", ...options });
    delete without.migrations[migration.migrationId]?.stores?.[store];
    expect(check(replacing("pod-101", without)).waitingFor).toEqual([expect.stringContaining("no report")]);
  });
  it("does not take evidence of another epoch", () => {
    const old = report("pod-101", { goal: "match", ...options, evidenceEpoch: 2 });
    expect(check(replacing("pod-101", old)).waitingFor).not.toEqual([]);
  });
  it("does not take evidence from before the fence was applied", () => {
    const early = report("pod-0", { goal: "fence", evidenceEpoch: 1, appliedSequence: raised - 1 });
    const result = check(replacing("pod-0", early));
    expect(result.drained).toBe(false);
    expect(result.waitingFor).toContain("pod-0: has not applied the fence");
  });
  it("forgets the evidence of an agent that restarted", () => {
    const restarted = report("pod-101", { goal: "match", incarnation: 2, appliedSequence: raised });
    const observations = accept(hear(state, all), state, restarted, 1_000);
    expect(exactConsensus(state, migration, observations, 1_000).waitingFor).not.toEqual([]);
  });
  it("does not take a source that serves for one that is fenced", () => {
    expect(check(replacing("pod-0", report("pod-0", { goal: "serve", ...options }))).drained).toBe(false);
  });
  it("does not count an agent that has been silent, however good its evidence", () => {
    expect(check(all, 6_000).waitingFor).toEqual([]);
    expect(check(all, 6_001)).toMatchObject({
      drained: false,
      waitingFor: ["pod-0", "pod-100", "pod-101"].map(
        (podId) => `${podId}: its agent has been silent for 5 s`,
      ),
    });
  });
  it("misses a target", () => expect(check(all.slice(0, 2)).waitingFor).not.toEqual([]));
});

describe("the checks", () => {
  const state = fold([say.configured(), say.planned(), say.checking()]);
  const migration = theMigration(state);
  const pods = ["pod-0", "pod-100", "pod-101"];
  const checked = (
    findings: NonNullable<Parameters<typeof report>[1]["preflight"]>["findings"],
    at = 1_000,
  ) =>
    pods.map((podId) => report(podId, { goal: "prepare", at, preflight: { stage: "start", at, findings } }));

  it("wait for every participant", () => {
    expect(
      preflight(state, migration, hear(state, checked([]).slice(0, 2)), "start", 1_000).waitingFor,
    ).toHaveLength(1);
  });
  it("do not count when they are older than the request", () => {
    const old = pods.map((podId) =>
      report(podId, {
        goal: "prepare",
        appliedSequence: 1,
        preflight: { stage: "start", at: 1, findings: [] },
      }),
    );
    expect(preflight(state, migration, hear(state, old), "start", 1_000).waitingFor).toHaveLength(3);
  });
  it("find clocks that differ", () => {
    const skewed = hear(state, checked([], 20_000), 1_000);
    expect(
      preflight(state, migration, skewed, "start", 1_000).findings.map((finding) => finding.code),
    ).toEqual(["CLOCK_SKEW", "CLOCK_SKEW", "CLOCK_SKEW"]);
  });
  it("must be recent before the fence", () => {
    const stale = pods.map((podId) =>
      report(podId, { goal: "serve", at: 60_000, preflight: { stage: "fence", at: 1_000, findings: [] } }),
    );
    expect(preflight(state, migration, hear(state, stale, 60_000), "fence", 60_000).waitingFor).toHaveLength(
      3,
    );
  });
});
