/** Coordinators: hearing reports, deciding by themselves or for an operator, and crashes; and the log's answer. */
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
import type { Allowance, Heard, Pending, Sent, World } from "./state.ts";

export function coordinatorSteps(model: Model, world: World, node: LogNode): Step[] {
  return world.coordinators.flatMap((heard, index) => [
    ...hearing(model, world, node, heard, index),
    ...crashing(world, heard, index),
  ]);
}

function hearing(model: Model, world: World, node: LogNode, heard: Heard, index: number): Step[] {
  return world.network.flatMap((underWay, pod) =>
    underWay.flatMap((sent) => {
      const known = heard[pod] ?? null;
      const podId = model.cluster.pods[pod] as PodId;
      if (!isAccepted(headOf(node), podId, known, sent)) return [];
      return [
        {
          label: () => `a coordinator hears the report of ${podId} on ${sent.said.goal ?? "no duty"}`,
          next: { ...world, coordinators: world.coordinators.with(index, heard.with(pod, sent)) },
        },
      ];
    }),
  );
}

/** Its memory of reports is gone; what it had sent to the log may still arrive there. */
function crashing(world: World, heard: Heard, index: number): Step[] {
  const { left } = world.environment;
  if (left.coordinatorCrashes === 0) return [];
  const environment = {
    ...world.environment,
    left: { ...left, coordinatorCrashes: left.coordinatorCrashes - 1 },
  };
  const forgotten = heard.map(() => null);
  return [
    {
      label: () => "a coordinator crashes, and starts again on the whole log",
      next: { ...world, environment, coordinators: world.coordinators.with(index, forgotten) },
    },
  ];
}

/** What the coordinators of this state can decide by themselves, in each of their states of knowledge. */
export function decidedByItself(model: Model, world: World, node: LogNode): readonly Pending[] {
  const state = headOf(node);
  const fellBehind = world.environment.left.fellBehind > 0;
  if (model.configuration.coordinators !== "any")
    return world.coordinators.flatMap((heard) => byItself(model, state, heard, fellBehind));
  let byState = together.get(world.network);
  if (!byState) {
    byState = new Map();
    together.set(world.network, byState);
  }
  const key = `${node.id} ${fellBehind}`;
  let all = byState.get(key);
  if (!all) {
    all = [
      ...new Set(combinations(world.network).flatMap((heard) => byItself(model, state, heard, fellBehind))),
    ];
    byState.set(key, all);
  }
  return all;
}

const together = new WeakMap<World["network"], Map<string, readonly Pending[]>>();

function combinations(network: World["network"]): readonly Heard[] {
  return network.reduce<Heard[]>(
    (before, underWay) => before.flatMap((heard) => [null, ...underWay].map((sent) => [...heard, sent])),
    [[]],
  );
}

/** Now, and so late that every report is old and every deadline has passed. */
function byItself(model: Model, state: ClusterState, heard: Heard, fellBehind: boolean): readonly Pending[] {
  return model.once(state, `${fellBehind} ${JSON.stringify(heard)}`, () => {
    const known = model.wrong === "evidence-of-any-epoch" ? asOfThisFence(state, heard) : heard;
    const observations = observationsOf(state, model.cluster.pods, known);
    // Whoever is behind may have been so for long.
    const long: Observations = { ...observations, behindSince: new Map([[MIGRATION_ID, NOW]]) };
    return [
      decideNext(state, observe(state, observations, NOW), NOW),
      decideNext(state, observe(state, long, LATE), LATE),
    ]
      .filter(([first]) => {
        if (first === undefined) return false;
        if (first.type === "ReplicasFellBehind") return fellBehind;
        return true;
      })
      .map((events) => model.pending(events));
  });
}

function asOfThisFence(state: ClusterState, heard: Heard): Heard {
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

/** Removal is no part of this model: nothing that it explores is decided after the last share. */
type Asked = Extract<Command, { readonly type: "start" | "approve" | "abort" | "revoke" }>;

/** What operators can have a coordinator decide. */
export function decidedForOperators(model: Model, state: ClusterState, left: Allowance): readonly Pending[] {
  const key = `commands ${left.start} ${left.approve} ${left.abort} ${left.revoke}`;
  return model.once(state, key, () => {
    const commands: Asked[] = [];
    if (left.start > 0) commands.push({ type: "start" });
    if (left.approve > 0) commands.push({ type: "approve" });
    if (left.abort > 0) commands.push({ type: "abort", reason: "" });
    if (left.revoke > 0)
      for (const podId of model.cluster.targets) commands.push({ type: "revoke", podId, reason: "" });
    return commands.flatMap((command) => {
      const events = asked(model, state, command);
      return events.length === 0 ? [] : [model.pending(events, command.type)];
    });
  });
}

const NO_ASSIGNMENTS = () => new Map();

function asked(model: Model, state: ClusterState, command: Asked): readonly ClusterEvent[] {
  try {
    return decideCommand(state, MIGRATION_ID, command, NO_ASSIGNMENTS);
  } catch {
    const transferred = state.migrations[MIGRATION_ID]?.context.transfer !== null;
    return model.wrong === "abort-after-transfer" && command.type === "abort" && transferred
      ? [{ type: "MigrationAborted", v: 1, migrationId: MIGRATION_ID, reason: "" }]
      : [];
  }
}

/** An append reaches the log. That it never does is nothing happening. */
export function appendSteps(model: Model, world: World, node: LogNode): Step[] {
  return world.inbox.map((pending) => {
    const after = model.tree.append(node, pending.command ? "operator" : "process", pending.events);
    const environment = { ...world.environment, left: used(world.environment.left, pending) };
    // Whatever else was decided on the log as it was conflicts from now on.
    const compared = model.wrong !== "append-without-compare";
    const inbox = compared ? [] : world.inbox.filter((other) => other !== pending);
    return {
      label: () =>
        `the log takes record ${headOf(after).sequence}${pending.command ? ` (${pending.command} by an operator)` : ""}: ${after.events
          .map((event) => `${event.type}${"podId" in event ? ` of ${event.podId}` : ""}`)
          .join(" + ")}`,
      next: { ...world, log: after.id, environment, inbox },
    };
  });
}

function used(left: Allowance, pending: Pending): Allowance {
  const what =
    pending.command ?? (pending.events[0]?.type === "ReplicasFellBehind" ? ("fellBehind" as const) : null);
  return what === null ? left : { ...left, [what]: Math.max(0, left[what] - 1) };
}
