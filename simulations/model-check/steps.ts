/** Everything that can happen in a state, and what of a state can be forgotten because it decides nothing more. */
import type { PodId } from "../../protocol/ids.ts";
import { agentSteps, decidedByAgent, saidBy, saysDormant } from "./agent-steps.ts";
import { clientSteps, replicationSteps, timeSteps } from "./client-steps.ts";
import { appendSteps, coordinatorSteps, decidedByItself, decidedForOperators } from "./coordinator-steps.ts";
import { headOf, type LogNode } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import { useful } from "./reports.ts";
import type { AgentPart, Pending, Said, Sent, World } from "./state.ts";
import { assigned, NO_WORK, storeSteps } from "./store-steps.ts";

export function initialWorld(model: Model): World {
  const { cluster, configuration, tree } = model;
  const node = cluster.prefix.reduce((log, event) => tree.append(log, "operator:model", [event]), tree.at(0));
  const state = headOf(node);
  const position = state.sequence;
  const agents = cluster.pods.map((pod: PodId, index): AgentPart => {
    const work = assigned(model, NO_WORK, model.dutyOf(state, pod, false));
    return {
      position,
      durable: position,
      work: { ...work, reached: work.duty !== null },
      disk: {
        phases: index === 0 ? cluster.targets.map(() => "source") : ["source"],
        fencedEpoch: 0,
        marker: null,
        applied: 0,
        promoted: false,
        removed: false,
        released: false,
      },
    };
  });
  return {
    log: node.id,
    coordinators: Array.from(
      { length: configuration.coordinators === "any" ? 0 : configuration.coordinators },
      () => cluster.pods.map(() => null),
    ),
    agents,
    network: cluster.pods.map(() => []),
    inbox: [],
    environment: {
      wal: [],
      writers: cluster.targets.map(() => false),
      left: configuration.allowed,
      elapsed: false,
      dormantSaid: false,
    },
  };
}

export function stepsOf(model: Model, world: World): Step[] {
  const node = model.tree.at(world.log);
  return [
    ...appendSteps(model, world, node),
    ...coordinatorSteps(model, world, node),
    ...agentSteps(model, world, node),
    ...storeSteps(model, world),
    ...replicationSteps(model, world),
    ...clientSteps(model, world),
    ...timeSteps(model, world, node),
  ];
}

/**
 * Brings a state to its one form. What may be done at any time and can only add possibilities is done at once, and
 * what can no longer matter is forgotten:
 * - whoever can decide has decided: an append that waits in the inbox may land now, later or never, and a conflict
 *   changes nothing, so the inbox is emptied when the log grows;
 * - who can report has reported: a report may arrive now, later or never;
 * - a report that can move no decision any more is as good as lost;
 * - a checkpoint matters only while an agent may crash.
 */
export function settle(model: Model, world: World): World {
  const node = model.tree.at(world.log);
  const { left } = world.environment;
  const agents =
    left.agentCrashes > 0
      ? world.agents
      : world.agents.map((agent) =>
          agent.durable === agent.position ? agent : { ...agent, durable: agent.position },
        );
  const dormantSaid =
    world.environment.dormantSaid ||
    (model.configuration.reads && saysDormant(model, node, agents[0] as AgentPart));
  const environment =
    dormantSaid === world.environment.dormantSaid ? world.environment : { ...world.environment, dormantSaid };
  const heardAndSaid = reported(model, node, { ...world, agents, environment });
  return { ...heardAndSaid, inbox: decided(model, node, heardAndSaid) };
}

function reported(model: Model, node: LogNode, world: World): World {
  const state = headOf(node);
  const { left } = world.environment;
  const any = model.configuration.coordinators === "any";
  let { network, coordinators } = world;
  const still = (sent: Sent | null): Sent | null => {
    const said = sent && useful(model, state, sent.said, left);
    return sent && said && (same(said, sent.said) ? sent : { ...sent, said });
  };
  for (let pod = 0; pod < network.length; pod += 1) {
    const before = network[pod] as readonly Sent[];
    let underWay = before.flatMap((sent) => still(sent) ?? []);
    const heard = coordinators.map((all) => still(all[pod] ?? null));
    const everywhere = [...underWay, ...heard.flatMap((sent) => sent ?? [])];
    const newest = Math.max(-1, ...everywhere.map(({ order }) => order));
    const now = saidBy(model, node, world.agents[pod] as AgentPart);
    const said = useful(model, state, now, left);
    const known = (sent: Sent) => said !== null && same(sent.said, said) && (any || sent.order === newest);
    if (said !== null && !underWay.some(known)) {
      const again = everywhere.some(known);
      underWay.push({ order: any ? 0 : newest + (again ? 0 : 1), said });
    }
    if (any) underWay = underWay.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
    const orders = [...underWay, ...heard.flatMap((sent) => sent ?? [])].map(({ order }) => order);
    const dense = [...new Set(orders)].sort((a, b) => a - b);
    const ranked = (sent: Sent): Sent => {
      const order = dense.indexOf(sent.order);
      return order === sent.order ? sent : { ...sent, order };
    };
    underWay = underWay.map(ranked);
    if (underWay.length !== before.length || underWay.some((sent, at) => sent !== before[at]))
      network = network.with(pod, underWay);
    coordinators = coordinators.map((all, index) => {
      const taken = heard[index] ? ranked(heard[index]) : null;
      return taken === (all[pod] ?? null) ? all : all.with(pod, taken);
    });
  }
  return { ...world, network, coordinators };
}

function same(a: Said, b: Said): boolean {
  return (
    a.goal === b.goal &&
    a.reached === b.reached &&
    a.applied === b.applied &&
    a.preflight === b.preflight &&
    a.evidence?.epoch === b.evidence?.epoch &&
    a.evidence?.marker === b.evidence?.marker
  );
}

function decided(model: Model, node: LogNode, world: World): readonly Pending[] {
  const state = headOf(node);
  const found = new Set([
    ...world.inbox,
    ...decidedForOperators(model, state, world.environment.left),
    ...decidedByItself(model, world, node),
    ...world.agents.flatMap((agent, index) => decidedByAgent(model, node, index, agent, world.environment)),
  ]);
  // Nothing leaves the inbox but with the log's growth, so the same number is the same content.
  return found.size === world.inbox.length ? world.inbox : [...found].sort((a, b) => a.id - b.id);
}
