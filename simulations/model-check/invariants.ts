/** What must hold in every state; the names are those of docs/protocol.md. */
import { type Access, decideAccess } from "../../agent/domain/guard.ts";
import { type ClusterState, sharePhase } from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import type { OrganizationId, PodId } from "../../protocol/ids.ts";
import { mayHoldLease } from "./agent-steps.ts";
import { NOW, SOURCE } from "./cluster.ts";
import { headOf, type LogNode, migrationAt } from "./log-tree.ts";
import type { Model } from "./model.ts";
import type { AgentPart, World } from "./state.ts";

export interface Violation {
  readonly invariant: "I1" | "I2" | "I4" | "abort or transfer" | "opened or revoked" | "I9";
  readonly what: string;
}

export function violationOf(model: Model, world: World): Violation | null {
  const node = model.tree.at(world.log);
  return contradiction(node) ?? perTarget(model, world, node);
}

function contradiction({ said }: LogNode): Violation | null {
  if (said.aborted && said.transferred)
    return { invariant: "abort or transfer", what: "the log holds both an abort and a transfer" };
  const both = said.opened.find((podId) => said.revoked.includes(podId));
  return both === undefined
    ? null
    : { invariant: "opened or revoked", what: `the log holds both Opened and TransferRevoked of ${both}` };
}

function perTarget(model: Model, world: World, node: LogNode): Violation | null {
  for (const [index, podId] of model.cluster.targets.entries()) {
    const found =
      authority(world, index, podId) ??
      guards(model, world, node, index, podId) ??
      writes(world, node, index, podId);
    if (found) return found;
  }
  return null;
}

/** A writer that has passed the check may be acknowledged at any time, so its Pod admits writes. */
function authority(world: World, index: number, podId: PodId): Violation | null {
  const { disk } = world.agents[0] as AgentPart;
  const source = disk.phases[index] === "source" || world.environment.writers[index];
  const own = (world.agents[index + 1] as AgentPart).disk;
  const target = own.promoted && own.phases[0] === "opened";
  return source && target
    ? {
        invariant: "I1",
        what: `the stores of ${SOURCE} and of ${podId} both admit writes of one organization`,
      }
    : null;
}

function guards(model: Model, world: World, node: LogNode, index: number, podId: PodId): Violation | null {
  const source = world.agents[0] as AgentPart;
  const target = world.agents[index + 1] as AgentPart;
  const serves = target.work.goal === "open" && target.work.reached;
  // Without it the target's guard never allows: see `openedHere` in guard.ts.
  if (!serves) return null;
  const organizationId = model.cluster.organizations[index] as OrganizationId;
  const ask = (agent: AgentPart, self: PodId, write: boolean): Access["outcome"] =>
    decideAccess(
      node.states[agent.position] as ClusterState,
      {
        self,
        openedHere: () => serves && self === podId,
        leaseValid: mayHoldLease(node, agent, world.environment),
        now: NOW,
      },
      { organizationId, write },
      model.cluster.assignmentsOf,
    ).outcome;
  if (ask(target, podId, true) === "allow" && ask(source, SOURCE, true) === "allow")
    return { invariant: "I1", what: `the guards of ${SOURCE} and of ${podId} both allow writes` };
  if (model.configuration.reads && ask(source, SOURCE, false) === "allow")
    return { invariant: "I4", what: `${podId} serves, and ${SOURCE} still allows reads of the older state` };
  return null;
}

function writes(world: World, node: LogNode, index: number, podId: PodId): Violation | null {
  const migration = migrationAt(node, headOf(node).sequence);
  const { transfer, evidence, shares } = migration.context;
  if (transfer === null || shares[podId] === "revoked") return null;
  const { wal } = world.environment;
  const digest = evidence?.[SOURCE]?.postgres?.digest ?? "none";
  const position = wal.findIndex((_, at) => `marker ${at}` === digest);
  const last = wal.lastIndexOf(`w${index + 1}`);
  if (last > position)
    return {
      invariant: "I2",
      what: `a write for ${podId} was acknowledged after the position of the evidence`,
    };
  const { applied } = (world.agents[index + 1] as AgentPart).disk;
  if (shares[podId] === "opened" && applied <= last)
    return { invariant: "I2", what: `${podId} is opened, and misses an acknowledged write` };
  return null;
}

/** An end: over, or waiting for an operator, with everybody at rest and every organization served somewhere. */
export function isEnd(model: Model, world: World): boolean {
  const node = model.tree.at(world.log);
  const end = node.states.length - 1;
  const migration = migrationAt(node, end);
  const { lifecycle } = migration;
  const over = lifecycle === "retaining" || lifecycle === "aborted" || lifecycle === "refused";
  const waits =
    lifecycle === "planned" ||
    ((lifecycle === "following" || lifecycle === "ready") && !cutoverWanted(migration));
  if (!over && !waits) return false;
  const resting = world.agents.every(
    (agent, index) =>
      agent.position === end &&
      (agent.work.reached ||
        model.dutyOf(headOf(node), model.cluster.pods[index] as PodId, agent.disk.released) === null),
  );
  if (!resting || world.environment.writers.some((writing) => writing)) return false;
  return model.cluster.targets.every((podId, index) => {
    const phase = sharePhase(migration, podId);
    const source = world.agents[0] as AgentPart;
    const target = world.agents[index + 1] as AgentPart;
    return phase === "source"
      ? source.disk.phases[index] === "source"
      : phase === "opened" && target.disk.promoted && target.disk.phases[0] === "opened";
  });
}
