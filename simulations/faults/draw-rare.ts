/** Faults that would drown among the others: in some seeds there is one of them. */
import { EVENT_SCHEMAS, type EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import { type Fault, RARE_KINDS } from "./fault.ts";

const SHARE = 0.2;

/** What an older version may not know: every event of a migration. */
const NEWER_EVENTS = (Object.keys(EVENT_SCHEMAS) as EventType[]).filter(
  (type) => type !== "ClusterConfigured",
);

export function drawRare(
  chance: Chance,
  hosts: readonly string[],
  whenOf: (chance: Chance) => Fault["when"],
): Fault[] {
  if (!chance.chance(SHARE)) return [];
  const pods = hosts.filter((host) => host.startsWith("pod"));
  const kind = chance.pick([...RARE_KINDS, "older-version"] as const);
  const when = whenOf(chance.fork("when"));
  const forMs = chance.chance(0.5) ? chance.skewed(100, 3_000) : 500 + chance.next() * 9_000;
  switch (kind) {
    case "older-version": {
      const target = chance.chance(0.35) ? (pods[0] as string) : chance.pick(hosts);
      return [{ kind, target, when, forMs, amount: 0, event: chance.pick(NEWER_EVENTS) }];
    }
    case "log-redelivery":
      return [{ kind, target: "*", when, forMs, amount: 0.1 + 0.4 * chance.next() }];
    case "slot-loss":
      return [{ kind, target: chance.pick(pods.slice(1)), when, forMs: 0, amount: 0 }];
    case "unreadable-source":
      return [{ kind, target: pods[0] as string, when, forMs, amount: 0 }];
    case "late-writes":
      return [{ kind, target: chance.pick(pods), when, forMs, amount: chance.skewed(50, 3_000) }];
  }
}
