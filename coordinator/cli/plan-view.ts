/** A plan in words: what will happen when it is started. */

import type { Assignments } from "../../protocol/assignments.ts";
import type { Plan } from "../../protocol/plan.ts";
import { counted, formatAmount } from "../../protocol/wording.ts";
import pc from "./colors.ts";
import { duration } from "./format.ts";

/** Organizations per target. */
export function shares(assignments: Assignments): Map<string, number> {
  const perPod = new Map<string, number>();
  for (const pod of assignments.values()) perPod.set(pod, (perPod.get(pod) ?? 0) + 1);
  return perPod;
}

export function planView(plan: Plan, assignments: Assignments): string {
  const { settlingMs, lagBounds, cutover } = plan.settings;
  const targets = shares(assignments);
  const bounds = [
    formatAmount(lagBounds.postgresBytes, "bytes"),
    counted(lagBounds.gitRepositories, "repository", "repositories"),
    counted(lagBounds.objects, "object"),
  ].join(", ");
  const begins =
    cutover.approval === "manual"
      ? "waits for an operator's approval"
      : `begins by itself, at most ${counted(cutover.attempts, "attempt")}`;
  const table = [...targets].map(
    ([pod, organizations]) => `       ${pod.padEnd(20)} ${counted(organizations, "organization")}`,
  );
  return [
    `${pc.bold(plan.migration)} is planned; nothing was touched. When it is started:`,
    "  1. every Pod is checked; one error refuses the split before anything is changed",
    `  2. ${[...targets.keys()].join(", ")}: each becomes a replica of all of ${plan.source}`,
    `  3. when all are within ${bounds} for ${duration(settlingMs)}, the cutover ${begins}`,
    `  4. ${counted(assignments.size, "organization")} can only be read for a moment, ${duration(cutover.deadlineMs)} at most, and are then served by`,
    ...table,
    `  All other organizations stay on ${plan.source}.`,
  ].join("\n");
}
