/** Clients that write at the source, replication to the targets, and time. Writes at an open target need no step. */
import type { PodId } from "../../protocol/ids.ts";
import { SOURCE } from "./cluster.ts";
import { headOf, type LogNode, migrationAt } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import type { AgentPart, World } from "./state.ts";

export function clientSteps(model: Model, world: World): Step[] {
  const { writers, left, wal } = world.environment;
  const source = world.agents[0] as AgentPart;
  return writers.flatMap((writing, target) => {
    const organization = model.cluster.organizations[target];
    const ended = writers.with(target, false);
    if (writing) {
      const committed = [...wal, `w${target + 1}`];
      const steps: Step[] = [
        {
          label: () => `a client's write of organization ${organization} is acknowledged by ${SOURCE}`,
          next: { ...world, environment: { ...world.environment, writers: ended, wal: committed } },
        },
      ];
      // Without a fence in its way a writer that gives up is one that never was.
      if (source.work.goal === "fence")
        steps.push({
          label: () => `the writer of organization ${organization} is terminated`,
          next: { ...world, environment: { ...world.environment, writers: ended } },
        });
      return steps;
    }
    if (left.writes === 0 || source.disk.phases[target] !== "source") return [];
    return [
      {
        label: () => `a client's write of organization ${organization} passes the check of ${SOURCE}`,
        next: {
          ...world,
          environment: {
            ...world.environment,
            writers: writers.with(target, true),
            left: { ...left, writes: left.writes - 1 },
          },
        },
      },
    ];
  });
}

/** Physical replication needs no agent; a promoted target has left it. */
export function replicationSteps(model: Model, world: World): Step[] {
  return world.agents.flatMap((agent, index) => {
    const entry = world.environment.wal[agent.disk.applied];
    if (index === 0 || entry === undefined || agent.disk.promoted || agent.disk.removed) return [];
    return [
      {
        label: () => `${model.cluster.pods[index]}: applies ${entry} of the source's write-ahead log`,
        next: model.withAgent(world, index, {
          ...agent,
          disk: { ...agent.disk, applied: agent.disk.applied + 1 },
        }),
      },
    ];
  });
}

export function timeSteps(model: Model, world: World, node: LogNode): Step[] {
  const steps: Step[] = [];
  const head = migrationAt(node, headOf(node).sequence);
  if (model.configuration.reads && !world.environment.elapsed && head.context.transfer !== null) {
    steps.push({
      label: () => "time passes, until no read lease from before the transfer is left",
      next: { ...world, environment: { ...world.environment, elapsed: true } },
    });
  }
  const source = world.agents[0] as AgentPart;
  if (model.wrong === "reopen-at-deadline" && source.work.goal === "fence" && source.work.reached) {
    steps.push({
      label: () => `${SOURCE as PodId}: the deadline passes, and it serves again by itself`,
      next: model.withAgent(world, 0, {
        ...source,
        disk: { ...source.disk, phases: source.disk.phases.map(() => "source" as const) },
      }),
    });
  }
  return steps;
}
