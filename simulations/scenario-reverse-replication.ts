/** What an operator does with a way back, and what may happen to it: drawn from forks of its own. */
import type { EventType } from "../protocol/events.ts";
import type { Fault, FaultKind } from "./faults/fault.ts";
import type { Chance } from "./world/random.ts";

export interface PlannedRollback {
  /** After the retention began, or after the rollback before it was over. */
  readonly afterMs: number;
  /** Whose organizations go back, by the target's place. */
  readonly target: number;
  /** How many of them; null: all that the Pod has. */
  readonly organizations: number | null;
  readonly approval: "manual" | "auto";
  /** The first attempt is aborted so long after such an event of its own. */
  readonly abort: { readonly on: EventType; readonly afterMs: number } | null;
  /** What it left on the Pod is removed; otherwise that is kept, and the migration cannot be finalized. */
  readonly finalized: boolean;
}

export interface ReverseReplicationScenario {
  /** One after another, each until it succeeds or the way back is given up. */
  readonly rollbacks: readonly PlannedRollback[];
  readonly giveUp: { readonly afterMs: number; readonly target: number } | null;
  readonly walBudgetBytes: number | null;
  /** Also where the copies are not level. */
  readonly finalizesDespite: boolean;
  /** Of a split: a Pod is lost for ever after it opened, and the operator accepts the loss. */
  readonly lost: { readonly afterMs: number; readonly target: number } | null;
}

/** Times and events of its own, so that what happens meets a rollback. */
const DURING: readonly EventType[] = [
  "RollbackPlanned",
  "RollbackPlanned",
  "RollbackPlanned",
  "FenceRaised",
  "SourceDrained",
  "AuthorityTransferred",
  "Opened",
];
const KINDS: readonly FaultKind[] = [
  "crash",
  "crash",
  "machine-crash",
  "postgres-crash",
  "pause",
  "isolate",
  "log-cut",
  "deaf",
  "mute",
  "peers-cut",
  "stores-fail",
  "disk-full",
  "log-stall",
  "bus-loss",
];
const ABORTED_ON: readonly EventType[] = [
  "RollbackPlanned",
  "PreflightPassed",
  "SeedingCompleted",
  "ReplicasCaughtUp",
  "FenceRaised",
  "FenceRaised",
  "SourceDrained",
  "AuthorityTransferred",
];
const SLOT_LOST_SHARE = 0.08;

export function drawReverseReplication(
  chance: Chance,
  { isMove, targets, isFinalized }: { isMove: boolean; targets: number; isFinalized: boolean },
): ReverseReplicationScenario {
  const isLost = !isMove && chance.chance(0.08);
  const target = chance.whole(0, targets - 1);
  const afterMs = chance.skewed(0, 4_000);
  const rollbacks = Array.from({ length: chance.pick([1, 1, 1, 2, 0]) }, (_, i) =>
    drawRollback(chance.fork(`rollback ${i}`), targets, isFinalized),
  );
  const budget = chance.chance(0.12) ? chance.whole(2_000, 20_000) : null;
  const givesUp = chance.chance(0.1);
  return {
    rollbacks: isLost ? [] : rollbacks,
    giveUp: givesUp && !isLost ? { afterMs: chance.skewed(0, 8_000), target } : null,
    walBudgetBytes: isLost ? null : budget,
    finalizesDespite: chance.chance(0.3),
    lost: isLost ? { afterMs, target } : null,
  };
}

function drawRollback(chance: Chance, targets: number, isFinalized: boolean): PlannedRollback {
  const on = chance.pick(ABORTED_ON);
  const afterMs =
    on === "SourceDrained" || on === "FenceRaised" ? chance.skewed(0, 60) : chance.skewed(0, 800);
  return {
    afterMs: chance.skewed(0, 3_000),
    target: chance.whole(0, targets - 1),
    organizations: chance.pick([null, 1, 1, 2]),
    approval: chance.pick(["manual", "auto"]),
    abort: chance.chance(0.2) ? { on, afterMs } : null,
    finalized: isFinalized || chance.chance(0.6),
  };
}

/** Some that meet a rollback: the others are mostly over by then. */
export function drawReverseReplicationFaults(
  chance: Chance,
  hosts: readonly string[],
  targets: number,
): Fault[] {
  const count = chance.pick([0, 1, 2, 3]);
  const faults = Array.from({ length: count }, (_, i): Fault => {
    const own = chance.fork(`fault ${i}`);
    const on = own.pick(DURING);
    // Of those that the migration before has as well, the next one is the rollback's.
    const nth = on === "RollbackPlanned" ? own.pick([1, 1, 2]) : on === "Opened" ? targets + 1 : 2;
    const kind = own.pick(KINDS);
    const afterMs = on === "RollbackPlanned" ? own.skewed(0, 4_000) : own.skewed(0, 40);
    const forMs = own.chance(0.5) ? own.skewed(50, 2_000) : 500 + own.next() * 5_000;
    const pods = hosts.filter((host) => host.startsWith("pod"));
    const [target, amount] =
      kind === "peers-cut" || kind === "log-stall" || kind === "bus-loss"
        ? ["*", 0.7]
        : [own.pick(kind === "crash" || kind === "pause" ? hosts : pods), 0];
    return { kind, target, when: { on, nth, afterMs }, forMs, amount };
  });
  if (!chance.chance(SLOT_LOST_SHARE)) return faults;
  const target = chance.pick(hosts.filter((host) => host.startsWith("pod-1")));
  const when = { on: "Opened", nth: 1, afterMs: chance.skewed(0, 4_000) } as const;
  return [...faults, { kind: "back-slot-loss", target, when, forMs: 0, amount: 0 }];
}
