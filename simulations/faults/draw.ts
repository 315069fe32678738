/** Swarm testing: each seed first draws which kinds are on at all, then faults of those. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import { FAULT_KINDS, type Fault, type FaultKind } from "./fault.ts";

/** Moments at which little time passes in a migration and much is decided come more often. */
const MOMENTS: readonly EventType[] = [
  "MigrationPlanned",
  "PreflightPassed",
  "SeedingCompleted",
  "ReplicasCaughtUp",
  "CutoverApproved",
  "CutoverApproved",
  "FenceRaised",
  "FenceRaised",
  "FenceRaised",
  "FenceRaised",
  "SourceDrained",
  "SourceDrained",
  "AuthorityTransferred",
  "AuthorityTransferred",
  "AuthorityTransferred",
  "Opened",
  "Opened",
  "FenceLowered",
  "FenceLowered",
  "TransferRevoked",
  "MigrationAborted",
];
const DECISIONS: readonly EventType[] = [
  "FenceRaised",
  "AuthorityTransferred",
  "SeedingCompleted",
  "ReplicasCaughtUp",
];

export function drawFaults(chance: Chance, hosts: readonly string[], calmAtMs: number): Fault[] {
  const on = FAULT_KINDS.filter((kind) => chance.fork(`on ${kind}`).chance(0.3));
  if (on.length === 0) return [];
  const count = chance.fork("count").whole(1, 12);
  // A storm: several faults around one moment.
  const storm = chance.fork("storm").chance(0.4) ? momentOf(chance.fork("storm")) : null;
  return Array.from({ length: count }, (_, i) => {
    const own = chance.fork(`fault ${i}`);
    const when = whenOf(own.fork("when"), storm, calmAtMs);
    return drawFault(own, when, on, hosts);
  });
}

type When = Fault["when"];
type Moment = Extract<When, { on: EventType }>;

function momentOf(chance: Chance): Moment {
  const afterMs = chance.chance(0.6) ? chance.skewed(0, 25) : chance.skewed(0, 900);
  return { on: chance.pick(MOMENTS), nth: chance.pick([1, 1, 1, 1, 2, 3]), afterMs };
}

function whenOf(chance: Chance, storm: Moment | null, calmAtMs: number): When {
  if (storm !== null && chance.chance(0.6)) return { ...storm, afterMs: chance.skewed(0, 120) };
  return chance.chance(0.65) ? momentOf(chance) : { at: chance.skewed(0, calmAtMs * 0.9) };
}

function drawFault(
  chance: Chance,
  moment: When,
  kinds: readonly FaultKind[],
  hosts: readonly string[],
): Fault {
  const kind = chance.pick(kinds);
  const pods = hosts.filter((host) => host.startsWith("pod"));
  const when =
    kind === "cut-after-deciding"
      ? { on: chance.pick(DECISIONS), nth: chance.pick([1, 1, 1, 2]), afterMs: 0 }
      : moment;
  return {
    kind,
    target: targetOf(kind, chance, hosts, pods),
    when,
    forMs: lengthOf(kind, chance),
    amount: amountOf(kind, chance),
  };
}

function targetOf(
  kind: FaultKind,
  chance: Chance,
  hosts: readonly string[],
  pods: readonly string[],
): string {
  switch (kind) {
    case "machine-crash":
    case "postgres-crash":
    case "stores-fail":
    case "disk-full":
      return chance.pick(pods);
    case "replay-stall":
    case "corrupt-copy":
      return chance.pick(pods.slice(1));
    case "log-stall":
    case "log-stale":
    case "log-lost-answers":
    case "bus-loss":
    case "bus-doubling":
    case "bus-shuffle":
    case "blobs-unavailable":
    case "peers-cut":
    case "cut-after-deciding":
      return "*";
    default:
      // The source holds what everybody needs, so it is hit more often.
      return chance.chance(0.35) ? (pods[0] as string) : chance.pick(hosts);
  }
}

function lengthOf(kind: FaultKind, chance: Chance): number {
  if (kind === "clock-jump" || kind === "corrupt-copy") return 0;
  return chance.chance(0.5) ? chance.skewed(20, 2_000) : 300 + chance.next() * 7_000;
}

function amountOf(kind: FaultKind, chance: Chance): number {
  switch (kind) {
    case "clock-jump":
      return Math.round((chance.next() - 0.5) * 5_000);
    case "slow":
      return chance.skewed(2, 120);
    case "bus-shuffle":
      return chance.skewed(5, 2_000);
    case "bus-loss":
    case "bus-doubling":
    case "log-lost-answers":
      return 0.1 + 0.8 * chance.next();
    default:
      return 0;
  }
}
