import type { MigrationStatus } from "../../../api/ports.ts";
import { duration } from "../model/words.ts";
import { now } from "../state/live.ts";

/** The read-only window as it passes, and what is left of it. */
export function FenceClock({ migration }: { migration: MigrationStatus }) {
  const { fence } = migration;
  if (fence === null) return null;
  const totalMs = fence.deadlineAt - fence.raisedAt;
  const passedMs = Math.max(0, now.value - fence.raisedAt);
  const leftMs = fence.deadlineAt - now.value;
  return (
    <div class="fence">
      <p>
        <strong>Read-only for {duration(passedMs)}</strong>, epoch {fence.epoch}.{" "}
        {leftMs > 0
          ? `${duration(leftMs)} until the source serves again by itself.`
          : "The deadline is over: the source is about to serve again."}
      </p>
      <progress
        aria-label="Part of the window that is used"
        max={totalMs}
        value={Math.min(totalMs, passedMs)}
      />
    </div>
  );
}
