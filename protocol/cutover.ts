/** When a fence is wanted: coordinators raise it, and agents call their hooks before it. Pure. */
import type { Migration } from "./cluster.ts";

/** Is a cutover wanted: by an operator, or by the plan while it has attempts left. */
export function cutoverWanted({ settings, context }: Migration): boolean {
  const { approval, attempts } = settings.cutover;
  return context.approvedBy !== null || (approval === "auto" && context.attempts < attempts);
}
