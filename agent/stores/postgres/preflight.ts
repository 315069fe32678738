/** Checks that change nothing: before a migration begins, right before the fence, and before dormant rows go. */
import type { CheckStage, Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { checkMoveTargetFence, checkMoveTargetStart } from "./move/preflight.ts";
import { checkSourceFence, checkSourceStart } from "./preflight-source.ts";
import { checkRemoval } from "./removal/preflight.ts";
import { checkRollbackSource, checkRollbackTargetStart } from "./reverse/preflight.ts";
import { checkTargetFence, checkTargetStart } from "./split/preflight-target.ts";

const CHECKS = {
  split: { start: checkTargetStart, fence: checkTargetFence },
  move: { start: checkMoveTargetStart, fence: checkMoveTargetFence },
  rollback: { start: checkRollbackTargetStart, fence: checkMoveTargetFence },
} as const;
const OF_SOURCES = {
  split: { start: checkSourceStart, fence: checkSourceFence },
  move: { start: checkSourceStart, fence: checkSourceFence },
  rollback: { start: checkRollbackSource, fence: checkSourceFence },
} as const;

export async function preflight(
  options: PostgresStoreOptions,
  duty: Duty,
  stage: CheckStage,
  signal: AbortSignal,
): Promise<Finding[]> {
  signal.throwIfAborted();
  const findings =
    stage === "removal"
      ? await checkRemoval(options, duty, signal)
      : await (duty.role === "source" ? OF_SOURCES : CHECKS)[duty.kind][stage](options, duty);
  signal.throwIfAborted();
  return findings;
}
