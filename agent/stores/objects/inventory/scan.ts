/** Brings a loaded inventory up to what is there, reading only objects whose size, time or inode is another. */

import { forEachParallel } from "../../common/parallel.ts";
import type { ListedObject, ObjectBackend } from "../backend/backend.ts";
import type { Inventory } from "./inventory.ts";

/** Hashing competes with the Pod's own work for the processor; more at once gains nothing. */
export const HASH_CONCURRENCY = 2;

export interface ScanOptions {
  readonly signal: AbortSignal;
  /** Reads one object into the inventory. */
  readonly refresh: (key: string) => Promise<void>;
  /** Keys of the inventory that are not there. Called when the listing has ended. */
  readonly onGone: (keys: readonly string[]) => Promise<void>;
  /** Other keys are passed over. */
  readonly only?: (key: string) => boolean;
  readonly onKept?: (key: string) => void;
  readonly onProgress?: (done: number, total: number) => void;
  readonly onTemporary?: (name: string) => void;
}

/** Returns what could not be listed, with the reason. */
export async function scanInto(
  inventory: Inventory,
  backend: ObjectBackend,
  options: ScanOptions,
): Promise<Map<string, string>> {
  const { signal, refresh, onGone, only, onKept, onProgress, onTemporary } = options;
  const unlistable = new Map<string, string>();
  const listed: ListedObject[] = [];
  const listing = backend.list({
    onUnlistable: (name, reason) => void unlistable.set(name, reason),
    ...(onTemporary ? { onTemporary } : {}),
  });
  for await (const object of listing) {
    signal.throwIfAborted();
    if (only?.(object.key) ?? true) listed.push(object);
  }
  let done = 0;
  onProgress?.(0, listed.length);
  await forEachParallel(listed, HASH_CONCURRENCY, async ({ key, version }) => {
    signal.throwIfAborted();
    if (inventory.get(key)?.version === version) onKept?.(key);
    else await refresh(key);
    done += 1;
    onProgress?.(done, listed.length);
  });
  const keys = new Set(listed.map(({ key }) => key));
  const gone = [...inventory.keys()].filter((key) => !keys.has(key) && (only?.(key) ?? true));
  await onGone(gone);
  return unlistable;
}
