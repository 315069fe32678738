/** Agents: reading the log, saying what is, the two decisions of their own, and crashes. */
import {
  decideLowering,
  decideOpening,
  dormantEpochOf,
  leaseEndMs,
  mayForget,
  sourceIsSilent,
} from "../../agent/domain/own-decisions.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Epoch, PodId } from "../../protocol/ids.ts";
import { LATE, MIGRATION_ID, SOURCE } from "./cluster.ts";
import { headOf, type LogNode, migrationAt } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import type { AgentPart, Environment, Pending, Said, World } from "./state.ts";
import { assigned, NO_WORK } from "./store-steps.ts";

export function agentSteps(model: Model, world: World, node: LogNode): Step[] {
  return world.agents.flatMap((agent, index) => {
    const pod = model.cluster.pods[index] as PodId;
    return [
      ...reading(model, world, node, agent, index, pod),
      ...crashing(model, world, node, agent, index, pod),
    ];
  });
}

function reading(
  model: Model,
  world: World,
  node: LogNode,
  agent: AgentPart,
  index: number,
  pod: PodId,
): Step[] {
  const steps: Step[] = [];
  const state = node.states[agent.position + 1];
  if (state) {
    const position = agent.position + 1;
    const work = assigned(model, agent.work, model.dutyOf(state, pod, agent.disk.released));
    steps.push({
      label: () => `${pod}: folds record ${position}: ${typesAt(node, position)}`,
      next: model.withAgent(world, index, { ...agent, position, work }),
    });
  }
  if (agent.durable < agent.position) {
    steps.push({
      label: () => `${pod}: its checkpoint of record ${agent.durable + 1} is on disk`,
      next: model.withAgent(world, index, { ...agent, durable: agent.durable + 1 }),
    });
  }
  const durable = model.wrong === "forget-before-durable" ? agent.position : agent.durable;
  const done = agent.work.goal === "release" && agent.work.reached && !agent.disk.released;
  if (done && mayForget(node.states[agent.position] as ClusterState, durable)) {
    steps.push({
      label: () => `${pod}: has put the migration behind it, on disk`,
      next: model.withAgent(world, index, { ...agent, disk: { ...agent.disk, released: true } }),
    });
  }
  return steps;
}

function typesAt(node: LogNode, sequence: number): string {
  let found: LogNode | null = node;
  while (found && headOf(found).sequence > sequence) found = found.parent;
  return found?.events.map((event) => event.type).join(" + ") ?? "";
}

/** Memory is gone; the process starts again on its checkpoint and on what its stores have on disk. */
function crashing(
  model: Model,
  world: World,
  node: LogNode,
  agent: AgentPart,
  index: number,
  pod: PodId,
): Step[] {
  const { left } = world.environment;
  if (left.agentCrashes === 0) return [];
  const state = node.states[agent.durable] as ClusterState;
  const restarted: AgentPart = {
    ...agent,
    position: agent.durable,
    work: assigned(model, NO_WORK, model.dutyOf(state, pod, agent.disk.released)),
  };
  const environment = { ...world.environment, left: { ...left, agentCrashes: left.agentCrashes - 1 } };
  return [
    {
      label: () => `${pod}: its agent crashes, and starts again at record ${agent.durable}`,
      next: model.withAgent({ ...world, environment }, index, restarted),
    },
  ];
}

/** What the agent's next report says, as `Agent.#report` puts it together. */
export function saidBy(model: Model, node: LogNode, agent: AgentPart): Said {
  const { lifecycle } = migrationAt(node, agent.position);
  return {
    applied: model.wrong === "report-before-durable" ? agent.position : agent.durable,
    goal: agent.work.goal,
    reached: agent.work.reached,
    evidence: agent.work.evidence,
    preflight: lifecycle === "preflight" ? "start" : lifecycle === "ready" ? "fence" : null,
  };
}

/** Could the source say now that it is dormant (rule 12). */
export function saysDormant(model: Model, node: LogNode, source: AgentPart): boolean {
  const durable = model.wrong === "dormant-before-durable" ? source.position : source.durable;
  return dormantEpochOf(migrationAt(node, source.position), SOURCE, durable) > 0;
}

/**
 * The source's read lease, at its most: held whenever it can be. A log server that was cut off confirms an old end
 * of the log, but only until `elapsed`; and only the fenced lifecycles look at a lease at all.
 */
export function mayHoldLease(node: LogNode, source: AgentPart, environment: Environment): boolean {
  return !environment.elapsed || source.position === node.states.length - 1;
}

/** What an agent decides by itself on the end of the log; on anything else the log refuses it. */
export function decidedByAgent(
  model: Model,
  node: LogNode,
  index: number,
  agent: AgentPart,
  environment: Environment,
): readonly Pending[] {
  if (node.states.length - 1 !== agent.position) return [];
  const pod = model.cluster.pods[index] as PodId;
  const state = headOf(node);
  const active = index > 0 && agent.work.goal === "activate" && agent.work.reached;
  const key = `agent ${pod} ${active} ${environment.elapsed} ${environment.dormantSaid}`;
  return model.once(state, key, () => {
    const lowered = decideLowering(state, pod, LATE);
    const opened = active ? opening(model, state, environment, pod) : [];
    return [lowered, opened].filter((events) => events.length > 0).map((events) => model.pending(events));
  });
}

function opening(model: Model, state: ClusterState, environment: Environment, pod: PodId): ClusterEvent[] {
  const migration = state.migrations[MIGRATION_ID];
  const epoch = migration?.context.fence?.epoch as Epoch;
  const readLeaseMs = migration?.settings.cutover.readLeaseMs ?? 0;
  // Without reads there is nothing to wait for, and not waiting is what could break anything else.
  const waited = environment.elapsed || !model.configuration.reads;
  const heardEpoch = environment.dormantSaid ? epoch : 0;
  if (!sourceIsSilent(heardEpoch, epoch, waited ? leaseEndMs(readLeaseMs) : 0, readLeaseMs)) return [];
  return model.wrong === "opened-unseen"
    ? [{ type: "Opened", v: 1, migrationId: MIGRATION_ID, epoch, podId: pod }]
    : decideOpening(state, MIGRATION_ID, pod, epoch);
}
