/** Raising the fence around repositories (rule 4): refuse, drain, and only then look at what is there. */
import { setImmediate as turn } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { stageRoutes } from "../../common/fence/shares.ts";
import type { HeadLocks } from "../backend/backend.ts";
import type { GitContext } from "../context.ts";
import { type Tracker, unannouncedText } from "../inventory/tracker.ts";
import type { InventoryView } from "../verification/inventory-view.ts";

const LOOK_MS = 10;
/** Others have their turn in between: the guard answers while a fence goes up. */
const GLANCES_AT_ONCE = 16;

export interface RaiseOptions {
  readonly context: GitContext;
  readonly tracker: Tracker;
  /** The refusal, begun before whatever takes long. */
  readonly enforced: Promise<void>;
  /** Null where the hook sees changes of HEAD. */
  readonly headLocks: HeadLocks | null;
  /** The repositories of the fenced organizations, asked for when the inventory is complete. */
  readonly viewOf: (duty: Duty) => InventoryView;
  /** Writers that are waited for past the grace, and at last those that were ended. */
  readonly onStragglers: (texts: string[]) => void;
}

/**
 * Resolves when every writer of the fenced organizations has ended and what they wrote is in the inventory.
 * @throws CleaveError DRAIN_INCOMPLETE when somebody holds a HEAD for too long; the signal's reason. The fence stands all
 * the same.
 */
export async function raiseFence(
  { context, tracker, enforced, headLocks, viewOf, onStragglers }: RaiseOptions,
  duty: Duty,
  signal: AbortSignal,
): Promise<void> {
  const { inventory, fence, changed } = context;
  await enforced;
  // A restarted agent finds its repositories here, if it has to; otherwise both are done long ago.
  await stageRoutes(fence, duty);
  await tracker.start();
  const view = viewOf(duty);
  const graceMs = duty.settings.cutover.drainGraceMs;
  const moved: string[] = [];
  const [{ stragglers }] = await Promise.all([
    fence.drain({
      store: "git",
      migrationId: duty.migrationId,
      graceMs,
      signal,
      describe: (writer) => `git (process ${writer.pid}) in ${writer.key}`,
      onWaiting: (texts) => {
        onStragglers(texts);
        changed();
      },
    }),
    headLocks?.hold(view.paths, {
      // A writer that is terminated gives its lock back a moment later.
      graceMs: graceMs + 500,
      signal,
      onHeld: (path, headVersion) => {
        if (inventory.headLooksChanged(path, headVersion)) moved.push(path);
      },
    }),
    glanceAtAll(context, view, moved, signal),
  ]);
  onStragglers(stragglers);
  await withoutUnannounced(context, tracker, view, graceMs, signal);
  await tracker.settle(view, signal);
  await Promise.all([...new Set(moved)].map((path) => tracker.lookAgain(path)));
  // A repository that was found just now has its lock to come.
  await headLocks?.hold(view.paths, { graceMs, signal });
}

/** Configuration, modes, symbolic refs: no hook is told of them, and whatever was there before the fence counts. */
async function glanceAtAll(
  { inventory }: GitContext,
  view: InventoryView,
  changed: string[],
  signal: AbortSignal,
): Promise<void> {
  let count = 0;
  for (const path of view.paths) {
    if (inventory.glanceChanged(path)) changed.push(path);
    count += 1;
    if (count % GLANCES_AT_ONCE === 0) await turn(undefined, { signal });
  }
}

/**
 * Resolves when no ref is locked any more that was locked before its repository had a hook: that writer asked nobody.
 * @throws CleaveError DRAIN_INCOMPLETE when one still is after `graceMs`.
 */
async function withoutUnannounced(
  { clock }: GitContext,
  tracker: Tracker,
  view: InventoryView,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  const startedAt = clock.monotonic();
  for (;;) {
    const [first] = await tracker.unannounced(view, signal);
    if (first === undefined) return;
    const [path, lock] = first;
    if (clock.monotonic() - startedAt > graceMs)
      throw new CleaveError("DRAIN_INCOMPLETE", unannouncedText(path, lock));
    await clock.sleep(LOOK_MS, signal);
  }
}
