/** Coordinators: hearing reports, deciding (by themselves or for an operator), and crashes; and the log's answer. */
import { type Command, decideCommand } from "../../coordinator/domain/commands.ts";
import { decideNext, observe } from "../../coordinator/domain/decide.ts";
import type { Observations } from "../../coordinator/domain/observations.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { PodId } from "../../protocol/ids.ts";
import { LATE, MIGRATION_ID, NOW } from "./cluster.ts";
import { headOf, type LogNode } from "./log-tree.ts";
import type { Model, Step } from "./model.ts";
import { isAccepted, observationsOf } from "./reports.ts";
import type { Allowance, CoordinatorPart, Pending, Sent, World } from "./state.ts";

export function coordinatorSteps(model: Model, world: World, node: LogNode): Step[] {
  return world.coordinators.flatMap((coordinator, index) => [
    ...hearing(model, world, node, coordinator, index),
    ...deciding(model, world, node, coordinator, index),
    ...(model.configuration.staleDeciders ? reading(model, world, node, coordinator, index) : []),
    ...crashing(model, world, node, coordinator, index),
  ]);
}

function reading(
  model: Model,
  world: World,
  node: LogNode,
  coordinator: CoordinatorPart,
  index: number,
): Step[] {
  if (node.states[coordinator.position + 1] === undefined) return [];
  const position = coordinator.position + 1;
  return [
    {
      label: () => `a coordinator folds record ${position}`,
      next: model.withCoordinator(world, index, { ...coordinator, position }),
    },
  ];
}

function hearing(
  model: Model,
  world: World,
  node: LogNode,
  coordinator: CoordinatorPart,
  index: number,
): Step[] {
  const state = node.states[coordinator.position] as ClusterState;
  return world.network.flatMap((underWay, pod) =>
    underWay.flatMap((sent) => {
      const known = coordinator.heard[pod] ?? null;
      if (known?.order === sent.order) return [];
      const podId = model.cluster.pods[pod] as PodId;
      if (!isAccepted(state, podId, known, sent)) return [];
      return [
        {
          label: () => `a coordinator hears the report of ${podId} on ${sent.said.goal ?? "no duty"}`,
          next: model.withCoordinator(world, index, {
            ...coordinator,
            heard: coordinator.heard.with(pod, sent),
          }),
        },
      ];
    }),
  );
}

function deciding(
  model: Model,
  world: World,
  node: LogNode,
  coordinator: CoordinatorPart,
  index: number,
): Step[] {
  if (coordinator.pending !== null) return [];
  const state = node.states[coordinator.position] as ClusterState;
  const { left } = world.environment;
  const pendings: Pending[] = [];
  const propose = (events: readonly ClusterEvent[], command: Pending["command"]) => {
    if (events.length > 0) pendings.push({ expected: coordinator.position, events, command });
  };
  for (const late of [false, true]) {
    const events = byItself(model, state, coordinator.heard, late);
    if (events[0]?.type === "ReplicasFellBehind" && left.fellBehind === 0) continue;
    if (events[0]?.type === "FenceLowered" && model.wrong === "fence-for-ever") continue;
    propose(events, null);
  }
  const commands: Command[] = [];
  if (left.start > 0) commands.push({ type: "start" });
  if (left.approve > 0) commands.push({ type: "approve" });
  if (left.abort > 0) commands.push({ type: "abort", reason: "" });
  if (left.revoke > 0)
    for (const podId of model.cluster.targets) commands.push({ type: "revoke", podId, reason: "" });
  for (const command of commands)
    propose(asked(model, state, command), command.type === "check" ? null : command.type);
  return pendings.map((pending) => ({
    label: () =>
      `a coordinator decides${pending.command ? ` for an operator (${pending.command})` : ""} ${pending.events
        .map((event) => event.type)
        .join(" + ")}`,
    next: model.withCoordinator(world, index, { ...coordinator, pending }),
  }));
}

const remembered = new WeakMap<object, Map<ClusterState, readonly (readonly ClusterEvent[])[]>>();

/** What happens by itself, now or so late that every report is old and every deadline has passed. */
function byItself(
  model: Model,
  state: ClusterState,
  heard: CoordinatorPart["heard"],
  late: boolean,
): readonly ClusterEvent[] {
  let byState = remembered.get(heard);
  if (!byState) {
    byState = new Map();
    remembered.set(heard, byState);
  }
  let answers = byState.get(state);
  if (!answers) {
    const known = model.wrong === "evidence-of-any-epoch" ? asOfThisFence(state, heard) : heard;
    const observations = observationsOf(state, model.cluster.pods, known);
    // Whoever is behind may have been so for long.
    const long: Observations = { ...observations, behindSince: new Map([[MIGRATION_ID, NOW]]) };
    answers = [
      decideNext(state, observe(state, observations, NOW), NOW),
      decideNext(state, observe(state, long, LATE), LATE),
    ];
    byState.set(state, answers);
  }
  return answers[late ? 1 : 0] as readonly ClusterEvent[];
}

function asOfThisFence(state: ClusterState, heard: CoordinatorPart["heard"]): CoordinatorPart["heard"] {
  const fence = state.migrations[MIGRATION_ID]?.context.fence;
  return heard.map(
    (sent): Sent | null =>
      sent && {
        ...sent,
        said: {
          ...sent.said,
          applied: Number.MAX_SAFE_INTEGER,
          evidence: sent.said.evidence && fence ? { ...sent.said.evidence, epoch: fence.epoch } : null,
        },
      },
  );
}

function asked(model: Model, state: ClusterState, command: Command): readonly ClusterEvent[] {
  try {
    return decideCommand(state, MIGRATION_ID, command);
  } catch {
    const transferred = state.migrations[MIGRATION_ID]?.context.transfer !== null;
    return model.wrong === "abort-after-transfer" && command.type === "abort" && transferred
      ? [{ type: "MigrationAborted", v: 1, migrationId: MIGRATION_ID, reason: "" }]
      : [];
  }
}

function crashing(
  model: Model,
  world: World,
  node: LogNode,
  coordinator: CoordinatorPart,
  index: number,
): Step[] {
  const { left } = world.environment;
  if (left.coordinatorCrashes === 0) return [];
  const environment = {
    ...world.environment,
    left: { ...left, coordinatorCrashes: left.coordinatorCrashes - 1 },
  };
  // What it had sent to the log may still arrive there.
  const restarted: CoordinatorPart = {
    ...coordinator,
    position: headOf(node).sequence,
    heard: coordinator.heard.map(() => null),
  };
  return [
    {
      label: () => "a coordinator crashes, and starts again on the whole log",
      next: model.withCoordinator({ ...world, environment }, index, restarted),
    },
  ];
}

/** An append reaches the log, or never does. */
export function appendSteps(model: Model, world: World, node: LogNode): Step[] {
  const steps: Step[] = [];
  const arrive = (pending: Pending | null, who: string, by: string, without: World) => {
    if (pending === null) return;
    const end = node.states.length - 1;
    const types = pending.events.map((event) => event.type).join(" + ");
    steps.push({ label: () => `${who}'s append of ${types} is lost`, next: without });
    if (pending.expected !== end && model.wrong !== "append-without-compare") {
      steps.push({ label: () => `${who}'s append of ${types} conflicts`, next: without });
      return;
    }
    const after = model.tree.append(node, by, pending.events);
    const left = used(world.environment.left, pending);
    steps.push({
      label: () => `${who}'s append lands as record ${end + 1}: ${types}`,
      next: { ...without, log: after.id, environment: { ...world.environment, left } },
    });
  };
  world.coordinators.forEach((part, index) => {
    const by = part.pending?.command ? "operator:model" : "coordinator:model";
    const without = model.withCoordinator(world, index, { ...part, pending: null });
    arrive(part.pending, "a coordinator", by, without);
  });
  world.agents.forEach((part, index) => {
    const pod = model.cluster.pods[index] as PodId;
    arrive(part.pending, pod, `agent:${pod}`, model.withAgent(world, index, { ...part, pending: null }));
  });
  return steps;
}

function used(left: Allowance, pending: Pending): Allowance {
  const what =
    pending.command ?? (pending.events[0]?.type === "ReplicasFellBehind" ? ("fellBehind" as const) : null);
  return what === null ? left : { ...left, [what]: Math.max(0, left[what] - 1) };
}
