/**
 * I1 at the level of the log: two coordinators and three agents, each at its own position of one log, deciding,
 * appending by compare-and-set, reporting and restarting in any order. At no step may two Pods allow writes, or may a
 * Pod remove what is authoritative there (I7).
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { decideLowering, decideOpening } from "../../../agent/domain/own-decisions.ts";
import { goalOf } from "../../../agent/domain/react.ts";
import { mayRemove } from "../../../agent/domain/removal.ts";
import { type Command, decideCommand } from "../../../coordinator/domain/commands.ts";
import { decideNext, observe } from "../../../coordinator/domain/decide.ts";
import { accept, noObservations, type Observations } from "../../../coordinator/domain/observations.ts";
import { type ClusterState, emptyCluster, routeOf, sharePhase } from "../../../protocol/cluster.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import { evolve } from "../../../protocol/evolve.ts";
import type { Epoch, PodId } from "../../../protocol/ids.ts";
import { LIFECYCLES } from "../../../protocol/migration-machine.ts";
import { assignmentsOf, migrationId, org, pod, report, say, until } from "../../support/story.ts";

const PODS = [pod("pod-0"), pod("pod-100"), pod("pod-101")] as const;

/** Does this Pod, at its own position of the log, let target `t`'s organizations be written? (ARCHITECTURE's table) */
function allowsWrites(state: ClusterState, self: PodId, t: PodId): boolean {
  const migration = state.migrations[migrationId];
  if (!migration) return self === pod("pod-0");
  const phase = sharePhase(migration, t);
  return phase === "source" ? self === migration.sourcePodId : phase === "opened" && self === t;
}

interface AgentModel {
  readonly self: PodId;
  state: ClusterState;
  incarnation: number;
  sequence: number;
}

class World {
  readonly log: ClusterEvent[][] = [];
  readonly agents: AgentModel[] = PODS.map((self) => ({
    self,
    state: emptyCluster,
    incarnation: 1,
    sequence: 0,
  }));
  readonly coordinators = [0, 1].map(() => ({ state: emptyCluster, heard: noObservations as Observations }));
  now = 1_000;
  readonly visited = new Set<string>();

  constructor() {
    for (const event of until
      .ready({
        settlingMs: 0,
        cutover: { approval: "auto", attempts: 50, deadlineMs: 100, openWithinMs: 1_000 },
      })
      .slice(0, -1)) {
      this.log.push([event]);
    }
  }

  /** A first fence that everybody proved and that ran out: old evidence lies about wherever it could be mistaken. */
  afterALoweredFence(): void {
    this.log.push([say.caughtUp()], [say.fenced(1, this.now + 100)]);
    for (const agent of this.agents) agent.state = this.catchUp(agent.state, 100);
    for (const coordinator of this.coordinators) {
      coordinator.state = this.catchUp(coordinator.state, 100);
      for (const agent of this.agents) {
        coordinator.heard = accept(
          coordinator.heard,
          coordinator.state,
          this.reportOf(agent, true),
          this.now,
        );
      }
    }
    this.log.push([say.lowered(1)], [say.caughtUp()]);
  }

  catchUp(state: ClusterState, records: number): ClusterState {
    let next = state;
    for (let n = 0; n < records && next.sequence < this.log.length; n += 1) {
      next = evolve(
        next,
        { at: this.now, by: "test", events: this.log[next.sequence] as ClusterEvent[] },
        next.sequence + 1,
      );
    }
    return next;
  }

  append(events: readonly ClusterEvent[], expected: number): void {
    if (events.length > 0 && expected === this.log.length) this.log.push([...events]);
  }

  /** An agent whose stores reached whatever its own position of the log asks for, and that says so. */
  reportOf(agent: AgentModel, ready: boolean) {
    const migration = agent.state.migrations[migrationId];
    const goal = migration ? goalOf(migration, agent.self) : null;
    agent.sequence += 1;
    const fence = migration?.context.fence;
    const proves = ready && (goal === "fence" || goal === "match") && fence;
    return report(agent.self, {
      goal: goal ?? "serve",
      incarnation: agent.incarnation,
      reportSequence: agent.sequence,
      appliedSequence: agent.state.sequence,
      at: this.now,
      preflight: {
        stage: migration?.lifecycle === "retaining" ? "removal" : "fence",
        at: this.now,
        findings: [],
      },
      ...(proves ? { evidenceEpoch: fence.epoch } : {}),
    });
  }

  check(): void {
    for (const target of PODS.slice(1)) {
      const writers = this.agents.filter((agent) => allowsWrites(agent.state, agent.self, target));
      expect(
        writers.map((agent) => agent.self).length,
        `writers of ${target}: ${writers.map((w) => w.self)}`,
      ).toBeLessThanOrEqual(1);
    }
    const newest = this.catchUp(this.agents[0]?.state ?? emptyCluster, this.log.length);
    for (const { self, state } of this.agents)
      for (const organization of [org("1"), org("2"), org("stayed")]) {
        if (!mayRemove(state, migrationId, self, organization, assignmentsOf)) continue;
        expect(routeOf(newest, organization, assignmentsOf)?.podId, "the Pod that may remove").not.toBe(self);
      }
  }
}

type Step = (world: World) => void;
const agentIndex = fc.integer({ min: 0, max: 2 });
const likely = fc.integer({ min: 0, max: 9 }).map((n) => n > 1);
const coordinatorIndex = fc.integer({ min: 0, max: 1 });

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(agentIndex, fc.integer({ min: 1, max: 4 })).map(
      ([i, n]): Step =>
        (w) => {
          const agent = w.agents[i] as AgentModel;
          agent.state = w.catchUp(agent.state, n);
        },
    ),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(agentIndex, coordinatorIndex, likely).map(
      ([i, c, ready]): Step =>
        (w) => {
          const coordinator = w.coordinators[c] as World["coordinators"][number];
          const one = w.reportOf(w.agents[i] as AgentModel, ready);
          try {
            coordinator.heard = accept(coordinator.heard, coordinator.state, one, w.now);
          } catch {
            // Unknown Pod (the coordinator is behind) or stale: refused, as in production.
          }
        },
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(coordinatorIndex, likely).map(
      ([c, fresh]): Step =>
        (w) => {
          const coordinator = w.coordinators[c] as World["coordinators"][number];
          if (fresh) coordinator.state = w.catchUp(coordinator.state, 100);
          coordinator.heard = observe(coordinator.state, coordinator.heard, w.now);
          w.append(decideNext(coordinator.state, coordinator.heard, w.now), coordinator.state.sequence);
        },
    ),
  },
  {
    weight: 2,
    arbitrary: agentIndex.map(
      (i): Step =>
        (w) => {
          const agent = w.agents[i] as AgentModel;
          const epoch = agent.state.migrations[migrationId]?.context.transfer?.epoch;
          if (epoch !== undefined)
            w.append(
              decideOpening(agent.state, migrationId, agent.self, epoch as Epoch),
              agent.state.sequence,
            );
        },
    ),
  },
  {
    weight: 1,
    arbitrary: agentIndex.map(
      (i): Step =>
        (w) => {
          const agent = w.agents[i] as AgentModel;
          w.append(decideLowering(agent.state, agent.self, w.now), agent.state.sequence);
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        coordinatorIndex,
        fc.constantFrom<Command>(
          { type: "abort", reason: "x" },
          { type: "approve" },
          { type: "revoke", podId: pod("pod-100"), reason: "x" },
          { type: "finalize", dryRun: false },
          { type: "finalize", dryRun: true },
          { type: "pause", reason: "x" },
          { type: "resume" },
          { type: "resume" },
        ),
      )
      .map(
        ([c, command]): Step =>
          (w) => {
            const { state } = w.coordinators[c] as World["coordinators"][number];
            try {
              w.append(decideCommand(state, migrationId, command, assignmentsOf), state.sequence);
            } catch {
              // Not possible now: a typed refusal.
            }
          },
      ),
  },
  {
    weight: 1,
    arbitrary: agentIndex.map(
      (i): Step =>
        (w) => {
          const agent = w.agents[i] as AgentModel;
          agent.incarnation += 1;
          agent.sequence = 0;
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 200 }).map(
      (ms): Step =>
        (w) => {
          w.now += ms;
        },
    ),
  },
);

// Nothing but computing: however long that takes on a busy machine.
it("no order of concurrent deciders lets two Pods accept writes for one organization", {
  timeout: 300_000,
}, () => {
  const visited = new Set<string>();
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(steps, { minLength: 100, maxLength: 600, size: "max" }),
      (lowered, run) => {
        const world = new World();
        if (lowered) world.afterALoweredFence();
        for (const step of run) {
          step(world);
          world.check();
          for (const agent of world.agents)
            visited.add(agent.state.migrations[migrationId]?.lifecycle ?? "planned");
          for (const coordinator of world.coordinators)
            visited.add(coordinator.state.migrations[migrationId]?.lifecycle ?? "planned");
        }
      },
    ),
    { numRuns: 700 },
  );
  // The property means something only if the runs get through the whole lifecycle.
  const passedThrough = LIFECYCLES.filter(
    (l) => !["planned", "preflight", "refused", "transferring"].includes(l),
  );
  expect([...visited]).toEqual(expect.arrayContaining(passedThrough));
});
