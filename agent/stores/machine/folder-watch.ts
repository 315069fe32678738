/**
 * Watches of folders, and the word that some of their events may be lost. The kernel keeps no more than
 * `max_queued_events` for a process and drops what comes then; Node passes over its word of that. But whoever has lost
 * events has been given that many at once, before anything else ran: so they are counted.
 */
import { type FSWatcher, readFileSync, watch } from "node:fs";

const DEFAULT_QUEUE = 16_384;
/** Events of watches that were closed take room and reach nobody. */
const SHARE = 0.5;

const listeners = new Set<() => void>();
let limit: number | null = null;
let events = 0;

function mostAtOnce(): number {
  let queue = DEFAULT_QUEUE;
  try {
    queue = Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8")) || DEFAULT_QUEUE;
  } catch {
    // The kernel's default, then.
  }
  return Math.max(1, queue * SHARE);
}

function beginAnew(): void {
  events = 0;
}

/** As `fs.watch`. All watches of a process have one queue, so all of them come from here. @throws as `fs.watch`. */
export function watchFolder(path: string, listener: (event: string, name: string | null) => void): FSWatcher {
  limit ??= mostAtOnce();
  return watch(path, (event, name) => {
    // Nothing but the queue's own events runs before this is set back.
    if (events === 0) setImmediate(beginAnew);
    events += 1;
    if (events === Math.floor(limit ?? 1)) for (const told of [...listeners]) told();
    listener(event, name);
  });
}

/** Told when events of any watch may be lost, before later ones are delivered. Returns what ends it. */
export function onLostEvents(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}
