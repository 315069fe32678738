/** Agents: reading the log, saying what is, hearing the source, the two decisions of their own, and crashes. */
import {
  decideLowering,
  decideOpening,
  leaseEndMs,
  sourceIsSilent,
} from "../../agent/domain/own-decisions.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Epoch, PodId } from "../../protocol/ids.ts";
import { LATE, MIGRATION_ID, SOURCE } from "./cluster.ts";
import { headOf, type LogNode, migrationAt } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import type { AgentPart, Said, Sent, World } from "./state.ts";
import { assigned, NO_WORK } from "./store-steps.ts";

export function agentSteps(model: Model, world: World, node: LogNode): Step[] {
  return world.agents.flatMap((agent, index) => {
    const pod = model.cluster.pods[index] as PodId;
    return [
      ...reading(model, world, node, agent, index, pod),
      ...reporting(model, world, node, agent, index, pod),
      ...deciding(model, world, node, agent, index, pod),
      ...(model.configuration.reads ? leasing(model, world, node, agent, index) : []),
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
  const mayCrash = world.environment.left.agentCrashes > 0;
  if (state) {
    const position = agent.position + 1;
    const work = assigned(model, agent.work, model.dutyOf(state, pod, agent.disk.released));
    // What is on disk matters to crashes alone, and to reports, which never say less by it than an older report.
    const durable = mayCrash ? agent.durable : position;
    steps.push({
      label: () => `${pod}: folds record ${position}: ${typesAt(node, position)}`,
      next: model.withAgent(world, index, { ...agent, position, durable, work }),
    });
  }
  if (mayCrash && agent.durable < agent.position) {
    steps.push({
      label: () => `${pod}: its checkpoint of record ${agent.durable + 1} is on disk`,
      next: model.withAgent(world, index, { ...agent, durable: agent.durable + 1 }),
    });
  }
  return steps;
}

export function typesAt(node: LogNode, sequence: number): string {
  let found: LogNode | null = node;
  while (found && headOf(found).sequence > sequence) found = found.parent;
  return found?.events.map((event) => event.type).join(" + ") ?? "";
}

function saidBy(model: Model, node: LogNode, agent: AgentPart, index: number): Said {
  const migration = migrationAt(node, agent.position);
  const { lifecycle, context } = migration;
  const transfer = model.wrong === "dormant-before-durable" ? context.transfer : durableTransfer(node, agent);
  return {
    applied: model.wrong === "report-before-durable" ? agent.position : agent.durable,
    goal: agent.work.goal,
    reached: agent.work.reached,
    evidence: agent.work.evidence,
    preflight: lifecycle === "preflight" ? "start" : lifecycle === "ready" ? "fence" : null,
    dormantEpoch: index === 0 && model.configuration.reads ? (transfer?.epoch ?? 0) : 0,
  };
}

function durableTransfer(node: LogNode, agent: AgentPart) {
  return migrationAt(node, agent.durable).context.transfer;
}

function reporting(
  model: Model,
  world: World,
  node: LogNode,
  agent: AgentPart,
  index: number,
  pod: PodId,
): Step[] {
  const said = saidBy(model, node, agent, index);
  const underWay = world.network[index] as readonly Sent[];
  const everywhere = [...underWay, ...world.coordinators.flatMap(({ heard }) => heard[index] ?? [])];
  const newest = everywhere.reduce<Sent | null>(
    (best, sent) => (best === null || sent.order > best.order ? sent : best),
    null,
  );
  const same = newest !== null && JSON.stringify(newest.said) === JSON.stringify(said);
  if (same && underWay.some((sent) => sent.order === newest.order)) return [];
  const sent: Sent = { order: same ? newest.order : (newest?.order ?? -1) + 1, said };
  const sending = [...underWay, sent].slice(-model.configuration.reportsUnderWay);
  return [
    {
      label: () => `${pod}: reports ${describe(said)}`,
      next: { ...world, network: world.network.with(index, sending) },
    },
  ];
}

export function describe(said: Said): string {
  const evidence = said.evidence
    ? `, evidence of epoch ${said.evidence.epoch}: marker ${said.evidence.marker}`
    : "";
  const dormant = said.dormantEpoch > 0 ? `, dormant since epoch ${said.dormantEpoch}` : "";
  return `${said.goal ?? "no duty"}${said.reached ? " reached" : ""}, applied ${said.applied}${evidence}${dormant}`;
}

function deciding(
  model: Model,
  world: World,
  node: LogNode,
  agent: AgentPart,
  index: number,
  pod: PodId,
): Step[] {
  if (agent.pending !== null) return [];
  // A decision on anything but the end of the log is refused by the log; `staleDeciders` shows it.
  if (!model.configuration.staleDeciders && node.states.length - 1 !== agent.position) return [];
  const state = node.states[agent.position] as ClusterState;
  return [opening(model, world, state, agent, index, pod), lowering(model, state, pod)].flatMap((events) =>
    events.length === 0
      ? []
      : [
          {
            label: () => `${pod}: decides ${events.map((event) => event.type).join(" + ")}`,
            next: model.withAgent(world, index, {
              ...agent,
              pending: { expected: agent.position, events, command: null },
            }),
          },
        ],
  );
}

function opening(
  model: Model,
  world: World,
  state: ClusterState,
  agent: AgentPart,
  index: number,
  pod: PodId,
): ClusterEvent[] {
  if (index === 0 || agent.work.goal !== "activate" || !agent.work.reached) return [];
  const migration = state.migrations[MIGRATION_ID];
  const epoch = migration?.context.fence?.epoch as Epoch;
  const readLeaseMs = migration?.settings.cutover.readLeaseMs ?? 0;
  // Without reads there is nothing to wait for, and not waiting is what could break anything else.
  const sinceMs = world.environment.elapsed || !model.configuration.reads ? leaseEndMs(readLeaseMs) : 0;
  if (!sourceIsSilent(agent.dormantHeard, epoch, sinceMs, readLeaseMs)) return [];
  return model.wrong === "opened-unseen"
    ? [{ type: "Opened", v: 1, migrationId: MIGRATION_ID, epoch, podId: pod }]
    : decideOpening(state, MIGRATION_ID, pod, epoch);
}

function lowering(model: Model, state: ClusterState, pod: PodId): ClusterEvent[] {
  return model.wrong === "fence-for-ever" ? [] : decideLowering(state, pod, LATE);
}

/** Rule 12: the source's lease, and the source's word to the targets. */
function leasing(model: Model, world: World, node: LogNode, agent: AgentPart, index: number): Step[] {
  if (index === 0) {
    const { lifecycle } = migrationAt(node, agent.position);
    const leased = ["ready", "fencing", "matching", "transferring"].includes(lifecycle);
    // A server that was cut off confirms an old end of the log, for a while: until `elapsed`.
    const confirmed = !world.environment.elapsed || agent.position === node.states.length - 1;
    if (agent.lease || !leased || !confirmed) return [];
    return [
      {
        label: () => `${SOURCE}: renews its read lease at record ${agent.position}`,
        next: model.withAgent(world, index, { ...agent, lease: true }),
      },
    ];
  }
  return (world.network[0] as readonly Sent[]).flatMap(({ said }) =>
    said.dormantEpoch <= agent.dormantHeard
      ? []
      : [
          {
            label: () => `${model.cluster.pods[index]}: hears that ${SOURCE} is dormant`,
            next: model.withAgent(world, index, { ...agent, dormantHeard: said.dormantEpoch }),
          },
        ],
  );
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
    dormantHeard: 0,
    lease: false,
  };
  const environment = { ...world.environment, left: { ...left, agentCrashes: left.agentCrashes - 1 } };
  return [
    {
      label: () => `${pod}: its agent crashes, and starts again at record ${agent.durable}`,
      next: model.withAgent({ ...world, environment }, index, restarted),
    },
  ];
}
