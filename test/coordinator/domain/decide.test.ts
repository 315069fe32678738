import { describe, expect, it } from "vitest";
import { type Command, decideCommand, decidePlan } from "../../../coordinator/domain/commands.ts";
import { BEHIND_GRACE_MS, decideNext, nextDeadlineAt, observe } from "../../../coordinator/domain/decide.ts";
import { accept, noObservations, type Observations } from "../../../coordinator/domain/observations.ts";
import type { ClusterState } from "../../../protocol/cluster.ts";
import { decodeRecord, encodeRecord } from "../../../protocol/codec.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import type { Digest, MigrationId } from "../../../protocol/ids.ts";
import type { Report } from "../../../protocol/messages.ts";
import { LIFECYCLES } from "../../../protocol/migration-machine.ts";
import { Plan } from "../../../protocol/plan.ts";
import {
  assignments,
  assignmentsOf,
  digest,
  fold,
  migrationId,
  org,
  pod,
  report,
  say,
  storeStatus,
  theMigration,
  until,
} from "../../support/story.ts";

const hear = (state: ClusterState, reports: readonly Report[], now = 1_000): Observations =>
  reports.reduce((observations, one) => accept(observations, state, one, now), noObservations);
const types = (events: readonly { type: string }[]) => events.map((event) => event.type);

const fenceChecks = { stage: "fence" as const, at: 1_000, findings: [] };
const following = [
  report("pod-0", { goal: "serve", preflight: fenceChecks }),
  report("pod-100", { goal: "follow", preflight: fenceChecks }),
  report("pod-101", { goal: "follow", preflight: fenceChecks }),
];

describe("given replicas that follow", () => {
  it("when they stay within the bounds for the settling time, then they have caught up", () => {
    const state = fold(until.ready({ settlingMs: 500 }).slice(0, -1));
    const heard = observe(state, hear(state, following), 1_000);
    expect(decideNext(state, heard, 1_499)).toEqual([]);
    expect(nextDeadlineAt(state, heard)).toBe(1_500);
    expect(types(decideNext(state, observe(state, heard, 1_500), 1_500))).toEqual(["ReplicasCaughtUp"]);
  });
  it("when one falls behind in between, then the settling time begins again", () => {
    const state = fold(until.ready({ settlingMs: 500 }).slice(0, -1));
    let heard = observe(state, hear(state, following), 1_000);
    heard = observe(
      state,
      accept(heard, state, report("pod-101", { goal: "seed", reportSequence: 2 }), 1_200),
      1_200,
    );
    heard = observe(
      state,
      accept(heard, state, report("pod-101", { goal: "follow", reportSequence: 3 }), 1_300),
      1_300,
    );
    expect(decideNext(state, heard, 1_500)).toEqual([]);
    expect(types(decideNext(state, heard, 1_800))).toEqual(["ReplicasCaughtUp"]);
  });
  it("when another coordinator, which hears less, withdraws the readiness, then they have to settle anew", () => {
    const ready = fold(until.ready({ settlingMs: 500 }));
    const withdrawn = fold([...until.ready({ settlingMs: 500 }), say.fellBehind()]);
    const heard = observe(withdrawn, observe(ready, hear(ready, following, 9_000), 9_000), 9_100);
    expect(decideNext(withdrawn, heard, 9_500)).toEqual([]);
    expect(types(decideNext(withdrawn, heard, 9_600))).toEqual(["ReplicasCaughtUp"]);
  });
  it("when another coordinator, which hears more, finds them ready, then one that hears nothing waits its grace", () => {
    const before = fold(until.ready({ settlingMs: 500 }).slice(0, -1));
    const ready = fold(until.ready({ settlingMs: 500 }));
    const deaf = observe(ready, observe(before, noObservations, 1_000), 60_000);
    expect(decideNext(ready, deaf, 60_000 + BEHIND_GRACE_MS - 1)).toEqual([]);
    expect(types(decideNext(ready, deaf, 60_000 + BEHIND_GRACE_MS))).toEqual(["ReplicasFellBehind"]);
  });
});

describe("given a ready migration", () => {
  const ready = fold(until.ready());
  it("when nobody approved, then nothing happens", () => {
    expect(decideNext(ready, observe(ready, hear(ready, following), 1_000), 1_000)).toEqual([]);
  });
  it("when an operator approved, then the fence goes up under a new epoch and with a deadline", () => {
    const approved = fold([say.approved()], ready);
    expect(decideNext(approved, hear(approved, following), 1_000)).toEqual([
      { type: "FenceRaised", v: 1, migrationId, epoch: 1, deadlineAt: 31_000 },
    ]);
  });
  it("when the approval was used up by a lowered fence, then another is needed, and the next epoch is new", () => {
    const again = fold([say.approved(), say.fenced(), say.lowered(), say.caughtUp()], ready);
    expect(decideNext(again, hear(again, following), 1_000)).toEqual([]);
    const approved = fold([say.approved()], again);
    expect(decideNext(approved, hear(approved, following), 1_000)).toMatchObject([
      { type: "FenceRaised", epoch: 2 },
    ]);
  });
  it("when the plan says auto, then it goes on by itself until its attempts are used up", () => {
    const auto = fold(until.ready({ cutover: { approval: "auto", attempts: 1 } }));
    expect(types(decideNext(auto, hear(auto, following), 1_000))).toEqual(["FenceRaised"]);
    const failed = fold([say.fenced(), say.lowered(), say.caughtUp()], auto);
    expect(decideNext(failed, hear(failed, following), 1_000)).toEqual([]);
  });
  it("when a check before the fence fails, then the fence stays down", () => {
    const approved = fold([say.approved()], ready);
    const finding = {
      store: "postgres" as const,
      severity: "error" as const,
      code: "POSTGRES_GUARD_MISSING" as const,
      message: "x",
    };
    const bad = report("pod-0", { goal: "serve", preflight: { ...fenceChecks, findings: [finding] } });
    expect(decideNext(approved, hear(approved, [bad, ...following.slice(1)]), 1_000)).toEqual([]);
  });
  it("when a replica is behind for long, then it is following again", () => {
    const behind = [...following.slice(0, 2), report("pod-101", { goal: "seed" })];
    const heard = observe(ready, hear(ready, behind), 1_000);
    expect(decideNext(ready, heard, 2_000)).toEqual([]);
    expect(types(decideNext(ready, heard, 6_000))).toEqual(["ReplicasFellBehind"]);
  });
});

describe("given a fence", () => {
  const fencing = fold(until.fencing());
  const matched = [
    report("pod-0", { goal: "fence", evidenceEpoch: 1 }),
    report("pod-100", { goal: "match", evidenceEpoch: 1 }),
    report("pod-101", { goal: "match", evidenceEpoch: 1 }),
  ];
  it("when the source alone is drained, then only that is noted", () => {
    expect(types(decideNext(fencing, hear(fencing, matched.slice(0, 1)), 2_000))).toEqual(["SourceDrained"]);
  });
  it("when everything matches, then one record transfers", () => {
    const events = decideNext(fencing, hear(fencing, matched), 2_000);
    expect(types(events)).toEqual(["SourceDrained", "ConsensusReached", "AuthorityTransferred"]);
    expect(theMigration(fold(events, fencing)).lifecycle).toBe("activating");
  });
  it("when the deadline has passed, then even complete evidence no longer transfers", () => {
    expect(decideNext(fencing, hear(fencing, matched, 100_000), 100_000)).toMatchObject([
      { type: "FenceLowered", epoch: 1 },
    ]);
  });
  it("when a target differs, then it waits, and says so at the deadline", () => {
    const differs = [
      ...matched.slice(0, 2),
      report("pod-101", { goal: "match", evidenceEpoch: 1, digests: { git: "other" } }),
    ];
    const drained = fold([say.drained()], fencing);
    expect(decideNext(drained, hear(drained, differs), 2_000)).toEqual([]);
    const [lowered] = decideNext(drained, hear(drained, differs, 100_000), 100_000);
    expect(lowered).toMatchObject({ reason: expect.stringContaining("pod-101: Git differs") });
  });
});

describe("given a transfer", () => {
  const activating = fold(until.activating());
  it("when a target opens late, then its share alone goes back", () => {
    const one = fold([say.opened("pod-100")], activating);
    expect(decideNext(one, noObservations, 2_000)).toEqual([]);
    expect(decideNext(one, noObservations, 121_000)).toMatchObject([
      { type: "TransferRevoked", podId: "pod-101", routeVersion: 2 },
    ]);
  });
  it("when all opened, then it retains", () => {
    expect(theMigration(fold([say.opened("pod-100"), say.opened("pod-101")], activating)).lifecycle).toBe(
      "retaining",
    );
  });
  it("when a share was revoked, then a late Opened changes nothing; and the other way round", () => {
    expect(
      theMigration(fold([say.revoked("pod-101"), say.opened("pod-101")], activating)).context.shares[
        pod("pod-101")
      ],
    ).toBe("revoked");
    expect(
      theMigration(fold([say.opened("pod-101"), say.revoked("pod-101")], activating)).context.shares[
        pod("pod-101")
      ],
    ).toBe("opened");
  });
});

describe("given a budget for the WAL that slots keep", () => {
  const keeping = (keptBytes: number) => [
    report("pod-0", { goal: "serve", stores: { postgres: storeStatus("serve", { keptBytes }) } }),
  ];
  const ready = (walBudget: { bytes: number; exceeded?: "abort" | "warn" }) =>
    fold(until.ready({ walBudget }));
  const decided = (state: ClusterState, keptBytes: number) =>
    types(decideNext(state, hear(state, keeping(keptBytes)), 1_000));

  it("when it is exceeded, then the migration is aborted with the numbers, also while it is paused", () => {
    const state = ready({ bytes: 1_000_000 });
    expect(decided(state, 1_000_000)).toEqual([]);
    expect(decideNext(state, hear(state, keeping(2_500_000)), 1_000)).toMatchObject([
      { type: "MigrationAborted", reason: expect.stringMatching(/2\.5 MB of WAL.*budget is 1 MB/) },
    ]);
    expect(decided(fold([say.paused()], state), 2_500_000)).toEqual(["MigrationAborted"]);
  });
  it("when the plan only wants to be warned, or a fence is up, then it is not", () => {
    expect(decided(ready({ bytes: 1_000_000, exceeded: "warn" }), 2_500_000)).toEqual([]);
    const fenced = fold([say.approved(), say.fenced()], ready({ bytes: 1_000_000 }));
    expect(decided(fenced, 2_500_000)).toEqual([]);
  });
});

describe("a command", () => {
  const refusal = (state: ClusterState, command: Command) => () =>
    decideCommand(state, migrationId, command, assignmentsOf);
  it("is refused for a migration that does not exist", () => {
    expect(() =>
      decideCommand(fold([say.configured()]), "nope" as MigrationId, { type: "start" }, assignmentsOf),
    ).toThrow(/no migration/);
  });
  it("abort is possible in every state before the transfer and in none after it", () => {
    const path = [...until.activating()];
    for (let n = 2; n <= path.length; n += 1) {
      const state = fold(path.slice(0, n));
      const after = theMigration(state).context.transfer !== null;
      if (after)
        expect(refusal(state, { type: "abort", reason: "x" })).toThrow(
          expect.objectContaining({ code: "ABORT_AFTER_TRANSFER" }),
        );
      else
        expect(
          theMigration(
            fold(decideCommand(state, migrationId, { type: "abort", reason: "x" }, assignmentsOf), state),
          ).lifecycle,
        ).toBe("aborted");
    }
  });
  it("revoke is refused for a share that has opened", () => {
    const state = fold([...until.activating(), say.opened("pod-100")]);
    expect(refusal(state, { type: "revoke", podId: pod("pod-100"), reason: "x" })).toThrow(/already opened/);
  });
  it("asked twice has the effect of once", () => {
    const approved = fold([say.approved()], fold(until.ready()));
    expect(decideCommand(approved, migrationId, { type: "approve" }, assignmentsOf)).toEqual([]);
    const aborted = fold([say.aborted()], approved);
    expect(decideCommand(aborted, migrationId, { type: "abort", reason: "again" }, assignmentsOf)).toEqual(
      [],
    );
  });
});

describe("a plan", () => {
  const plan = Plan.parse({
    migration: "split-2",
    source: "pod-0",
    assignments: [{ pod: "pod-100", organizations: ["1"] }],
  });
  const configured = fold([say.configured()]);
  const decide = (
    state: ClusterState,
    changes: Partial<Plan> = {},
    wanted = assignments,
    wantedDigest: Digest = digest,
  ) => decidePlan(state, { ...plan, ...changes }, wanted, wantedDigest, assignmentsOf);

  it("is accepted, and accepted again as the same", () => {
    const events = decide(configured);
    expect(types(events)).toEqual(["MigrationPlanned"]);
    expect(decide(fold(events, configured))).toEqual([]);
  });
  it("that accepts further databases is of a version of its own, so that an older process stands still; a move has none", () => {
    const settings = { ...plan.settings, acceptedDatabases: ["reports"] };
    expect(decide(configured)).toMatchObject([{ v: 2 }]);
    const events = decide(configured, { settings });
    expect(events).toMatchObject([{ v: 3, settings: { acceptedDatabases: ["reports"] } }]);
    expect(
      decodeRecord(encodeRecord({ v: 1, at: 1, by: "operator:alice", events: [...events] })).events,
    ).toEqual(events);
    expect(() => decide(configured, { settings, kind: "move" })).toThrow(
      expect.objectContaining({ code: "PLAN_INVALID" }),
    );
  });
  it("is refused for an unknown Pod, a claimed organization, a busy Pod, a Pod that is its own target", () => {
    const to = (podId: string, id = "9") => new Map([[org(id), pod(podId)]]);
    expect(() => decide(configured, {}, to("pod-9"))).toThrow(
      expect.objectContaining({ code: "PLAN_UNKNOWN_POD" }),
    );
    expect(() => decide(configured, {}, to("pod-0"))).toThrow(
      expect.objectContaining({ code: "PLAN_INVALID" }),
    );
    const busy = fold([say.planned()], configured);
    expect(() => decide(busy, {}, to("pod-100"))).toThrow(expect.objectContaining({ code: "POD_BUSY" }));
    expect(() => decide(busy, { migration: migrationId }, to("pod-100"), "0".repeat(64) as Digest)).toThrow(
      expect.objectContaining({ code: "MIGRATION_EXISTS" }),
    );
  });
  it("of a split is refused from a Pod to which another migration is on its way, and from one that is being cleaned", () => {
    const fromTarget = { source: pod("pod-100"), assignments: [] };
    const more = {
      ...(say.configured() as object),
      pods: ["pod-0", "pod-100", "pod-101", "pod-102"],
    } as ClusterEvent;
    const toNew = new Map([[org("9"), pod("pod-102")]]);
    const following = fold([...until.ready(), more]);
    expect(() => decide(following, fromTarget, toNew)).toThrow(expect.objectContaining({ code: "POD_BUSY" }));
    const opened = [...until.activating(), say.opened("pod-100"), say.opened("pod-101")];
    const cleaning = fold([...opened, say.removalChecking(), say.retentionEnded(), more]);
    expect(() => decide(cleaning, fromTarget, toNew)).toThrow(expect.objectContaining({ code: "POD_BUSY" }));
  });
  it("is refused for an organization that another migration claims or that lives elsewhere", () => {
    const retaining = fold([...until.activating(), say.opened("pod-100"), say.opened("pod-101")]);
    const more = fold(
      [{ ...(say.configured() as object), pods: ["pod-0", "pod-100", "pod-101", "pod-102"] } as never],
      retaining,
    );
    expect(() => decide(more, {}, new Map([[org("1"), pod("pod-102")]]))).toThrow(
      expect.objectContaining({ code: "ORGANIZATION_CLAIMED" }),
    );
    const aborted = fold([...until.ready(), say.aborted()]);
    expect(types(decide(aborted))).toEqual(["MigrationPlanned"]);
  });
});

it("every lifecycle state is decided about", () => {
  const state = fold(until.ready());
  for (const lifecycle of LIFECYCLES) {
    const migration = { ...theMigration(state), lifecycle };
    expect(
      Array.isArray(decideNext({ ...state, migrations: { [migrationId]: migration } }, noObservations, 0)),
    ).toBe(true);
  }
});
