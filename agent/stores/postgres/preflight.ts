/** Checks that change nothing: before a migration begins, and again right before the fence. */
import type { Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { checkMoveTargetFence, checkMoveTargetStart } from "./move/preflight.ts";
import { checkSourceFence, checkSourceStart } from "./preflight-source.ts";
import { checkTargetFence, checkTargetStart } from "./preflight-target.ts";

const CHECKS = {
  source: { start: checkSourceStart, fence: checkSourceFence },
  split: { start: checkTargetStart, fence: checkTargetFence },
  move: { start: checkMoveTargetStart, fence: checkMoveTargetFence },
} as const;

export async function preflight(
  options: PostgresStoreOptions,
  duty: Duty,
  stage: "start" | "fence",
  signal: AbortSignal,
): Promise<Finding[]> {
  signal.throwIfAborted();
  const findings = await CHECKS[duty.role === "source" ? "source" : duty.kind][stage](options, duty);
  signal.throwIfAborted();
  return findings;
}
