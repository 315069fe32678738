/** While nobody copies from a Pod, what its writers announce is thrown away. */
import type { FileFence } from "./file-fence.ts";
import type { FencedStore } from "./layout.ts";

/**
 * Announced changes are of no use then, and a later migration begins with a scan. Returns what ends it.
 * `isTracked`: somebody takes them over.
 */
export function discardUntracked(fence: FileFence, store: FencedStore, isTracked: () => boolean): () => void {
  return fence.watchDirty(store, async () => {
    if (isTracked()) return;
    const announced = await fence.takeDirty(store);
    // Whoever began to track meanwhile may have looked before these were made.
    if (isTracked()) return;
    for (const { id } of announced) await fence.acknowledgeDirty(store, id);
  });
}
