/** What a seed means, as data that can be edited: the cluster, its load, what the operator does, and the faults. */
import type { EventType } from "../protocol/events.ts";
import { drawFaults } from "./faults/draw.ts";
import { drawMoveFaults } from "./faults/draw-move.ts";
import type { Fault } from "./faults/fault.ts";
import {
  drawReverseReplication,
  drawReverseReplicationFaults,
  type ReverseReplicationScenario,
} from "./scenario-reverse-replication.ts";
import { Chance } from "./world/random.ts";

export interface Incident {
  /** What is paused is resumed after a while. */
  readonly command: "abort" | "revoke" | "pause" | "finalize" | "rollback" | "giveUp";
  /** Given so long after the first such event. */
  readonly on: EventType;
  readonly afterMs: number;
  /** Of a revocation, a rollback, and a way back that is given up: which target, by its place. */
  readonly target: number;
}

export interface Retention {
  /** By the plan; null: an operator finalizes it. */
  readonly forMs: number | null;
  readonly dryRunFirst: boolean;
}

/** A cluster whose Pods all serve already, and a plan of the kind `move` instead of a split. */
export interface MoveScenario {
  /** Organizations that the other Pods serve, the first of them more than the others. */
  readonly residents: number;
  /** Rows of a transaction, at most. */
  readonly rows: number;
}

export interface Scenario {
  /** Null or absent: a split. */
  readonly move?: MoveScenario | null;
  readonly targets: number;
  readonly organizations: number;
  /** Of the organizations: how many stay. */
  readonly neighbours: number;
  readonly clients: number;
  readonly longShare: number;
  readonly approval: "manual" | "auto";
  readonly settings: {
    readonly settlingMs: number;
    readonly deadlineMs: number;
    readonly drainGraceMs: number;
    readonly openWithinMs: number;
    readonly readLeaseMs: number;
  };
  /** How far a target's PostgreSQL may be behind when it is ready. */
  readonly lagBytes?: number;
  readonly copyMs: number;
  readonly promotionMs: number;
  /** Clock of each host: calendar skew in milliseconds, and rate. */
  readonly clocks: Readonly<Record<string, { readonly skewMs: number; readonly rate: number }>>;
  /** The operator has the plan checked before it is started; approves before anything is ready. */
  readonly checksFirst?: boolean;
  readonly approvesEarly?: boolean;
  /** What ends the retention; absent: nothing does. */
  readonly retention?: Retention | null;
  /** The copies that were left behind are kept level; absent: they stay as they were at the transfer. */
  readonly reverseReplication?: ReverseReplicationScenario | null;
  readonly incidents: readonly Incident[];
  readonly faults: readonly Fault[];
  /** When faults stop at the latest. */
  readonly calmAtMs: number;
}

export const TARGETS = ["pod-100", "pod-101", "pod-102", "pod-103"] as const;

const REVERSE_REPLICATION_SHARE = 0.2;
/** A rollback takes as long again. */
const CALM_AFTER_REVERSE_REPLICATION_MS = 45_000;
const MOVES_SHARE = 0.15;
const FINALIZED_SHARE = 0.25;
const PAUSED_SHARE = 0.1;

type HowOften = "never" | "some" | "always";

/** @param moves @param reverseReplication `never`: what the seed drew before there were any */
export function drawScenario(
  seed: number,
  withFaults = true,
  moves: HowOften = "some",
  reverseReplication: HowOften = "some",
): Scenario {
  const scenario = drawMigration(seed, withFaults, moves);
  const chance = new Chance(seed).fork("way back");
  const isKept = chance.chance(REVERSE_REPLICATION_SHARE)
    ? reverseReplication !== "never"
    : reverseReplication === "always";
  return isKept ? withReverseReplication(scenario, chance, withFaults) : scenario;
}

function withReverseReplication(scenario: Scenario, chance: Chance, withFaults: boolean): Scenario {
  const isMove = scenario.move != null;
  const targets = isMove ? 1 : scenario.targets;
  const isFinalized = scenario.retention != null;
  const reverseReplication = drawReverseReplication(chance.fork("operator"), {
    isMove,
    targets,
    isFinalized,
  });
  const hosts = ["c1", "c2", "pod-0", ...TARGETS.slice(0, targets)];
  const more = withFaults ? drawReverseReplicationFaults(chance.fork("faults"), hosts, targets) : [];
  const pause: Incident = {
    command: "pause",
    on: "Opened",
    afterMs: chance.fork("pause").whole(100, 3_000),
    target: 0,
  };
  const pauses = withFaults && chance.fork("pauses").chance(0.15);
  return {
    ...scenario,
    reverseReplication,
    incidents: pauses ? [...scenario.incidents, pause] : scenario.incidents,
    // The plan's own time would end what the operator wants to roll back; and what is lost cannot be cleaned.
    retention:
      scenario.retention == null || reverseReplication.lost !== null
        ? null
        : { ...scenario.retention, forMs: null },
    faults: [...scenario.faults, ...more],
    calmAtMs: Math.max(scenario.calmAtMs, CALM_AFTER_REVERSE_REPLICATION_MS),
  };
}

function drawMigration(seed: number, withFaults: boolean, moves: HowOften): Scenario {
  const scenario = withRetention(drawSplit(seed, withFaults), new Chance(seed).fork("retention"), withFaults);
  const chance = new Chance(seed).fork("move");
  const isMove = chance.chance(MOVES_SHARE) ? moves !== "never" : moves === "always";
  return isMove ? asMove(scenario, chance, withFaults) : scenario;
}

function withRetention(scenario: Scenario, chance: Chance, withFaults: boolean): Scenario {
  const ends = chance.chance(FINALIZED_SHARE);
  const forMs = chance.chance(0.3) ? chance.whole(0, 3_000) : null;
  const dryRunFirst = chance.chance(0.3);
  const pauses = withFaults && chance.chance(PAUSED_SHARE);
  const on = chance.pick<EventType>([
    "PreflightPassed",
    "SeedingCompleted",
    "ReplicasCaughtUp",
    "Opened",
    "RetentionEnded",
    "RetentionEnded",
    "FilesRemoved",
  ]);
  const pause: Incident = { command: "pause", on, afterMs: chance.skewed(0, 300), target: 0 };
  return {
    ...scenario,
    retention: ends ? { forMs, dryRunFirst } : null,
    incidents: pauses ? [...scenario.incidents, pause] : scenario.incidents,
  };
}

/** The same cluster, faults and operator, with two Pods or more that serve, and a few organizations that move. */
function asMove(scenario: Scenario, chance: Chance, withFaults: boolean): Scenario {
  const { organizations, neighbours, targets } = scenario;
  const moving = chance.whole(1, 4);
  const residents = organizations - neighbours - moving;
  const rows = chance.pick([1, 1, 3, 40]);
  const rare = withFaults ? drawMoveFaults(chance.fork("faults")) : [];
  return ofMoves({
    ...scenario,
    targets: Math.max(1, targets),
    faults: [...scenario.faults, ...rare],
    move: { residents, rows },
  });
}

/** A move is planned by an event of its own: what waits for a plan, or does not know one, means that. */
export function ofMoves(scenario: Scenario): Scenario {
  const own = (type: EventType): EventType => (type === "MigrationPlanned" ? "MovePlanned" : type);
  return {
    ...scenario,
    incidents: scenario.incidents.map((incident) => ({ ...incident, on: own(incident.on) })),
    faults: scenario.faults.map((fault) => ({
      ...fault,
      ...(fault.event === undefined ? {} : { event: own(fault.event) }),
      when: "on" in fault.when ? { ...fault.when, on: own(fault.when.on) } : fault.when,
    })),
  };
}

function drawSplit(seed: number, withFaults: boolean): Scenario {
  const root = new Chance(seed).fork("scenario");
  const cluster = root.fork("cluster");
  const targets = cluster.pick([2, 2, 2, 1, 3]);
  const hosts = ["c1", "c2", "pod-0", ...TARGETS.slice(0, targets)];
  const clock = root.fork("clocks");
  const skewed = withFaults && clock.chance(0.5);
  const clocks = Object.fromEntries(
    hosts.map((host) => [
      host,
      skewed
        ? { skewMs: Math.round((clock.next() - 0.5) * 1_600), rate: 1 + (clock.next() - 0.5) * 0.04 }
        : { skewMs: 0, rate: 1 },
    ]),
  );
  const settings = root.fork("settings");
  const operator = root.fork("operator");
  const habits = root.fork("habits");
  const calmAtMs = 25_000;
  return {
    targets,
    organizations: 20,
    neighbours: cluster.whole(2, 8),
    clients: cluster.whole(2, 8),
    longShare: withFaults && cluster.chance(0.6) ? cluster.pick([0.04, 0.2]) : 0,
    approval: operator.pick(["manual", "auto"]),
    settings: {
      settlingMs: settings.whole(200, 2_000),
      deadlineMs: settings.pick([settings.whole(150, 900), settings.whole(700, 4_000)]),
      drainGraceMs: settings.whole(20, 600),
      openWithinMs: settings.whole(1_000, 8_000),
      readLeaseMs: settings.whole(200, 2_000),
    },
    copyMs: settings.whole(50, 1_500),
    promotionMs: settings.whole(5, 400),
    clocks,
    checksFirst: habits.chance(0.1),
    approvesEarly: habits.chance(0.1),
    incidents: withFaults ? drawIncidents(operator, targets) : [],
    faults: withFaults ? drawFaults(root.fork("faults"), hosts, calmAtMs) : [],
    calmAtMs,
  };
}

function drawIncidents(operator: Chance, targets: number): Incident[] {
  const incidents: Incident[] = [];
  if (operator.chance(0.15)) {
    const on = operator.pick<EventType>([
      "MigrationPlanned",
      "PreflightStarted",
      "PreflightPassed",
      "SeedingCompleted",
      "ReplicasCaughtUp",
      "FenceRaised",
      "FenceRaised",
      "SourceDrained",
    ]);
    incidents.push({ command: "abort", on, afterMs: operator.skewed(0, 800), target: 0 });
  }
  if (operator.chance(0.12))
    incidents.push({
      command: "revoke",
      on: "AuthorityTransferred",
      afterMs: operator.skewed(0, 400),
      target: operator.whole(0, targets - 1),
    });
  if (operator.chance(0.05))
    incidents.push({
      command: "abort",
      on: operator.pick<EventType>(["AuthorityTransferred", "Opened", "MigrationAborted"]),
      afterMs: operator.skewed(0, 400),
      target: 0,
    });
  return incidents;
}
