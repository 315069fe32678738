import { createColors } from "picocolors";

/**
 * Whether output to a stream is coloured: on a terminal, unless NO_COLOR says no; elsewhere only where FORCE_COLOR
 * says yes. Machines that build and test ("CI") get what a pipe gets: their logs are read by programs too.
 */
export function wantsColors(environment: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
  if (environment.NO_COLOR) return false;
  if (environment.FORCE_COLOR) return environment.FORCE_COLOR !== "0";
  return isTerminal && environment.TERM !== "dumb";
}

/** The colours of this process's output; functions that leave a text as it is where there are none. */
const colors = createColors(wantsColors(process.env, process.stdout.isTTY === true));
export default colors;

/** Those of the other stream: one may be a terminal while the other is a file. */
export const errorColors = createColors(wantsColors(process.env, process.stderr.isTTY === true));
