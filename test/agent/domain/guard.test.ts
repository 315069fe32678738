/** Given the log, when a request comes, then the guard's answer on each Pod. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Access, decideAccess, type LocalFacts } from "../../../agent/domain/guard.ts";
import { type Assignments, digestOf, encodeAssignments } from "../../../protocol/assignments.ts";
import { emptyCluster } from "../../../protocol/cluster.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import type { Digest, MigrationId, PodId } from "../../../protocol/ids.ts";
import { Settings } from "../../../protocol/plan.ts";
import { assignments, digest, fold, org, pod, say, until } from "../../support/story.ts";

const PODS = ["pod-0", "pod-100", "pod-101"].map(pod);

/** A later migration, on from one of the new Pods: it claims organization 1 again. */
const onwards: Assignments = new Map([[org("1"), pod("pod-101")]]);
const onwardsDigest = digestOf(encodeAssignments(onwards));
const assignmentsOf = (wanted: Digest): Assignments => (wanted === onwardsDigest ? onwards : assignments);

interface Asked {
  readonly organization?: string | null;
  readonly write?: boolean;
  readonly opened?: boolean;
  readonly lease?: boolean;
  readonly now?: number;
}

function answer(events: readonly ClusterEvent[], self: string, asked: Asked = {}): Access {
  const { organization = "1", write = true, opened = true, lease = true, now = 1_000 } = asked;
  const local: LocalFacts = { self: pod(self), openedHere: () => opened, leaseValid: lease, now };
  const organizationId = organization === null ? null : org(organization);
  return decideAccess(fold(events), local, { organizationId, write }, assignmentsOf);
}

const elsewhere = (podId: string) => ({ outcome: "wrongPod", podId });
const allow = { outcome: "allow" };

describe("given an organization without a migration", () => {
  it.each([true, false])("when it is asked for (write: %s), then the default Pod serves it", (write) => {
    expect(answer([say.configured()], "pod-0", { write })).toEqual(allow);
    expect(answer([say.configured()], "pod-100", { write })).toEqual(elsewhere("pod-0"));
  });

  it("when another organization is fenced, then it notices nothing (I5)", () => {
    for (const events of [until.fencing(), until.activating()]) {
      expect(answer(events, "pod-0", { organization: "3" })).toEqual(allow);
      expect(answer(events, "pod-0", { organization: "3", write: false, lease: false })).toEqual(allow);
    }
  });
});

describe("given a migration that has not fenced", () => {
  it("then the source serves and the targets name it", () => {
    expect(answer(until.ready(), "pod-0")).toEqual(allow);
    expect(answer(until.ready(), "pod-100")).toEqual(elsewhere("pod-0"));
    expect(answer(until.ready(), "pod-100", { write: false })).toEqual(elsewhere("pod-0"));
  });
});

describe("given a raised fence", () => {
  it("when a write comes to the source, then it is fenced for at most the rest of the deadline", () => {
    const events = [...until.ready(), say.approved(), say.fenced(1, 5_000)];
    expect(answer(events, "pod-0", { now: 2_000 })).toEqual({ outcome: "fenced", retryAfterMs: 3_000 });
    // Past its deadline a fence still holds: it ends through the log alone (rule 6).
    expect(answer(events, "pod-0", { now: 9_000 })).toEqual({ outcome: "fenced", retryAfterMs: 0 });
  });

  it("when a read comes to the source, then it is served under a valid lease only (rule 12)", () => {
    expect(answer(until.fencing(), "pod-0", { write: false, lease: true })).toEqual(allow);
    expect(answer(until.fencing(), "pod-0", { write: false, lease: false })).toEqual({
      outcome: "unconfirmed",
    });
  });

  it("when a target is asked, then it names the source", () => {
    for (const write of [true, false])
      expect(answer(until.fencing(), "pod-100", { write })).toEqual(elsewhere("pod-0"));
  });

  it("when it is lowered or the migration aborted, then the source serves again", () => {
    expect(answer([...until.fencing(), say.lowered()], "pod-0", { lease: false })).toEqual(allow);
    expect(answer([...until.fencing(), say.aborted()], "pod-0", { lease: false })).toEqual(allow);
  });
});

describe("given transferred authority", () => {
  it("when the target has not opened, then it says so for reads and writes, and all others name it", () => {
    for (const write of [true, false]) {
      expect(answer(until.activating(), "pod-100", { write })).toEqual({ outcome: "opening" });
      expect(answer(until.activating(), "pod-0", { write })).toEqual(elsewhere("pod-100"));
      expect(answer(until.activating(), "pod-101", { write })).toEqual(elsewhere("pod-100"));
    }
  });

  it("when the target opened in the log and not yet in its stores, then it is still opening", () => {
    const events = [...until.activating(), say.opened("pod-100")];
    expect(answer(events, "pod-100", { opened: false })).toEqual({ outcome: "opening" });
    expect(answer(events, "pod-100", { opened: true })).toEqual(allow);
    expect(answer(events, "pod-0")).toEqual(elsewhere("pod-100"));
  });

  it("when one share is open, then the other is not", () => {
    const events = [...until.activating(), say.opened("pod-100")];
    expect(answer(events, "pod-101", { organization: "2" })).toEqual({ outcome: "opening" });
  });

  it("when a share is revoked, then the source serves it again and the target does not", () => {
    const events = [...until.activating(), say.revoked("pod-100")];
    expect(answer(events, "pod-0")).toEqual(allow);
    expect(answer(events, "pod-100")).toEqual(elsewhere("pod-0"));
    expect(answer(events, "pod-0", { organization: "2" })).toEqual(elsewhere("pod-101"));
  });
});

describe("given a request that concerns no organization", () => {
  it("then everybody reads, and the default Pod alone writes", () => {
    expect(answer(until.fencing(), "pod-100", { organization: null, write: false })).toEqual(allow);
    expect(answer(until.fencing(), "pod-100", { organization: null })).toEqual(elsewhere("pod-0"));
    expect(answer(until.fencing(), "pod-0", { organization: null })).toEqual(allow);
  });
});

describe("given a Pod that does not know what it is", () => {
  it("when the cluster is not configured, then nothing is served", () => {
    expect(answer([], "pod-0")).toEqual({ outcome: "unknownIdentity" });
    expect(answer([], "pod-0", { write: false, organization: null })).toEqual({ outcome: "unknownIdentity" });
  });
});

describe("I1 at the level of one folded state", () => {
  const second = "split-2" as MigrationId;
  const again = (event: ClusterEvent, sourcePodId: PodId): ClusterEvent => {
    if (event.type === "ClusterConfigured") return event;
    if (event.type !== "MigrationPlanned") return { ...event, migrationId: second };
    return {
      ...event,
      migrationId: second,
      sourcePodId,
      assignments: { digest: onwardsDigest, organizations: 1 },
    };
  };
  const first: ClusterEvent[] = [
    say.configured(),
    say.planned(Settings.parse({})),
    say.checking(),
    say.passed(),
    say.seeded(),
    say.caughtUp(),
    say.approved(),
    say.fenced(1),
    say.fenced(2),
    say.drained(1),
    say.drained(2),
    say.matched(1),
    say.matched(2),
    say.transferred(1),
    say.transferred(2),
    say.lowered(1),
    say.opened("pod-100"),
    say.opened("pod-101"),
    say.revoked("pod-100"),
    say.revoked("pod-101"),
    say.aborted(),
  ];
  const any = fc.constantFrom(...first, ...first.map((event) => again(event, pod("pod-100"))));
  /** Mostly the way of a migration, with anything at all in between, so that the late phases are reached. */
  const history = fc
    .tuple(fc.nat(2 * until.activating().length), fc.array(any, { maxLength: 12 }))
    .map(([steps, extra]) => {
      const way = [
        ...until.activating(),
        say.opened("pod-100"),
        ...until.activating().map((e) => again(e, pod("pod-100"))),
      ];
      return [...way.slice(0, steps), ...extra];
    });

  it("never do two Pods allow writes for one organization, whatever their stores and leases say", () => {
    const counts = { none: 0, one: 0 };
    fc.assert(
      fc.property(history, fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }), (events, facts) => {
        const state = fold(events);
        for (const organization of ["1", "2", "3"].map(org)) {
          const writers = PODS.filter((self, i) => {
            const local = {
              self,
              openedHere: () => facts[i] === true,
              leaseValid: facts[i + 3] === true,
              now: 0,
            };
            const asked = { organizationId: organization, write: true };
            return decideAccess(state, local, asked, assignmentsOf).outcome === "allow";
          });
          expect(writers.length).toBeLessThanOrEqual(1);
          counts[writers.length === 1 ? "one" : "none"]++;
        }
      }),
      { numRuns: 500 },
    );
    // Both have to occur, or the property would say nothing.
    expect(counts.none).toBeGreaterThan(20);
    expect(counts.one).toBeGreaterThan(20);
  });

  it("asks no planner's clock which migration is the newer one", () => {
    const before = fold([...until.activating(), say.opened("pod-100")], emptyCluster, 1_000_000);
    const onwards = until.activating().map((event) => again(event, pod("pod-100")));
    const after = fold(onwards, before, 1);
    const local = { self: pod("pod-100"), openedHere: () => true, leaseValid: true, now: 0 };
    const asked = { organizationId: org("1"), write: true };
    expect(decideAccess(after, local, asked, assignmentsOf)).toEqual(elsewhere("pod-101"));
    const target = decideAccess(after, { ...local, self: pod("pod-101") }, asked, assignmentsOf);
    expect(target).toEqual({ outcome: "opening" });
  });

  it("answers alike whatever the number of organizations: two look-ups, no scan", () => {
    const many: Assignments = new Map(
      Array.from({ length: 200_000 }, (_, i) => [org(`o${i}`), pod(i % 2 ? "pod-100" : "pod-101")]),
    );
    const looked = { gets: 0, scans: 0 };
    const lookUp = (key: never) => {
      looked.gets++;
      return many.get(key);
    };
    const watched = new Proxy(many, {
      get: (target, name) => {
        if (name === "get") return lookUp;
        looked.scans++;
        return Reflect.get(target, name);
      },
    });
    const local = { self: pod("pod-0"), openedHere: () => true, leaseValid: true, now: 0 };
    const state = fold(until.fencing(), emptyCluster);
    const answered = decideAccess(state, local, { organizationId: org("o5"), write: true }, (d) =>
      d === digest ? watched : new Map(),
    );
    expect(answered.outcome).toBe("fenced");
    expect(looked).toEqual({ gets: 1, scans: 0 });
  });
});
