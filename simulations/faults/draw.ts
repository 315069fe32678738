/** Swarm testing: each seed first draws which kinds are on at all, then faults of those. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import { drawRare } from "./draw-rare.ts";
import { COMMON_KINDS, type Fault, type FaultKind } from "./fault.ts";

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
  const share = chance.fork("share").pick([0.1, 0.3]);
  const on = COMMON_KINDS.filter((kind) => chance.fork(`on ${kind}`).chance(share));
  const classic = chance.fork("classic").chance(0.45) ? drawClassic(chance.fork("classic"), hosts) : [];
  const rare = drawRare(chance.fork("rare"), hosts, (own) => whenOf(own, null, calmAtMs));
  if (on.length === 0) return [...classic, ...rare];
  const count = chance.fork("count").whole(1, classic.length > 0 ? 3 : 12);
  // A storm: several faults around one moment.
  const storm = chance.fork("storm").chance(0.4) ? momentOf(chance.fork("storm")) : null;
  const drawn = Array.from({ length: count }, (_, i) => {
    const own = chance.fork(`fault ${i}`);
    const when = whenOf(own.fork("when"), storm, calmAtMs);
    return drawFault(own, when, on, hosts);
  });
  return [...classic, ...drawn, ...rare];
}

/** Failures at the moments that decide, in whose short time a blind draw would rarely fall. */
function drawClassic(chance: Chance, hosts: readonly string[]): Fault[] {
  const source = "pod-0";
  const target = chance.pick(hosts.filter((host) => host.startsWith("pod") && host !== source));
  const long = () => 1_500 + chance.next() * 8_000;
  const at = (on: EventType, withinMs: number): When => ({
    on,
    nth: chance.pick([1, 1, 2]),
    afterMs: chance.skewed(0, withinMs),
  });
  const fault = (kind: FaultKind, who: string, when: When, amount = 0): Fault => ({
    kind,
    target: who,
    when,
    forMs: long(),
    amount,
  });
  return chance.pick<() => Fault[]>([
    // The source is cut off from the log at the transfer, and goes on serving readers.
    () => [fault("log-cut", source, at("AuthorityTransferred", 0.3))],
    () => [fault("deaf", source, at(chance.pick(["SourceDrained", "AuthorityTransferred"]), 1))],
    () => [fault("pause", source, at("AuthorityTransferred", 1))],
    // Targets that cannot match before the deadline.
    () => [fault("replay-stall", target, at(chance.pick(["ReplicasCaughtUp", "CutoverApproved"]), 5))],
    () => [fault("peers-cut", "*", at("FenceRaised", 5))],
    () => [fault("mute", source, at("FenceRaised", 10))],
    () => [fault("crash", "c1", at("FenceRaised", 10)), fault("crash", "c2", at("FenceRaised", 10))],
    // The source's agent dies while it drains; while it yields.
    () => [fault("crash", source, at("FenceRaised", 60))],
    () => [{ ...fault("crash", source, at("FenceRaised", 60)), forMs: chance.whole(1, 60) }],
    () => [fault("machine-crash", source, at(chance.pick(["FenceRaised", "AuthorityTransferred"]), 40))],
    // The target dies, or is late, between transfer and opening.
    () => [fault("crash", target, at("AuthorityTransferred", 100))],
    () => [fault("machine-crash", target, at(chance.pick(["AuthorityTransferred", "Opened"]), 200))],
    () => [fault("isolate", target, at("AuthorityTransferred", 50))],
    () => [fault("pause", target, at("AuthorityTransferred", 300))],
    () => [fault("stores-fail", target, at("AuthorityTransferred", 2))],
    () => [fault("corrupt-copy", target, at(chance.pick(["SeedingCompleted", "ReplicasCaughtUp"]), 200))],
    () => [
      fault("log-lost-answers", "*", at("FenceRaised", 20), 0.6),
      fault("crash", source, at("Opened", 20)),
    ],
    () => [
      // Reports of an agent's former life arrive after those of its next one.
      fault("bus-shuffle", "*", at("ReplicasCaughtUp", 5), 900),
      { ...fault("crash", source, at("FenceRaised", 30)), forMs: chance.whole(1, 300) },
    ],
  ])();
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
