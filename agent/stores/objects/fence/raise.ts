/** Raising the fence around objects (rule 4): refuse, drain, and only then look at what is there. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { Epoch } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { enforce } from "../../common/fence/shares.ts";
import { orAborted } from "../../common/or-aborted.ts";
import type { InventoryDigest } from "../../common/verification/inventory-digest.ts";
import type { ObjectsContext } from "../context.ts";
import type { SourceTracker } from "../inventory/tracker.ts";

/** What the source held of the fenced organizations when their writers had ended. */
export interface SourceFinal {
  readonly epoch: Epoch;
  readonly generation: number;
  readonly digest: string;
}

export interface RaiseOptions {
  readonly context: ObjectsContext;
  readonly tracker: SourceTracker;
  readonly inScope: (key: string) => boolean;
  /** Resolves when the inventory is complete, with the digest of what is in scope, which follows every change. */
  readonly track: (signal: AbortSignal) => Promise<InventoryDigest>;
  /** Writers that are waited for past the grace, and at last those that were ended. */
  readonly onStragglers: (texts: string[]) => void;
}

/**
 * Resolves when every writer of the fenced organizations has ended and what they wrote is in the inventory.
 * @throws CleaveError OBJECT_UNREADABLE, OWNER_UNKNOWN or one of the root when that cannot be vouched for; the signal's reason. The fence
 * stands all the same.
 */
export async function raiseFence(
  { context, tracker, inScope, track, onStragglers }: RaiseOptions,
  duty: Duty & { readonly epoch: Epoch },
  signal: AbortSignal,
): Promise<{ readonly final: SourceFinal; readonly details: Evidence["details"] }> {
  const { fence, clock, ownerLookup, changed } = context;
  const startedAt = clock.monotonic();
  await enforce(fence, duty);
  const digest = await track(signal);
  let waiting: string[] = [];
  const { stragglers } = await fence.drain({
    store: "objects",
    migrationId: duty.migrationId,
    graceMs: duty.settings.cutover.drainGraceMs,
    signal,
    ownerOf: (key) => ownerLookup.object(key),
    onWaiting: (texts) => {
      if (texts.join() === waiting.join()) return;
      waiting = texts;
      onStragglers(texts);
      changed();
    },
  });
  onStragglers(stragglers);
  const drainedAt = clock.monotonic();
  await orAborted(tracker.settle(inScope), signal);
  // What was checked earlier has to hold still: all that was read before was read from this root.
  await context.root.require();
  const [fault] = tracker.faults();
  if (fault) throw new CleaveError(fault.code, fault.message);
  const { generation } = await context.inventory();
  return {
    final: { epoch: duty.epoch, generation, digest: digest.countedRoot },
    details: {
      objects: digest.size,
      generation,
      drainMs: Math.round(drainedAt - startedAt),
      settleMs: Math.round(clock.monotonic() - drainedAt),
    },
  };
}
