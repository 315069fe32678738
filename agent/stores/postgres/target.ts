/** What the targets of splits, moves and rollbacks do alike. Their steps are in split/, move/ and reverse/. */
import type { Duty } from "../../../protocol/ports/store.ts";
import type { StatusBoard } from "./status-board.ts";
import { type Step, type TargetSteps, takeTargetStep } from "./steps.ts";

export interface RemovingTarget extends TargetSteps {
  readonly removeRows: Step;
}

/** @throws CleaveError INTERNAL when the goal is no target's; else what the step throws. */
export async function reachAsTarget(
  target: RemovingTarget,
  board: StatusBoard,
  duty: Duty,
  signal: AbortSignal,
): Promise<void> {
  board.lagBoundBytes = duty.settings.lagBounds.postgresBytes;
  switch (duty.goal) {
    case "removeFiles":
      // Files are other stores'; a Pod that gave its share back stays as closed as it is.
      if (duty.shares[duty.podId] === "opened") return target.open(duty, signal);
      return board.set({ reached: true });
    case "removeRows":
      return target.removeRows(duty, signal);
    default:
      return takeTargetStep(target, duty, signal);
  }
}
