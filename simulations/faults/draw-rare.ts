/** Faults that would drown among the others: in some seeds there is one of them. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import type { Fault } from "./fault.ts";

const SHARE = 0.25;
const DELIVERY_SHARE = 0.08;
const REPORTS_SHARE = 0.08;
const FOR_GOOD_SHARE = 0.1;

/** Some more often than the others, because less of what they do is seen. */
const KINDS = [
  "log-redelivery",
  "slot-loss",
  "unreadable-source",
  "rotten-disk",
  "late-writes",
  "older-version",
  "older-version",
  "older-version",
] as const;

const COPYING: readonly EventType[] = ["PreflightPassed", "SeedingCompleted", "ReplicasCaughtUp"];
const GIVING_AWAY: readonly EventType[] = ["FenceRaised", "SourceDrained", "AuthorityTransferred"];

/** Events in about their order: an older version is met by one that comes soon after it was started. */
const IN_ORDER: readonly EventType[] = [
  "ClusterConfigured",
  "MigrationPlanned",
  "PreflightStarted",
  "PreflightPassed",
  "SeedingCompleted",
  "ReplicasCaughtUp",
  "CutoverApproved",
  "FenceRaised",
  "SourceDrained",
  "AuthorityTransferred",
  "Opened",
  "FenceLowered",
  "ReplicasCaughtUp",
  "FenceRaised",
  "ConsensusReached",
  "Opened",
  "TransferRevoked",
  "MigrationAborted",
  "MigrationPlanned",
  "PreflightStarted",
  "PreflightRefused",
];

export function drawRare(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  return [
    ...drawOne(chance, hosts, whenOf),
    ...drawDelivery(chance.fork("delivery"), hosts, whenOf),
    ...drawReports(chance.fork("reports"), hosts, whenOf),
    ...drawForGood(chance.fork("for good"), hosts, whenOf),
  ];
}

/**
 * A process that hears no reports goes on with old ones. Often a coordinator that has heard everything of a fence which
 * nobody could decide on, and hears nothing of what came after.
 */
function drawReports(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  if (!chance.chance(REPORTS_SHARE)) return [];
  const forMs = 3_000 + chance.next() * 9_000;
  const fault = { kind: "reports-stall", forMs, amount: 0 } as const;
  if (chance.chance(0.3))
    return [{ ...fault, target: chance.pick(hosts), when: whenOf(chance.fork("when")) }];
  const begin = { on: "FenceRaised", nth: chance.pick([1, 1, 1, 2]), afterMs: 0 } as const;
  const mute = { kind: "mute", when: begin, forMs: chance.whole(1_000, 5_000), amount: 0 } as const;
  return [
    { ...mute, target: "c1" },
    { ...mute, target: "c2" },
    { ...fault, target: chance.pick(["c1", "c2"]), when: { ...begin, afterMs: chance.whole(40, 400) } },
  ];
}

/** Somebody whom the others have to do without: a coordinator, or a target that nobody is served by. */
function drawForGood(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  if (!chance.chance(FOR_GOOD_SHARE)) return [];
  const target = chance.pick(hosts.filter((host) => host !== "pod-0"));
  const dead = target.startsWith("pod") ? "machine-crash" : "crash";
  const kind = chance.pick([dead, dead, "isolate"] as const);
  return [{ kind, target, when: whenOf(chance.fork("when")), forMs: 0, amount: 0, forGood: true }];
}

/** Mostly the source, just when it gives organizations away: what it does not hear of, it must not deny. */
function drawDelivery(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  if (!chance.chance(DELIVERY_SHARE)) return [];
  const forMs = 1_500 + chance.next() * 9_000;
  const fault = { kind: "delivery-stall", forMs, amount: 0 } as const;
  if (chance.chance(0.4))
    return [{ ...fault, target: chance.pick(hosts), when: whenOf(chance.fork("when")) }];
  const on = chance.pick(GIVING_AWAY);
  const when = { on, nth: chance.pick([1, 1, 2]), afterMs: on === "SourceDrained" ? chance.skewed(0, 2) : 0 };
  return [{ ...fault, target: "pod-0", when }];
}

function drawOne(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  if (!chance.chance(SHARE)) return [];
  const pods = hosts.filter((host) => host.startsWith("pod"));
  const source = pods[0] as string;
  const kind = chance.pick(KINDS);
  const when = whenOf(chance.fork("when"));
  const forMs = chance.chance(0.5) ? chance.skewed(100, 3_000) : 500 + chance.next() * 9_000;
  switch (kind) {
    case "older-version": {
      const at = chance.whole(0, IN_ORDER.length - 2);
      const next = Math.min(IN_ORDER.length - 1, at + chance.pick([1, 1, 2, 3]));
      const event = IN_ORDER[next] as EventType;
      const target = chance.chance(0.35) ? source : chance.pick(hosts);
      const soon = { on: IN_ORDER[at] as EventType, nth: 1, afterMs: chance.skewed(0, 100) };
      return [{ kind, target, when: soon, forMs: Math.max(1_000, forMs), amount: 0, event }];
    }
    case "log-redelivery":
      return [{ kind, target: "*", when, forMs, amount: 0.1 + 0.4 * chance.next() }];
    case "slot-loss":
      return [{ kind, target: chance.pick(pods.slice(1)), when, forMs: 0, amount: 0 }];
    case "unreadable-source":
      return [{ kind, target: source, when, forMs, amount: 0 }];
    case "rotten-disk":
      return [
        {
          kind,
          target: chance.pick(pods.slice(1)),
          // What is copied while it lasts is what it can spoil.
          when: { on: chance.pick(COPYING), nth: 1, afterMs: chance.skewed(0, 500) },
          forMs: 3_000 + chance.next() * 9_000,
          amount: 0,
        },
      ];
    case "late-writes":
      return [{ kind, target: chance.pick(pods), when, forMs, amount: chance.skewed(50, 3_000) }];
  }
}
