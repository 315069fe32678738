/**
 * The stores of one Pod as they work towards a duty, one durable step at a time (ports/store.ts says what each goal
 * is). PostgreSQL's way stands for all: a marker in the write-ahead log is the position, and its identity the digest.
 */
import type { Duty } from "../../protocol/ports/store.ts";
import type { Model, Step } from "./model.ts";
import type { AgentPart, Disk, Environment, Token, Work, World } from "./state.ts";

export const NO_WORK: Work = { duty: null, goal: null, step: 0, reached: false, evidence: null };

/** As a store worker takes a duty: the same one changes nothing, a new one preempts what was going on. */
export function assigned(model: Model, work: Work, duty: Duty | null): Work {
  if (duty === null) return work;
  const number = model.numberOf(duty);
  return number === work.duty ? work : { ...NO_WORK, duty: number, goal: duty.goal };
}

interface Done {
  readonly what: string;
  readonly work: Partial<Work>;
  readonly disk?: Partial<Disk>;
  readonly wal?: Environment["wal"];
}

export function storeSteps(model: Model, world: World): Step[] {
  return world.agents.flatMap((agent, index) => {
    if (agent.work.duty === null || agent.work.reached) return [];
    const pod = model.cluster.pods[index];
    const duty = model.dutyNumbered(agent.work.duty);
    const done =
      index === 0 ? sourceStep(model, agent, duty, world) : targetStep(model, agent, duty, world, index);
    if (done === null) return [];
    const next: AgentPart = {
      ...agent,
      work: { ...agent.work, ...done.work },
      disk: { ...agent.disk, ...done.disk },
    };
    const environment = done.wal ? { ...world.environment, wal: done.wal } : world.environment;
    return [
      {
        label: () => `${pod}: stores (${duty.goal}, epoch ${duty.epoch ?? "none"}): ${done.what}`,
        next: model.withAgent({ ...world, environment }, index, next),
      },
    ];
  });
}

const REACHED = { reached: true, step: 0 } as const;

function sourceStep(model: Model, agent: AgentPart, duty: Duty, world: World): Done | null {
  const phases = duty.targetPodIds.map((podId) => duty.shares[podId] ?? "source");
  const { wal, writers } = world.environment;
  switch (duty.goal) {
    case "prepare":
    case "serve":
    case "yield":
      return {
        what: `enforce ${phases.join(", ")}`,
        work: REACHED,
        disk: { phases, marker: null, fencedEpoch: 0 },
      };
    case "release":
      return {
        what: "guards are removed, so everything is served",
        work: REACHED,
        disk: { phases: phases.map(() => "source"), marker: null, fencedEpoch: 0 },
      };
    case "fence": {
      const epoch = duty.epoch as number;
      const early = model.wrong === "position-before-drain";
      if (agent.work.step === 0) {
        const up = agent.disk.fencedEpoch === epoch && agent.disk.phases.every((phase) => phase === "fenced");
        const marker = up ? agent.disk.marker : null;
        const written = early && marker === null ? mark(wal, epoch) : null;
        return {
          what: early ? "position, and refuse writes" : "refuse writes",
          work: { step: 1 },
          disk: { phases, fencedEpoch: epoch, marker: written?.marker ?? marker },
          ...(written && { wal: written.wal }),
        };
      }
      if (writers.some((writing) => writing)) return null;
      if (agent.disk.marker !== null)
        return { what: "drained", work: { ...REACHED, evidence: agent.disk.marker } };
      const { marker, wal: longer } = mark(wal, epoch);
      return {
        what: `drained, and marker ${marker.marker} written`,
        work: { ...REACHED, evidence: marker },
        disk: { marker },
        wal: longer,
      };
    }
    default:
      throw new Error(`a source has no goal ${duty.goal}`);
  }
}

function mark(wal: readonly string[], epoch: number): { marker: Token; wal: readonly string[] } {
  return { marker: { epoch, marker: wal.length }, wal: [...wal, `m${epoch}`] };
}

function targetStep(model: Model, agent: AgentPart, duty: Duty, world: World, index: number): Done | null {
  const epoch = duty.epoch as number;
  const marker = world.environment.wal.lastIndexOf(`m${epoch}`, agent.disk.applied - 1);
  const seen = agent.disk.applied > 0 && marker >= 0;
  const own = duty.shares[duty.podId] === "opened" ? ("opened" as const) : ("transferred" as const);
  switch (duty.goal) {
    case "seed":
    case "follow":
      return { what: "following", work: REACHED };
    case "match":
      return seen
        ? { what: `marker ${marker} was applied`, work: { ...REACHED, evidence: { epoch, marker } } }
        : null;
    case "activate":
      if (!agent.disk.promoted)
        return seen ? { what: "promote", work: { step: 1 }, disk: { promoted: true } } : null;
      return {
        what: "identity and shares are durable",
        work: REACHED,
        disk: { phases: [model.wrong === "open-before-log" ? "opened" : own] },
      };
    case "open":
      return { what: `serve the organizations of target ${index}`, work: REACHED, disk: { phases: [own] } };
    case "release":
      return {
        what: "the copy is removed",
        work: REACHED,
        disk: { phases: ["source"], applied: 0, promoted: false, removed: true },
      };
    default:
      throw new Error(`a target has no goal ${duty.goal}`);
  }
}
