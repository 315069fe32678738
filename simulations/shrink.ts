/** Delta debugging: the smallest faults and workload with which the same checker still fails. */
import type { Fault } from "./faults/fault.ts";
import { type Report, simulate } from "./run.ts";
import type { Scenario } from "./scenario.ts";

/** Simulations that one shrinking may cost. */
const BUDGET = 150;

export async function shrink(failure: Report, budget = BUDGET): Promise<Report> {
  let best = failure;
  let left = budget;
  /** Keeps a smaller scenario when it fails in the same way. */
  const keepsFailing = async (scenario: Scenario): Promise<boolean> => {
    if (left-- <= 0) return false;
    const report = await simulate({ seed: failure.seed, scenario });
    const same = report.verdict === failure.verdict && report.invariant === failure.invariant;
    if (same) best = report;
    return same;
  };
  await shrinkList(best.scenario.faults, (faults) => keepsFailing({ ...best.scenario, faults }));
  await shrinkList(best.scenario.incidents, (incidents) => keepsFailing({ ...best.scenario, incidents }));
  for (const simpler of simplerWorkloads(best.scenario)) await keepsFailing({ ...best.scenario, ...simpler });
  await shortenFaults(() => best.scenario, keepsFailing);
  return best;
}

/** Leaves out ever smaller parts, as long as what is left still fails (ddmin). */
async function shrinkList<T>(
  all: readonly T[],
  fails: (some: readonly T[]) => Promise<boolean>,
): Promise<void> {
  let kept = all;
  let parts = 2;
  while (kept.length > 0) {
    const size = Math.max(1, Math.ceil(kept.length / parts));
    let smaller: readonly T[] | null = null;
    for (let at = 0; at < kept.length && smaller === null; at += size) {
      const rest = [...kept.slice(0, at), ...kept.slice(at + size)];
      if (await fails(rest)) smaller = rest;
    }
    if (smaller !== null) {
      kept = smaller;
      parts = Math.max(2, parts - 1);
    } else if (size === 1) return;
    else parts = Math.min(kept.length, parts * 2);
  }
}

function* simplerWorkloads(scenario: Scenario): Generator<Partial<Scenario>> {
  yield { clocks: {} };
  for (const clients of [0, 1, 2]) if (clients < scenario.clients) yield { clients };
  if (scenario.longShare > 0) yield { longShare: 0 };
  if (scenario.organizations > 4)
    yield {
      organizations: 4,
      neighbours: 1,
      ...(scenario.move ? { move: { residents: 2, rows: scenario.move.rows } } : {}),
    };
  if (scenario.targets > 1) yield { targets: 1 };
}

async function shortenFaults(
  newest: () => Scenario,
  fails: (scenario: Scenario) => Promise<boolean>,
): Promise<void> {
  for (let i = 0; i < newest().faults.length; i++) {
    const scenario = newest();
    const fault = scenario.faults[i] as Fault;
    const faults = scenario.faults.map((other) =>
      other === fault ? { ...fault, forMs: fault.forMs / 2 } : other,
    );
    if (fault.forMs > 100) await fails({ ...scenario, faults });
  }
}
