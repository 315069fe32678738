import { describe, expect, it } from "vitest";
import { decideAccess } from "../../../agent/domain/guard.ts";
import { dutiesOf } from "../../../agent/domain/react.ts";
import { mayRemove } from "../../../agent/domain/removal.ts";
import { decideCommand, decidePlan, possibleCommands } from "../../../coordinator/domain/commands.ts";
import { reverseReplicationBehind } from "../../../coordinator/domain/consensus.ts";
import { decideNext, nextDeadlineAt } from "../../../coordinator/domain/decide.ts";
import { accept, noObservations, type Observations } from "../../../coordinator/domain/observations.ts";
import { decideRollback, findRollback, type RollbackRequest } from "../../../coordinator/domain/rollback.ts";
import { digestOf, encodeAssignments } from "../../../protocol/assignments.ts";
import { type ClusterState, routeOf } from "../../../protocol/cluster.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import type { ReverseReplicationStatus, StoreStatus } from "../../../protocol/evidence.ts";
import type { Digest, MigrationId } from "../../../protocol/ids.ts";
import type { Report } from "../../../protocol/messages.ts";
import { Plan } from "../../../protocol/plan.ts";
import {
  assignmentsOf as assignmentsOfSplit,
  epoch,
  fold,
  migrationId,
  org,
  pod,
  report,
  STORES,
  say,
  storeStatus,
  until,
  version,
} from "../../support/story.ts";

const back = "split-1-back-1" as MigrationId;
const home = new Map([[org("1"), pod("pod-0")]]);
const homeDigest = digestOf(encodeAssignments(home));
const assignmentsOf = (digest: Digest) => (digest === homeDigest ? home : assignmentsOfSplit(digest));
const types = (events: readonly { type: string }[]) => events.map((event) => event.type);
const refusedBy = (code: string) => expect.objectContaining({ code });
const replicated = { retention: { reverseReplication: "replicated" } };

const request: RollbackRequest = {
  of: migrationId,
  as: null,
  organizations: null,
  podId: pod("pod-100"),
  approval: "auto",
  acceptLoss: null,
};
const opened = [say.opened("pod-100"), say.opened("pod-101")];
const toRetaining = (settings = {}) => [
  ...until.ready({ ...replicated, ...settings }),
  say.approved(),
  say.fenced(),
  say.drained(),
  say.matched(),
  say.transferred(),
  ...opened,
];
const retaining = fold(toRetaining());
const find = (state: ClusterState, wanted: Partial<RollbackRequest> = {}) =>
  findRollback(state, { ...request, ...wanted }, assignmentsOf);
const plan = (state: ClusterState, wanted: Partial<RollbackRequest> = {}) =>
  decideRollback(state, { ...request, ...wanted }, homeDigest, assignmentsOf);

/** The rollback's own events, from its plan on. */
const of = { v: 1 as const, migrationId: back };
const fenceBack: ClusterEvent[] = [
  { type: "PreflightPassed", ...of, findings: [] },
  { type: "SeedingCompleted", ...of },
  { type: "ReplicasCaughtUp", ...of },
  { type: "FenceRaised", ...of, epoch: epoch(2), deadlineAt: 100_000 },
];
const transferBack: ClusterEvent[] = [
  { type: "ConsensusReached", ...of, epoch: epoch(2), evidence: {} },
  { type: "AuthorityTransferred", ...of, epoch: epoch(2), routeVersion: version(2) },
];
const openBack: ClusterEvent = { type: "Opened", ...of, epoch: epoch(2), podId: pod("pod-0") };
const drainedBack: ClusterEvent = { type: "SourceDrained", ...of, epoch: epoch(2) };
const planned = fold(plan(retaining), retaining);
const transferred = fold([...fenceBack, drainedBack, ...transferBack], planned);
const rolledBack = fold([openBack], transferred);
const removalOfRollback: ClusterEvent[] = [
  { type: "RemovalCheckStarted", ...of, v: 2, end: true },
  { type: "RetentionEnded", ...of, findings: [] },
];
const over = fold(
  [...removalOfRollback, { type: "FilesRemoved", ...of }, { type: "RowsRemoved", ...of }],
  rolledBack,
);

const level: ReverseReplicationStatus = { lag: { amount: 0, unit: "bytes" }, verified: true, problem: null };
function hear(state: ClusterState, way: Partial<ReverseReplicationStatus> = {}): Observations {
  const stores = Object.fromEntries(
    STORES.map((store): [string, StoreStatus] => [
      store,
      storeStatus("yield", {
        reverseReplication: {
          "pod-100": { ...level, ...way },
          "pod-101": level,
        } as StoreStatus["reverseReplication"] & object,
      }),
    ]),
  );
  const found = { stage: "removal" as const, at: 1_000, findings: [] };
  const reports: Report[] = [
    report("pod-0", { goal: "yield", stores, preflight: found }),
    report("pod-100", { goal: "open", preflight: found }),
    report("pod-101", { goal: "open", preflight: found }),
  ];
  return reports.reduce((heard, one) => accept(heard, state, one, 1_000), noObservations);
}

describe("given a split that retains with reverse replication", () => {
  it("a rollback is a migration of its own from the new Pod to the source, checked and started at once", () => {
    const events = plan(retaining);
    expect(types(events)).toEqual(["RollbackPlanned", "PreflightStarted"]);
    expect(planned.migrations[back]).toMatchObject({
      kind: "rollback",
      of: migrationId,
      lifecycle: "preflight",
      sourcePodId: "pod-100",
      settings: { retention: { reverseReplication: "none" }, cutover: { approval: "auto" } },
    });
    expect(possibleCommands(retaining.migrations[migrationId] as never)).toContain("rollback");
  });

  it("what goes back may be named; by itself it is all that the Pod took over and still has", () => {
    expect(find(retaining).assignments).toEqual(home);
    expect(find(retaining, { podId: null, organizations: [org("1")] }).sourcePodId).toBe("pod-100");
    expect(find(retaining, { as: "home" as MigrationId }).migrationId).toBe("home");
  });

  it.each([
    ["an organization that is not part of it", { organizations: [org("77")] }, "PLAN_UNKNOWN_ORGANIZATION"],
    ["organizations of two Pods", { podId: null, organizations: [org("1"), org("2")] }, "PLAN_INVALID"],
    ["no Pod where there are two", { podId: null }, "PLAN_INVALID"],
    ["another Pod's organization", { organizations: [org("2")] }, "PLAN_NOT_ON_SOURCE"],
    ["a Pod that took nothing over", { podId: pod("pod-0") }, "COMMAND_NOT_POSSIBLE"],
    ["a migration that nobody knows", { of: "nothing" as MigrationId }, "MIGRATION_UNKNOWN"],
  ])("refuses %s", (_, wanted, code) => {
    expect(() => find(retaining, wanted)).toThrow(refusedBy(code));
  });

  it("refuses before all have opened, while paused, and after the retention", () => {
    const activating = fold(toRetaining().slice(0, -1));
    expect(() => find(activating)).toThrow(refusedBy("COMMAND_NOT_POSSIBLE"));
    expect(() => find(fold([say.paused()], retaining))).toThrow(refusedBy("COMMAND_NOT_POSSIBLE"));
    expect(() => find(fold([say.removalChecking()], retaining))).toThrow(refusedBy("COMMAND_NOT_POSSIBLE"));
    const cleaning = fold([say.removalChecking(), say.retentionEnded()], retaining);
    expect(() => find(cleaning)).toThrow(refusedBy("ROLLBACK_TOO_LATE"));
  });

  it("refuses without reverse replication: none planned, or given up; accepting the loss is another matter", () => {
    const without = fold(toRetaining({ retention: { reverseReplication: "none" } }));
    expect(() => find(without)).toThrow(refusedBy("REVERSE_REPLICATION_GONE"));
    const command = { type: "giveUp", podId: pod("pod-100"), reason: "its disk" } as const;
    const events = decideCommand(retaining, migrationId, command, assignmentsOf);
    const given = fold(events, retaining);
    expect(types(events)).toEqual(["ReverseReplicationGivenUp"]);
    expect(() => find(given)).toThrow(refusedBy("REVERSE_REPLICATION_GONE"));
    expect(decideCommand(given, migrationId, command, assignmentsOf)).toEqual([]);
    expect(types(plan(given, { acceptLoss: "burnt down" }))).toEqual(["RollbackPlanned", "TransferForced"]);
    expect(() => find(given, { podId: pod("pod-101"), organizations: [org("2")] })).not.toThrow();
  });

  it("refuses a second one of the same, and whatever else claims its organizations", () => {
    expect(() => find(planned)).toThrow(refusedBy("ORGANIZATION_CLAIMED"));
    const onward = Plan.parse({
      migration: "move-2",
      kind: "move",
      source: "pod-100",
      assignments: [{ pod: "pod-101", organizations: ["1"] }],
    });
    const to = new Map([[org("1"), pod("pod-101")]]);
    const digest = digestOf(encodeAssignments(to));
    const known = (wanted: Digest) => (wanted === digest ? to : assignmentsOf(wanted));
    expect(() => decidePlan(planned, onward, to, digest, known)).toThrow(refusedBy("POD_BUSY"));
  });

  it("a rollback cannot be rolled back", () => {
    expect(() => find(rolledBack, { of: back })).toThrow(refusedBy("COMMAND_NOT_POSSIBLE"));
  });
});

describe("given a rollback", () => {
  it("the source's duty for the split names it, with its phase, until it is over", () => {
    const duty = (state: ClusterState, self: string) =>
      dutiesOf(state, pod(self), assignmentsOf, new Set()).find((one) => one.migrationId === migrationId);
    expect(duty(planned, "pod-0")?.rollbacks).toEqual([]);
    expect(duty(planned, "pod-0")?.reverseReplication).toEqual(["pod-100", "pod-101"]);
    expect(duty(transferred, "pod-0")?.rollbacks).toMatchObject([
      { migrationId: back, podId: "pod-100", phase: "transferred" },
    ]);
    expect(duty(over, "pod-0")?.rollbacks).toMatchObject([{ phase: "opened" }]);
    const revoked: ClusterEvent = {
      type: "TransferRevoked",
      ...of,
      podId: pod("pod-0"),
      routeVersion: version(3),
      reason: "late",
    };
    expect(duty(fold([revoked], transferred), "pod-0")?.rollbacks).toEqual([]);
    expect(
      duty(fold([{ type: "MigrationAborted", ...of, reason: "no" }], planned), "pod-0")?.rollbacks,
    ).toEqual([]);
  });

  it("guards follow the route at every step, also when it is over and the split still retains", () => {
    const ask = (state: ClusterState, self: string) =>
      decideAccess(
        state,
        { self: pod(self), openedHere: () => true, leaseValid: true, now: 1_000 },
        { organizationId: org("1"), write: true },
        assignmentsOf,
      );
    expect(ask(planned, "pod-100")).toEqual({ outcome: "allow" });
    expect(ask(fold(fenceBack, planned), "pod-100")).toMatchObject({ outcome: "fenced" });
    expect(ask(transferred, "pod-0")).toEqual({ outcome: "opening" });
    for (const state of [rolledBack, over]) {
      expect(ask(state, "pod-0")).toEqual({ outcome: "allow" });
      expect(ask(state, "pod-100")).toEqual({ outcome: "wrongPod", podId: "pod-0" });
      expect(ask(state, "pod-101")).toEqual({ outcome: "wrongPod", podId: "pod-0" });
      expect(routeOf(state, org("1"), assignmentsOf)?.podId).toBe("pod-0");
    }
  });

  it("removes what it left on the new Pod itself, and the split waits for that", () => {
    const finalize = { type: "finalize", dryRun: false } as const;
    expect(() => decideCommand(rolledBack, migrationId, finalize, assignmentsOf)).toThrow(
      refusedBy("ORGANIZATION_CLAIMED"),
    );
    expect(types(decideCommand(rolledBack, back, finalize, assignmentsOf))).toEqual(["RemovalCheckStarted"]);
    const cleaning = fold(removalOfRollback, rolledBack);
    expect(mayRemove(cleaning, back, pod("pod-100"), org("1"), assignmentsOf)).toBe(true);
    expect(mayRemove(cleaning, back, pod("pod-0"), org("1"), assignmentsOf)).toBe(false);
    expect(types(decideCommand(over, migrationId, finalize, assignmentsOf))).toEqual(["RemovalCheckStarted"]);
    const last = fold([say.removalChecking(), say.retentionEnded()], over);
    expect(mayRemove(last, migrationId, pod("pod-0"), org("1"), assignmentsOf)).toBe(false);
    expect(mayRemove(last, migrationId, pod("pod-0"), org("2"), assignmentsOf)).toBe(true);
  });

  it("with the loss accepted the source takes over at once, in an epoch of its own", () => {
    const taken = fold(plan(retaining, { acceptLoss: "its disks are gone" }), retaining);
    expect(taken).toMatchObject({ epoch: 2, routeVersion: 2 });
    expect(taken.migrations[back]).toMatchObject({
      lifecycle: "activating",
      context: { reason: "its disks are gone", transfer: { forced: true, epoch: 2 }, fenceUp: false },
    });
    const [duty] = dutiesOf(taken, pod("pod-0"), assignmentsOf, new Set()).filter((one) => one.of !== null);
    expect(duty).toMatchObject({ goal: "activate", forced: true, epoch: 2 });
  });
});

describe("given an abort", () => {
  const goals = (events: readonly ClusterEvent[]) =>
    dutiesOf(fold(events), pod("pod-0"), assignmentsOf, new Set()).map(({ goal }) => goal);

  it("there is something to remove from the moment on in which Pods act, and nothing before", () => {
    const planned = [say.configured(), say.planned()];
    expect(goals([...planned, say.aborted()])).toEqual([]);
    expect(goals([...planned, say.checking(), say.aborted()])).toEqual([]);
    expect(goals([...planned, say.checking(false), say.passed(), say.aborted()])).toEqual([]);
    expect(goals([...planned, say.checking(), say.passed(), say.aborted()])).toEqual(["release"]);
  });
});

describe("reverse replication of what retains", () => {
  const ending = fold([say.removalChecking()], retaining);

  it("what was taken over from a lost Pod is not given back to it, however long the source needs to open", () => {
    const taken = fold(plan(retaining, { acceptLoss: "its machine burnt down" }), retaining);
    expect(taken.migrations[back]?.lifecycle).toBe("activating");
    expect(decideNext(taken, noObservations, 10_000_000)).toEqual([]);
  });

  it("is aborted when reverse replication is given up under it, before the transfer and not after it", () => {
    const givenUp: ClusterEvent = {
      type: "ReverseReplicationGivenUp",
      v: 1,
      migrationId,
      podId: pod("pod-100"),
      reason: "the disk is full",
    };
    const [event] = decideNext(fold([givenUp], planned), noObservations, 1_000);
    expect(event).toMatchObject({ type: "MigrationAborted", migrationId: back });
    expect(event).toHaveProperty("reason", expect.stringContaining("the disk is full"));
    expect(types(decideNext(fold([givenUp], fold(fenceBack, planned)), noObservations, 1_000))).toEqual([
      "MigrationAborted",
    ]);
    expect(decideNext(fold([givenUp], transferred), noObservations, 1_000)).toEqual([]);
  });

  it("the plan's time does not end the retention under a rollback: it waits until that is over", () => {
    const late = 10_000_000;
    const timed = fold(toRetaining({ retention: { reverseReplication: "replicated", forMs: 1_000 } }));
    expect(types(decideNext(timed, noObservations, late))).toEqual(["RemovalCheckStarted"]);
    const withRollback = fold(plan(timed), timed);
    expect(decideNext(withRollback, noObservations, late)).toEqual([]);
    expect(nextDeadlineAt(withRollback, noObservations)).toBeNull();
    const aborted = fold([{ type: "MigrationAborted", ...of, reason: "no" }], withRollback);
    expect(types(decideNext(aborted, noObservations, late))).toEqual(["RemovalCheckStarted"]);
  });

  it("what it did not take over, the split still retains: cleaning the rollback leaves it", () => {
    const revoked: ClusterEvent = {
      type: "TransferRevoked",
      ...of,
      podId: pod("pod-0"),
      routeVersion: version(3),
      reason: "it did not open",
    };
    const cleaning = fold([revoked, ...removalOfRollback], transferred);
    expect(cleaning.migrations[back]?.lifecycle).toBe("cleaning");
    expect(mayRemove(cleaning, back, pod("pod-0"), org("1"), assignmentsOf)).toBe(false);
    const opened = fold(removalOfRollback, rolledBack);
    expect(mayRemove(opened, back, pod("pod-100"), org("1"), assignmentsOf)).toBe(true);
  });

  it("is level when every store of the source says so, and only then", () => {
    const behind = (way: Partial<ReverseReplicationStatus>) =>
      reverseReplicationBehind(
        retaining,
        retaining.migrations[migrationId] as never,
        hear(retaining, way),
        1_000,
      );
    expect(behind({})).toEqual([]);
    expect(behind({ lag: { amount: null, unit: "bytes" } })[0]).toMatch(/pod-100.*not known/);
    expect(behind({ lag: { amount: 5.2e6, unit: "bytes" } })[0]).toMatch(/pod-100.*5.2 MB behind/);
    expect(behind({ verified: false })[0]).toMatch(/being verified/);
    expect(behind({ problem: { code: "MISMATCH", message: "row 7 differs" } })[0]).toMatch(/row 7 differs/);
    const silent = reverseReplicationBehind(
      retaining,
      retaining.migrations[migrationId] as never,
      noObservations,
      1_000,
    );
    expect(silent).toHaveLength(1);
  });

  it("holds the end of the retention up while it is not level, unless that is accepted", () => {
    expect(types(decideNext(ending, hear(ending), 1_000))).toEqual(["RetentionEnded"]);
    const [checked] = decideNext(ending, hear(ending, { verified: false }), 1_000);
    expect(checked).toMatchObject({
      type: "RemovalChecked",
      findings: [{ code: "REVERSE_REPLICATION_BEHIND" }, {}, {}],
    });
    const accepted = fold(
      [{ ...say.removalChecking(), despiteReverseReplication: true } as ClusterEvent],
      retaining,
    );
    expect(types(decideNext(accepted, hear(accepted, { verified: false }), 1_000))).toEqual([
      "RetentionEnded",
    ]);
  });

  it("is given up where its WAL outgrows the budget, and nowhere else", () => {
    const bounded = fold(toRetaining({ walBudget: { bytes: 1_000_000 } }));
    const stores = Object.fromEntries(
      STORES.map((store) => [store, storeStatus("open", { keptBytes: 2_000_000 })]),
    );
    const heard = accept(
      hear(bounded),
      bounded,
      { ...report("pod-101", { goal: "open", stores }), reportSequence: 2 },
      1_000,
    );
    expect(decideNext(bounded, heard, 1_000)).toMatchObject([
      { type: "ReverseReplicationGivenUp", podId: "pod-101" },
    ]);
    const after = fold(decideNext(bounded, heard, 1_000), bounded);
    expect(decideNext(after, heard, 1_000)).toEqual([]);
    const warned = fold(toRetaining({ walBudget: { bytes: 1_000_000, exceeded: "warn" } }));
    expect(decideNext(warned, heard, 1_000)).toEqual([]);
  });
});
