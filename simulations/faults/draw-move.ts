/** Faults that only a move can meet; some of them in some of the seeds that draw one. */
import type { EventType } from "../../protocol/events.ts";
import type { Chance } from "../world/random.ts";
import type { Fault } from "./fault.ts";

const SHARE = 0.3;
const KINDS = ["snapshot-loss", "membership-change", "truncate", "schema-change", "lossy-stream"] as const;

export function drawMoveFaults(chance: Chance): Fault[] {
  if (!chance.chance(SHARE)) return [];
  const kind = chance.pick(KINDS);
  const on: EventType =
    kind === "snapshot-loss"
      ? "PreflightPassed"
      : chance.pick(["PreflightPassed", "SeedingCompleted", "ReplicasCaughtUp", "FenceRaised"]);
  const when = { on, nth: 1, afterMs: chance.skewed(0, kind === "snapshot-loss" ? 600 : 1_500) };
  const forMs = kind === "lossy-stream" ? chance.whole(50, 2_000) : 0;
  return [{ kind, target: "pod-0", when, forMs, amount: 0 }];
}
