/** Waiting for the writers that may have passed the share before it was replaced (rule 4), and ending the slow ones. */
import { readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Owner } from "../common/inventory/owner-lookup.ts";
import { readIfPresent } from "./durable-files.ts";
import {
  type FencedStore,
  fencePaths,
  findShare,
  type Intent,
  organizationHash,
  ownerFile,
  parseIntent,
  parseRoute,
  routeFile,
  SHARED,
  shareFile,
} from "./layout.ts";
import { isAlive, signalWriter } from "./processes.ts";

const POLL_MS = 2;
/** Between SIGTERM and SIGKILL. */
const TERMINATE_MS = 100;

export interface DrainOptions {
  readonly store: FencedStore;
  readonly migrationId: MigrationId;
  readonly graceMs: number;
  readonly signal: AbortSignal;
  /** A straggler in words, for the operator. */
  readonly describe?: (writer: Intent) => string;
  /**
   * The owner of a key. By default what `owners/git` says. Null is unknown: waited for, but never ended, since it
   * might be a neighbour's.
   */
  readonly ownerOf?: (key: string) => Owner | null;
  /** Called while writers are waited for past the grace, with each one's description. */
  readonly onWaiting?: (stragglers: string[]) => void;
}

/** `skip`: cannot have passed, or is not fenced. `wait`: may be fenced, or serves others too. `end`: may be terminated. */
type Concern = "skip" | "wait" | "end";

export async function drainWriters(
  control: string,
  clock: Clock,
  options: DrainOptions,
): Promise<{ stragglers: string[] }> {
  const { store, signal, graceMs } = options;
  const folder = fencePaths(control).inflight(store);
  const describe = options.describe ?? ((w: Intent) => `process ${w.pid}, writing ${JSON.stringify(w.key)}`);
  const startedAt = clock.monotonic();
  const pending = new Map<string, { intent: Intent; concern: Concern }>();
  const signalled = new Map<string, "SIGTERM" | "SIGKILL">();
  const stragglers: string[] = [];

  // Only what is there now can have read the old share: later writers read the new one.
  for (const name of await readdir(folder)) {
    const intent = parseIntent((await readOrNull(join(folder, name))) ?? "");
    // Incomplete: its writer reads the share only after completing it, hence the new one.
    if (intent === null) continue;
    let concern = await concernOf(control, options, intent.key);
    if (concern === "end" && intent.server) concern = "wait";
    if (concern !== "skip") pending.set(name, { intent, concern });
  }

  for (;;) {
    signal.throwIfAborted();
    const present = new Set(await readdir(folder));
    const elapsedMs = clock.monotonic() - startedAt;
    for (const [name, { intent, concern }] of pending) {
      if (!present.has(name)) {
        pending.delete(name);
      } else if (!(await isAlive(intent))) {
        await moveToDirty(control, store, name);
        pending.delete(name);
      } else if (elapsedMs >= graceMs && concern === "end" && intent.pid !== process.pid) {
        const next = elapsedMs >= graceMs + TERMINATE_MS ? "SIGKILL" : "SIGTERM";
        if (signalled.get(name) === next) continue;
        // Ending a process that also writes for an organization that is not fenced would refuse a neighbour's write.
        if (await writesForNeighbours(control, options, intent)) continue;
        if (!(await signalWriter(intent, next))) continue;
        if (!signalled.has(name)) stragglers.push(`terminated ${describe(intent)}`);
        signalled.set(name, next);
      }
    }
    if (pending.size === 0) return { stragglers };
    if (elapsedMs >= graceMs)
      options.onWaiting?.([...pending.values()].map(({ intent }) => `waiting for ${describe(intent)}`));
    await clock.sleep(POLL_MS, signal);
  }
}

async function writesForNeighbours(control: string, options: DrainOptions, writer: Intent): Promise<boolean> {
  const folder = fencePaths(control).inflight(options.store);
  for (const name of await readdir(folder)) {
    const other = parseIntent((await readOrNull(join(folder, name))) ?? "");
    if (other?.pid === writer.pid && (await concernOf(control, options, other.key)) === "skip") return true;
  }
  return false;
}

async function moveToDirty(control: string, store: FencedStore, name: string): Promise<void> {
  const paths = fencePaths(control);
  await rename(join(paths.inflight(store), name), join(paths.dirty(store), name)).catch((error: unknown) => {
    // Somebody else who looked for dead writers was first.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  });
}

async function concernOf(control: string, options: DrainOptions, key: string): Promise<Concern> {
  const hash = await ownerHash(control, options, key);
  if (hash === "unknown") return "wait";
  // A writer without an owner file waits for it, and reads the share afterwards, hence the new one.
  if (hash === "not yet" || hash === SHARED) return "skip";
  const route = parseRoute((await readIfPresent(routeFile(control, hash))) ?? "");
  if (route?.migrationId !== options.migrationId || route.targetPodId === null) return "skip";
  const shares = (await readIfPresent(shareFile(control, options.migrationId))) ?? "";
  const share = findShare(shares, route.targetPodId);
  if (share === null) return "wait";
  return share.phase === "fenced" ? "end" : "skip";
}

async function ownerHash(control: string, options: DrainOptions, key: string): Promise<string> {
  if (options.ownerOf) {
    const owner = options.ownerOf(key);
    if (owner === null) return "unknown";
    return owner.kind === "shared" ? SHARED : organizationHash(owner.organizationId);
  }
  let path: string;
  try {
    path = ownerFile(control, key);
  } catch {
    return "unknown";
  }
  const line = (await readIfPresent(path))?.trimEnd();
  return line === undefined || line === "" ? "not yet" : line;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
