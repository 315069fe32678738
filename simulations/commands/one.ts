/** One run, told. */
import { EXIT_CODES, type Report } from "../run.ts";

export function show(report: Report, traced: boolean): number {
  if (!traced) for (const line of report.story) console.log(line);
  const { seed, verdict, invariant, message, hash, virtualMs, realMs, events, acknowledged, reads } = report;
  console.log(
    `seed ${seed}: ${verdict}${invariant ? ` ${invariant}` : ""}; trace ${hash}; ${(virtualMs / 1000).toFixed(1)} s in ${Math.round(realMs)} ms, ${events} events, ${acknowledged} writes, ${reads} reads`,
  );
  if (message) console.log(message);
  return EXIT_CODES[verdict];
}
