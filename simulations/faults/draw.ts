/** Swarm testing: each seed first draws which kinds are on at all, then faults of those. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import { FAULT_KINDS, type Fault, type FaultKind } from "./fault.ts";

const MOMENTS: readonly EventType[] = [
  "MigrationPlanned",
  "PreflightStarted",
  "PreflightPassed",
  "SeedingCompleted",
  "ReplicasCaughtUp",
  "CutoverApproved",
  "FenceRaised",
  "FenceRaised",
  "FenceRaised",
  "SourceDrained",
  "AuthorityTransferred",
  "AuthorityTransferred",
  "AuthorityTransferred",
  "Opened",
  "Opened",
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
  const count = chance.fork("count").whole(1, 14);
  return Array.from({ length: count }, (_, i) => drawFault(chance.fork(`fault ${i}`), on, hosts, calmAtMs));
}

function drawFault(
  chance: Chance,
  kinds: readonly FaultKind[],
  hosts: readonly string[],
  calmAtMs: number,
): Fault {
  const kind = chance.pick(kinds);
  const pods = hosts.filter((host) => host.startsWith("pod"));
  const when =
    kind === "cut-after-deciding"
      ? { on: chance.pick(DECISIONS), nth: chance.pick([1, 1, 1, 2]), afterMs: 0 }
      : chance.chance(0.6)
        ? { on: chance.pick(MOMENTS), nth: chance.pick([1, 1, 1, 2]), afterMs: chance.skewed(0, 500) }
        : { at: chance.skewed(0, calmAtMs * 0.9) };
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
      return chance.pick(hosts);
  }
}

function lengthOf(kind: FaultKind, chance: Chance): number {
  if (kind === "clock-jump") return 0;
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
