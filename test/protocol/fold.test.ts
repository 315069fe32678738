import { decode, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ClusterState, emptyCluster, routeOf, sharePhase } from "../../protocol/cluster.ts";
import { decodeRecord, encodeRecord } from "../../protocol/codec.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import { evolve } from "../../protocol/evolve.ts";
import { LIFECYCLES, migrationMachine } from "../../protocol/migration-machine.ts";
import { assignmentsOf, fold, migrationId, org, pod, say, theMigration, until } from "../support/story.ts";

const anyEvent: fc.Arbitrary<ClusterEvent> = fc.oneof(
  fc.constantFrom(
    say.configured(),
    say.planned(),
    say.checking(),
    say.checking(false),
    say.passed(),
    say.seeded(),
    say.caughtUp(),
    say.approved(),
    say.drained(),
    say.matched(),
    say.transferred(),
    say.lowered(),
    say.aborted(),
  ),
  fc.integer({ min: 1, max: 3 }).map((n) => say.fenced(n)),
  fc.constantFrom("pod-100", "pod-101").map((podId) => say.opened(podId)),
  fc.constantFrom("pod-100", "pod-101").map((podId) => say.revoked(podId)),
);
/** Histories that go somewhere: a prefix of the good path, then anything. */
const history = fc
  .tuple(fc.integer({ min: 0, max: until.activating().length }), fc.array(anyEvent, { maxLength: 30 }))
  .map(([n, more]) => [...until.activating().slice(0, n), ...more]);

describe("the fold", () => {
  it("takes every event in every state (total), and a checkpoint anywhere gives the same (I8)", () => {
    fc.assert(
      fc.property(history, fc.nat(), (events, cut) => {
        const whole = fold(events);
        const at = events.length === 0 ? 0 : cut % (events.length + 1);
        const checkpoint = decode(encode(fold(events.slice(0, at)))) as ClusterState;
        expect(decode(encode(fold(events.slice(at), checkpoint)))).toEqual(decode(encode(whole)));
      }),
    );
  });

  it("never lets routes or epochs go back", () => {
    fc.assert(
      fc.property(history, (events) => {
        let state = emptyCluster;
        for (const event of events) {
          const next = fold([event], state);
          expect(next.epoch).toBeGreaterThanOrEqual(state.epoch);
          expect(next.sequence).toBe(state.sequence + 1);
          state = next;
        }
      }),
    );
  });

  it("transfers only out of a consensus, and never without a fence", () => {
    fc.assert(
      fc.property(history, (events) => {
        const state = fold(events);
        const migration = state.migrations[migrationId];
        if (migration?.context.transfer) expect(migration.context.fence?.epoch).toBeDefined();
        if (migration?.context.fenceUp)
          expect(["fencing", "matching", "transferring"]).toContain(migration.lifecycle);
      }),
    );
  });

  it("routes an organization to its new Pod with the transfer, and back when its share is revoked", () => {
    const before = fold(until.fencing());
    expect(routeOf(before, org("1"), assignmentsOf)?.podId).toBe("pod-0");
    const after = fold([say.drained(), say.matched(), say.transferred()], before);
    expect(routeOf(after, org("1"), assignmentsOf)).toMatchObject({ podId: "pod-100", version: 1 });
    expect(routeOf(after, org("3"), assignmentsOf)?.podId).toBe("pod-0");
    const back = fold([say.revoked("pod-100")], after);
    expect(routeOf(back, org("1"), assignmentsOf)?.podId).toBe("pod-0");
    expect(routeOf(back, org("2"), assignmentsOf)?.podId).toBe("pod-101");
    expect(back.routeVersion).toBe(2);
  });

  it("gives each share its phase", () => {
    const phases = (events: ClusterEvent[]) => sharePhase(theMigration(fold(events)), pod("pod-100"));
    expect(phases(until.ready())).toBe("source");
    expect(phases(until.fencing())).toBe("fenced");
    expect(phases([...until.fencing(), say.lowered()])).toBe("source");
    expect(phases([...until.fencing(), say.aborted()])).toBe("source");
    expect(phases(until.activating())).toBe("transferred");
    expect(phases([...until.activating(), say.opened("pod-100")])).toBe("opened");
    expect(phases([...until.activating(), say.revoked("pod-100")])).toBe("source");
  });

  it("a dry run comes back to planned with its findings", () => {
    const state = fold([say.configured(), say.planned(), say.checking(false), say.passed()]);
    expect(theMigration(state).lifecycle).toBe("planned");
  });
});

describe("an event of a newer version", () => {
  const newer = { type: "Paused", v: 2, migrationId, why: "later" };
  it("stops its migration, not the cluster, and not the fold", () => {
    const bytes = encode({ v: 1, at: 1, by: "coordinator:new", events: [newer] });
    const state = evolve(fold(until.ready()), decodeRecord(bytes), 7);
    expect(theMigration(state).notUnderstood).toBe("event Paused of version 2");
    expect(state.notUnderstood).toBeNull();
    expect(state.sequence).toBe(7);
  });
  it("without a migration stops the process from acting at all", () => {
    const bytes = encode({
      v: 1,
      at: 1,
      by: "coordinator:new",
      events: [{ type: "ClusterConfigured", v: 2 }],
    });
    expect(evolve(emptyCluster, decodeRecord(bytes), 1).notUnderstood).toBe(
      "event ClusterConfigured of version 2",
    );
  });
});

describe("the machine", () => {
  it("has exactly the lifecycles that the code names", () => {
    expect(Object.keys(migrationMachine.config.states ?? {})).toEqual(
      [...LIFECYCLES].sort((a, b) => order(a) - order(b)),
    );
  });
  it("encodes every event it knows", () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        const record = { v: 1 as const, at: 1, by: "operator:test", events: [event] };
        expect(decodeRecord(encodeRecord(record)).events).toEqual([event]);
      }),
    );
  });
});

const order = (lifecycle: string) => Object.keys(migrationMachine.config.states ?? {}).indexOf(lifecycle);
