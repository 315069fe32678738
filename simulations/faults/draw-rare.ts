/** Faults that would drown among the others: in some seeds there is one of them. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import { type Fault, RARE_KINDS } from "./fault.ts";

const SHARE = 0.25;

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
  if (!chance.chance(SHARE)) return [];
  const pods = hosts.filter((host) => host.startsWith("pod"));
  const source = pods[0] as string;
  const kind = chance.pick([...RARE_KINDS, "older-version", "older-version"] as const);
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
      return [{ kind, target: chance.pick(pods.slice(1)), when, forMs, amount: 0 }];
    case "late-writes":
      return [{ kind, target: chance.pick(pods), when, forMs, amount: chance.skewed(50, 3_000) }];
  }
}
