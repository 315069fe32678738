/**
 * What runs have passed: marks of the program, transitions of the machine, and which faults met which messages in which
 * state. Plain counts, so that the threads' results add up in any order.
 */
import { MARKS } from "../../protocol/marks.ts";
import { FAULT_KINDS } from "../faults/fault.ts";
import { graphOfTheMachine, nameOf } from "./graph.ts";

/** By a name, how many runs passed it. */
export type Counts = Record<string, number>;

export interface Coverage {
  runs: number;
  readonly marks: Counts;
  /** `from event to`. */
  readonly transitions: Counts;
  /** `fault state message`. */
  readonly cells: Counts;
}

/** What is on its way between processes, as far as the simulator tells it apart. */
export const MESSAGES = [
  "append",
  "last",
  "record",
  "report",
  "blob",
  "feed",
  "wal",
  "guard",
  "write",
  "read",
] as const;
export type Message = (typeof MESSAGES)[number];

export const MESSAGE_WORDS: Readonly<Record<Message, string>> = {
  append: "an append to the log, or its answer",
  last: "a question for the log's end, or its answer",
  record: "a record on its way to a reader",
  report: "an agent's report",
  blob: "assignments put or fetched",
  feed: "a source's news of its files, to a target",
  wal: "WAL, to a target",
  guard: "a question to a guard, or its answer",
  write: "a client's write, or its answer",
  read: "a client's read, or its answer",
};

export const noCoverage = (): Coverage => ({ runs: 0, marks: {}, transitions: {}, cells: {} });

export function addCoverage(sum: Coverage, more: Coverage): void {
  sum.runs += more.runs;
  for (const key of ["marks", "transitions", "cells"] as const)
    for (const [name, count] of Object.entries(more[key])) sum[key][name] = (sum[key][name] ?? 0) + count;
}

export interface Holes {
  readonly marks: readonly string[];
  readonly transitions: readonly string[];
}

export function holesIn(coverage: Coverage): Holes {
  return {
    marks: Object.keys(MARKS).filter((mark) => !coverage.marks[mark]),
    transitions: graphOfTheMachine()
      .reachable.map(nameOf)
      .filter((name) => !coverage.transitions[name]),
  };
}

/** Of one fault in one state: which messages it met, with the number of runs. */
export function messagesMet(coverage: Coverage, fault: string, state: string): [Message, number][] {
  return MESSAGES.flatMap((message): [Message, number][] => {
    const count = coverage.cells[`${fault} ${state} ${message}`] ?? 0;
    return count > 0 ? [[message, count]] : [];
  });
}

/** Cells of the matrix that were met, of all. */
export function cellsMet(coverage: Coverage): { readonly met: number; readonly all: number } {
  const states = graphOfTheMachine().restingStates;
  const all = FAULT_KINDS.length * states.length * MESSAGES.length;
  const met = FAULT_KINDS.flatMap((fault) => states.flatMap((state) => messagesMet(coverage, fault, state)));
  return { met: met.length, all };
}
