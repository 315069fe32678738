/** `--coverage`: what many seeds passed, as a table; a hole is a failure of its own. */
import { type Coverage, holesIn } from "../coverage/coverage.ts";
import { coverageTable, rarest } from "../coverage/table.ts";

/** Of `--coverage`, when every seed passed and something was never reached. */
export const HOLES_EXIT_CODE = 14;

/** Returns the exit code: that of the runs when they failed. */
export function reportCoverage(coverage: Coverage, runsExitCode: number): number {
  for (const line of coverageTable(coverage)) console.log(line);
  console.log(`rarest marks             ${rarest(coverage.marks, 5)}`);
  console.log(`rarest transitions       ${rarest(coverage.transitions, 5)}`);
  if (runsExitCode !== 0) return runsExitCode;
  const { marks, transitions } = holesIn(coverage);
  return marks.length + transitions.length > 0 ? HOLES_EXIT_CODE : 0;
}
