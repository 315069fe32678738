/** The summary that a terminal shows; `html.ts` has the whole. */
import { MARKS } from "../../protocol/marks.ts";
import { FAULT_KINDS } from "../faults/fault.ts";
import { type Coverage, cellsMet, holesIn, MESSAGES, messagesMet } from "./coverage.ts";
import { graphOfTheMachine, nameOf } from "./graph.ts";

export function coverageTable(coverage: Coverage): string[] {
  const { reachable, onlyForTotality, restingStates } = graphOfTheMachine();
  const holes = holesIn(coverage);
  const { met, all } = cellsMet(coverage);
  const marks = Object.keys(MARKS);
  const width = Math.max(...FAULT_KINDS.map((kind) => kind.length));
  const short = restingStates.map((state) => state.slice(0, 5));
  const lines = [
    `of ${MESSAGES.length} kinds of messages, so many met the fault in that state:`,
    `${"".padEnd(width)}  ${short.map((state) => state.padStart(5)).join(" ")}`,
    ...FAULT_KINDS.map((fault) => {
      const counts = restingStates.map((state) => messagesMet(coverage, fault, state).length);
      return `${fault.padEnd(width)}  ${counts.map((count) => (count === 0 ? "·" : String(count)).padStart(5)).join(" ")}`;
    }),
    "",
    `fault × state × message  ${met} of ${all} (${Math.round((100 * met) / all)} %)`,
    `transitions              ${reachable.length - holes.transitions.length} of ${reachable.length} reachable (${onlyForTotality.map(nameOf).join(", ")}: no record ends there)`,
    `marks                    ${marks.length - holes.marks.length} of ${marks.length}`,
  ];
  for (const name of holes.transitions) lines.push(`  never taken: ${name}`);
  for (const name of holes.marks) lines.push(`  never passed: ${name}`);
  return lines;
}

/** The least visited, so that a reader sees what hangs by a thread. */
export function rarest(counts: Readonly<Record<string, number>>, most: number): string {
  return Object.entries(counts)
    .sort((a, b) => a[1] - b[1])
    .slice(0, most)
    .map(([name, count]) => `${name} (${count})`)
    .join(", ");
}
