/** Everything that can happen in a state, and what of a state can be forgotten because it decides nothing more. */
import type { PodId } from "../../protocol/ids.ts";
import { agentSteps } from "./agent-steps.ts";
import { clientSteps, replicationSteps, timeSteps } from "./client-steps.ts";
import { appendSteps, coordinatorSteps } from "./coordinator-steps.ts";
import { headOf, migrationAt } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import type { AgentPart, CoordinatorPart, Sent, World } from "./state.ts";
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
        released: false,
      },
      dormantHeard: 0,
      lease: false,
      pending: null,
    };
  });
  return {
    log: node.id,
    coordinators: Array.from({ length: configuration.coordinators }, () => ({
      position,
      heard: cluster.pods.map(() => null),
      pending: null,
    })),
    agents,
    network: cluster.pods.map(() => []),
    environment: {
      wal: [],
      writers: cluster.targets.map(() => false),
      left: configuration.allowed,
      elapsed: false,
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
 * Forgets what can no longer matter, so that states that differ in nothing else are one:
 * - an append that was decided on a shorter log will conflict, and a conflict changes nothing;
 * - a coordinator that has not read on cannot decide anything that lands, so it is as good as one that has;
 * - after the transfer, and after an abort, no decision looks at reports (only targets hear the source's);
 * - of the order of reports, who is newer; of a checkpoint, nothing when no agent will crash any more.
 */
export function forget(model: Model, world: World): World {
  const node = model.tree.at(world.log);
  const end = node.states.length - 1;
  const { staleDeciders, reads } = model.configuration;
  const stays = staleDeciders || model.wrong === "append-without-compare";
  const live = <P extends CoordinatorPart | AgentPart>(part: P): P =>
    stays || part.pending === null || part.pending.expected === end ? part : { ...part, pending: null };
  let coordinators = world.coordinators.map((part) =>
    staleDeciders || part.position === end ? live(part) : { ...live(part), position: end },
  );
  const mayCrash = world.environment.left.agentCrashes > 0;
  const agents = world.agents.map((part) => {
    const alive = live(part);
    return mayCrash || alive.durable === alive.position ? alive : { ...alive, durable: alive.position };
  });
  let { network } = world;
  const { lifecycle, context } = migrationAt(node, end);
  if (context.transfer !== null || lifecycle === "aborted" || lifecycle === "refused") {
    if (!staleDeciders)
      coordinators = coordinators.map((part) => ({ ...part, heard: part.heard.map(() => null) }));
    network = network.map((underWay, pod) => (pod === 0 && reads ? underWay : []));
  }
  for (let pod = 0; pod < network.length; pod += 1) {
    const orders = [
      ...(network[pod] as readonly Sent[]).map(({ order }) => order),
      ...coordinators.flatMap(({ heard }) => heard[pod]?.order ?? []),
    ];
    const dense = [...new Set(orders)].sort((a, b) => a - b);
    if (dense.every((order, rank) => order === rank)) continue;
    const ranked = <S extends Sent | null>(sent: S): S =>
      sent === null ? sent : { ...sent, order: dense.indexOf((sent as Sent).order) };
    network = network.with(pod, (network[pod] as readonly Sent[]).map(ranked));
    coordinators = coordinators.map((part) => ({
      ...part,
      heard: part.heard.with(pod, ranked(part.heard[pod] ?? null)),
    }));
  }
  return { ...world, coordinators, agents, network };
}
