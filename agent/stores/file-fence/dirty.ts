/** What writers changed or may have changed: handed to the agent until it has looked. */
import type { FSWatcher } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { CleaveError } from "../../../protocol/errors.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import { watchFolder } from "../machine/folder-watch.ts";
import { lifeOf } from "../machine/processes.ts";
import { readAnnouncement } from "./announcement.ts";
import type { ProveEnd } from "./drain.ts";
import { type FencedStore, fencePaths } from "./layout.ts";
import { listAfresh } from "./list-afresh.ts";

const READ_CONCURRENCY = 16;
/** Safety net behind fs.watch, and how often dead writers are looked for outside of a drain. */
const LIST_MS = 500;

/** A change that a writer made or may have made; handed out again until acknowledged. */
export interface DirtyEntry {
  readonly id: string;
  /** Null: nobody can read which, so that everything may have changed. */
  readonly key: string | null;
  /** `delete`: its writer passed the fence and announced that the key goes. Whether it went is to be looked at. */
  readonly change: "write" | "delete";
  /** Whose fence the writer asked, as `organizationHash`; null: not said, or content of all organizations. */
  readonly organization: string | null;
}

export async function takeDirty(control: string, store: FencedStore): Promise<DirtyEntry[]> {
  const folder = fencePaths(control).dirty(store);
  const entries: DirtyEntry[] = [];
  const names = (await listAfresh(folder)).values();
  const worker = async () => {
    for (const id of names) {
      const found = await readAnnouncement(join(folder, id));
      if (found === null) continue;
      const { announced } = found;
      if (announced === "unreadable") {
        entries.push({ id, key: null, change: "write", organization: null });
      } else if (announced === "incomplete") {
        // Only a power cut leaves half a file here, and the scan at the agent's start finds what it was about.
        await rm(join(folder, id), { force: true });
      } else {
        const { key, change = "write", organization = null } = announced;
        entries.push({ id, key, change, organization });
      }
    }
  };
  await Promise.all(Array.from({ length: READ_CONCURRENCY }, worker));
  return entries;
}

export async function acknowledgeDirty(control: string, store: FencedStore, id: string): Promise<void> {
  if (id.includes("/") || id.startsWith("."))
    throw new CleaveError("INTERNAL", `not the id of a dirty entry: ${JSON.stringify(id)}`);
  await rm(join(fencePaths(control).dirty(store), id), { force: true, recursive: true });
}

/** Keys of writers between begin and end; of those alone that announced such a change, if one is named. */
export async function inflightKeys(
  control: string,
  store: FencedStore,
  change?: DirtyEntry["change"],
): Promise<Set<string>> {
  const folder = fencePaths(control).inflight(store);
  const found = await Promise.all(
    (await listAfresh(folder)).map((name) => readAnnouncement(join(folder, name))),
  );
  return new Set(
    found.flatMap((one) => {
      if (one === null || typeof one.announced !== "object") return [];
      const { key, change: announced = "write" } = one.announced;
      return change === undefined || announced === change ? [key] : [];
    }),
  );
}

export interface WatchedDirty {
  readonly control: string;
  readonly store: FencedStore;
  readonly clock: Clock;
  readonly proveEnd: () => ProveEnd | null;
}

/** See `FileFence.watchDirty`. */
export function watchDirty(watched: WatchedDirty, listener: () => void | Promise<void>): () => void {
  const { control, store, clock } = watched;
  const ended = new AbortController();
  const folder = fencePaths(control).dirty(store);
  let watcher: FSWatcher | null = null;
  let running = false;
  let again = false;
  const notify = async () => {
    again = true;
    if (running) return;
    running = true;
    while (again && !ended.signal.aborted) {
      again = false;
      // What it did not acknowledge is still listed and brings it back here.
      await (async () => listener())().catch(() => undefined);
    }
    running = false;
  };
  const startWatcher = () => {
    try {
      watcher = watchFolder(folder, () => void notify());
      watcher.on("error", () => {
        watcher?.close();
        watcher = null;
      });
    } catch {
      // The folder is not there yet, or the system has no watch left: the listing below finds everything.
      watcher = null;
    }
  };
  const run = async () => {
    while (!ended.signal.aborted) {
      if (watcher === null) startWatcher();
      await reapDead(watched).catch(() => undefined);
      // Also what no watch tells of: another machine's writers, and events that were too many.
      const names = await listAfresh(folder).catch(() => []);
      if (names.length > 0) void notify();
      await clock.sleep(LIST_MS, ended.signal).catch(() => undefined);
    }
    watcher?.close();
  };
  void run();
  return () => ended.abort(new Error("no longer watched"));
}

async function reapDead({ control, store, proveEnd }: WatchedDirty): Promise<void> {
  const folder = fencePaths(control).inflight(store);
  for (const name of await listAfresh(folder)) {
    const path = join(folder, name);
    const announced = (await readAnnouncement(path))?.announced;
    if (typeof announced !== "object") continue;
    const life = await lifeOf(announced);
    if (life === "alive") continue;
    if (life === "unseen" && !(await proveEnd()?.(announced.key).catch(() => false))) continue;
    await rename(path, join(fencePaths(control).dirty(store), name)).catch(() => undefined);
  }
}
