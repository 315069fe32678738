/** Every transition that the lifecycle machine allows, read from the machine itself. */
import { LIFECYCLES, type Lifecycle, migrationMachine } from "../../protocol/migration-machine.ts";

export interface Transition {
  readonly from: Lifecycle;
  readonly event: string;
  readonly to: Lifecycle;
}

export const nameOf = ({ from, event, to }: Transition): string => `${from} ${event} ${to}`;

interface Meta {
  readonly leftWithinTheRecordBy?: string;
}

export interface Graph {
  /** What can happen: from states that can be reached. */
  readonly reachable: readonly Transition[];
  /** Out of states in which no record ends, by anything but the event that the same record goes on with. */
  readonly onlyForTotality: readonly Transition[];
  /** States in which a record can end, in the machine's order. */
  readonly restingStates: readonly Lifecycle[];
}

/** Breadth first from the initial state. */
export function graphOfTheMachine(): Graph {
  const reachable: Transition[] = [];
  const onlyForTotality: Transition[] = [];
  const seen = new Set<string>([migrationMachine.root.initial.target[0]?.key ?? ""]);
  for (const state of seen) {
    const node = migrationMachine.root.states[state];
    if (!node) throw new Error(`the machine has no state ${state}`);
    const leftBy = (node.meta as Meta | undefined)?.leftWithinTheRecordBy;
    for (const [event, candidates] of node.transitions)
      for (const candidate of candidates) {
        // Without a target it stays where it is.
        const to = (candidate.target?.[0]?.key ?? state) as Lifecycle;
        const transition = { from: state as Lifecycle, event, to };
        if (leftBy !== undefined && event !== leftBy) onlyForTotality.push(transition);
        else {
          reachable.push(transition);
          seen.add(to);
        }
      }
  }
  const passing = new Set(onlyForTotality.map(({ from }) => from));
  const restingStates = LIFECYCLES.filter((state) => seen.has(state) && !passing.has(state));
  return { reachable, onlyForTotality, restingStates };
}

/** The machine takes a transition for this event in this state (which may lead nowhere else). */
export function takes(from: Lifecycle, event: string): boolean {
  return migrationMachine.root.states[from]?.transitions.has(event) ?? false;
}
