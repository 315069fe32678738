import { describe, expect, it } from "vitest";
import { goalOf } from "../../../agent/domain/react.ts";
import { mayRemove } from "../../../agent/domain/removal.ts";
import { type Command, decideCommand, decidePlan } from "../../../coordinator/domain/commands.ts";
import { decideNext, nextDeadlineAt } from "../../../coordinator/domain/decide.ts";
import { accept, noObservations, type Observations } from "../../../coordinator/domain/observations.ts";
import { waitingFor } from "../../../coordinator/domain/status.ts";
import { digestOf, encodeAssignments } from "../../../protocol/assignments.ts";
import type { ClusterState } from "../../../protocol/cluster.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import type { Finding, Goal } from "../../../protocol/evidence.ts";
import type { Digest, MigrationId } from "../../../protocol/ids.ts";
import type { Report } from "../../../protocol/messages.ts";
import { Plan, Settings } from "../../../protocol/plan.ts";
import {
  assignmentsOf,
  fold,
  migrationId,
  org,
  pod,
  report,
  say,
  theMigration,
  until,
} from "../../support/story.ts";

const types = (events: readonly { type: string }[]) => events.map((event) => event.type);
const hear = (state: ClusterState, reports: readonly Report[], now = 1_000): Observations =>
  reports.reduce((observations, one) => accept(observations, state, one, now), noObservations);
const refusedBy = (code: string) => expect.objectContaining({ code });
const command = (state: ClusterState, wanted: Command) =>
  decideCommand(state, migrationId, wanted, assignmentsOf);

/** Where each Pod is, with what it found before a removal. */
function reports(goals: readonly [Goal, Goal, Goal], findings: readonly Finding[] | null = []): Report[] {
  const preflight = findings && { stage: "removal" as const, at: 1_000, findings: [...findings] };
  return ["pod-0", "pod-100", "pod-101"].map((podId, i) =>
    report(podId, { goal: goals[i] as Goal, preflight }),
  );
}
const retained = ["yield", "open", "open"] as const;

const error: Finding = {
  store: "postgres",
  severity: "error",
  code: "REMOVAL_REFERENCED",
  message: "a row of another organization refers to one of these",
};

/** Another migration of organization 1, from where it lives now. */
const onward: ClusterEvent = {
  type: "MovePlanned",
  v: 2,
  migrationId: "move-2" as MigrationId,
  sourcePodId: pod("pod-100"),
  targetPodId: pod("pod-101"),
  assignments: {
    digest: digestOf(encodeAssignments(new Map([[org("1"), pod("pod-101")]]))),
    organizations: 1,
  },
  settings: Settings.parse({}),
};
const allAssignments = (digest: Digest) =>
  digest === (onward as { assignments: { digest: Digest } }).assignments.digest
    ? new Map([[org("1"), pod("pod-101")]])
    : assignmentsOf(digest);

describe("given a migration that retains", () => {
  const retaining = fold(until.retaining());

  it("waits for an operator, whatever the time, and says so", () => {
    expect(decideNext(retaining, hear(retaining, reports(retained)), 1e12)).toEqual([]);
    expect(waitingFor(retaining, theMigration(retaining), noObservations, 1_000)[0]).toMatch(/^an operator/);
  });

  it("a dry run says what would be removed and changes nothing", () => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: true }), retaining);
    const events = decideNext(asked, hear(asked, reports(retained)), 1_000);
    expect(types(events)).toEqual(["RemovalChecked"]);
    const after = fold(events, asked);
    expect(theMigration(after)).toMatchObject({ lifecycle: "retaining" });
    expect(decideNext(after, hear(after, reports(retained)), 1_000)).toEqual([]);
  });

  it("is cleaned after finalize, when nothing speaks against it", () => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: false }), retaining);
    const events = decideNext(asked, hear(asked, reports(retained)), 1_000);
    expect(types(events)).toEqual(["RetentionEnded"]);
    expect(theMigration(fold(events, asked)).lifecycle).toBe("cleaning");
  });

  it("goes on retaining when a check finds an error", () => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: false }), retaining);
    const events = decideNext(asked, hear(asked, reports(retained, [error])), 1_000);
    expect(types(events)).toEqual(["RemovalChecked"]);
    expect(theMigration(fold(events, asked))).toMatchObject({
      lifecycle: "retaining",
      context: { findings: reports(retained).map(() => expect.objectContaining({ code: error.code })) },
    });
  });

  it.each([
    ["a silent Pod", reports(retained).slice(0, 2)],
    ["a Pod that has not looked", reports(retained, null)],
    ["a source that is not dormant yet", reports(["fence", "open", "open"])],
    ["a target that is not open yet", reports(["yield", "activate", "open"])],
  ])("waits for %s before it ends", (_, heard) => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: false }), retaining);
    expect(decideNext(asked, hear(asked, heard), 1_000)).toEqual([]);
  });

  it("does not take findings from before they were asked for", () => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: false }), retaining);
    const old = reports(retained).map((one) => ({ ...one, appliedSequence: asked.sequence - 1 }));
    expect(decideNext(asked, hear(asked, old), 1_000)).toEqual([]);
  });

  it("asked twice has the effect of once, and a dry run does not hold an end up", () => {
    const asked = fold(command(retaining, { type: "finalize", dryRun: false }), retaining);
    expect(command(asked, { type: "finalize", dryRun: false })).toEqual([]);
    expect(command(asked, { type: "finalize", dryRun: true })).toEqual([]);
    const dry = fold(command(retaining, { type: "finalize", dryRun: true }), retaining);
    expect(types(command(dry, { type: "finalize", dryRun: false }))).toEqual(["RemovalCheckStarted"]);
  });

  it("cannot be finalized while another migration claims one of its organizations", () => {
    const both = fold([onward], retaining);
    expect(() =>
      decideCommand(both, migrationId, { type: "finalize", dryRun: false }, allAssignments),
    ).toThrow(refusedBy("ORGANIZATION_CLAIMED"));
  });

  it("a revoked share's replica is not waited for", () => {
    const revoked = fold([...until.activating(), say.opened("pod-100"), say.revoked("pod-101")]);
    const asked = fold(command(revoked, { type: "finalize", dryRun: false }), revoked);
    const events = decideNext(asked, hear(asked, reports(retained).slice(0, 2)), 1_000);
    expect(types(events)).toEqual(["RetentionEnded"]);
    const cleaning = theMigration(fold(events, asked));
    expect(goalOf(cleaning, pod("pod-101"))).toBeNull();
  });
});

describe("given a plan with a retention time", () => {
  const settings = { retention: { forMs: 60_000 } };
  const path = [say.configured(), say.planned(settings), ...until.retaining().slice(2)];

  it("ends by itself, once", () => {
    const state = fold(path);
    expect(nextDeadlineAt(state, noObservations)).toBe(61_000);
    expect(decideNext(state, noObservations, 60_999)).toEqual([]);
    const events = decideNext(state, noObservations, 61_000);
    expect(events).toMatchObject([{ type: "RemovalCheckStarted", end: true }]);
    const asked = fold(events, state);
    const refused = fold(decideNext(asked, hear(asked, reports(retained, [error])), 1_000), asked);
    expect(decideNext(refused, noObservations, 1e9)).toEqual([]);
    expect(nextDeadlineAt(refused, noObservations)).toBeNull();
  });

  it("does not end while it is paused", () => {
    const paused = fold([...path, say.paused()]);
    expect(decideNext(paused, noObservations, 1e9)).toEqual([]);
    expect(nextDeadlineAt(paused, noObservations)).toBeNull();
    expect(types(decideNext(fold([say.resumed()], paused), noObservations, 1e9))).toEqual([
      "RemovalCheckStarted",
    ]);
  });
});

describe("given a migration that cleans", () => {
  const cleaning = fold(until.cleaning());

  it("removes files everywhere, then rows everywhere, and is then completed", () => {
    const files = ["removeFiles", "removeFiles", "removeFiles"] as const;
    const rows = ["removeRows", "removeRows", "removeRows"] as const;
    expect(decideNext(cleaning, hear(cleaning, reports(retained, null)), 1_000)).toEqual([]);
    const mixed = reports(["removeFiles", "removeFiles", "open"], null);
    expect(decideNext(cleaning, hear(cleaning, mixed), 1_000)).toEqual([]);
    const first = decideNext(cleaning, hear(cleaning, reports(files, null)), 1_000);
    expect(types(first)).toEqual(["FilesRemoved"]);
    const next = fold(first, cleaning);
    expect(decideNext(next, hear(next, reports(files, null)), 1_000)).toEqual([]);
    const last = decideNext(next, hear(next, reports(rows, null)), 1_000);
    expect(types(last)).toEqual(["RowsRemoved"]);
    expect(theMigration(fold(last, next)).lifecycle).toBe("completed");
  });

  it("may remove what lives elsewhere and nothing that lives here", () => {
    const may = (podId: string, id: string) =>
      mayRemove(cleaning, migrationId, pod(podId), org(id), assignmentsOf);
    expect([may("pod-0", "1"), may("pod-0", "2")]).toEqual([true, true]);
    expect([may("pod-100", "1"), may("pod-100", "2")]).toEqual([false, true]);
    // Not named by the plan: it stayed on the source.
    expect([may("pod-0", "9"), may("pod-100", "9")]).toEqual([false, true]);
  });

  it("may remove nothing before the retention has ended, after it is completed, or while it is paused", () => {
    for (const state of [
      fold(until.retaining()),
      fold([...until.cleaning(), say.paused()]),
      fold([...until.cleaning(), say.filesRemoved(), say.rowsRemoved()]),
    ])
      expect(mayRemove(state, migrationId, pod("pod-0"), org("1"), assignmentsOf)).toBe(false);
    const resumed = fold([...until.cleaning(), say.paused(), say.resumed()]);
    expect(mayRemove(resumed, migrationId, pod("pod-0"), org("1"), assignmentsOf)).toBe(true);
  });

  it("may not remove what another live migration claims", () => {
    const claimed = fold([onward], cleaning);
    expect(mayRemove(claimed, migrationId, pod("pod-0"), org("1"), allAssignments)).toBe(false);
    expect(mayRemove(claimed, migrationId, pod("pod-0"), org("2"), allAssignments)).toBe(true);
  });

  it("lets no other migration come to its Pods", () => {
    const plan = Plan.parse({
      migration: "move-2",
      kind: "move",
      source: "pod-100",
      assignments: [{ pod: "pod-0", organizations: ["1"] }],
    });
    const back = new Map([[org("1"), pod("pod-0")]]);
    const planned = (state: ClusterState) =>
      decidePlan(state, plan, back, "0".repeat(64) as Digest, assignmentsOf);
    expect(() => planned(cleaning)).toThrow(refusedBy("POD_BUSY"));
    const completed = fold([say.filesRemoved(), say.rowsRemoved()], cleaning);
    expect(types(planned(completed))).toEqual(["MovePlanned"]);
  });

  it("paused, removes nothing and keeps every Pod as it was", () => {
    const paused = theMigration(fold([...until.cleaning(), say.paused()]));
    expect([goalOf(paused, pod("pod-0")), goalOf(paused, pod("pod-100"))]).toEqual(["yield", "open"]);
  });
});

describe("a pause", () => {
  it("holds a cutover that is due, and is refused while a fence is up", () => {
    const ready = fold([...until.ready({ cutover: { approval: "auto" } }), say.paused()]);
    const checks = { stage: "fence" as const, at: 1_000, findings: [] };
    const level = (["serve", "follow", "follow"] as const).map((goal, i) =>
      report(["pod-0", "pod-100", "pod-101"][i] as string, { goal, preflight: checks }),
    );
    expect(decideNext(ready, hear(ready, level), 1_000)).toEqual([]);
    const resumed = fold(command(ready, { type: "resume" }), ready);
    expect(types(decideNext(resumed, hear(resumed, level), 1_000))).toEqual(["FenceRaised"]);
    const fenced = fold(until.fencing());
    expect(() => command(fenced, { type: "pause", reason: "x" })).toThrow(refusedBy("COMMAND_NOT_POSSIBLE"));
  });
});
