/** Waiting for the writers that may have passed the share before it was replaced (rule 4), and ending the slow ones. */
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { readIfPresent } from "../../../protocol/adapters/durable-files.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Owner } from "../common/inventory/owner-lookup.ts";
import { lifeOf, ownView, sees, signalWriter } from "../machine/processes.ts";
import { type Announcement, type Intent, readAnnouncement } from "./announcement.ts";
import {
  type FencedStore,
  fencePaths,
  findShare,
  organizationHash,
  ownerFile,
  parseRoute,
  routeFile,
  SHARED,
  shareFile,
} from "./layout.ts";
import { listAfresh } from "./list-afresh.ts";
import { describeWriter, WAITING } from "./unseen-writers.ts";

const POLL_MS = 2;
/** Proving the end of a writer that cannot be seen costs a look at what it writes. */
const PROVE_MS = 20;
/** Between SIGTERM and SIGKILL. */
const TERMINATE_MS = 100;

/** Whether what the writer of this key holds while it writes is gone: proof of an end that needs no look at its process. */
export type ProveEnd = (key: string) => Promise<boolean>;

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

interface Pending {
  /** Null: there is an announcement, and nobody can read who announced what. */
  readonly intent: Intent | null;
  readonly concern: Concern;
  readonly sinceMs: number | null;
  provenAt: number;
}

export async function drainWriters(
  control: string,
  clock: Clock,
  options: DrainOptions,
  proveEnd: ProveEnd | null,
): Promise<{ stragglers: string[] }> {
  const { store, signal, graceMs } = options;
  const folder = fencePaths(control).inflight(store);
  const describe = options.describe ?? ((w: Intent) => `process ${w.pid}, writing ${JSON.stringify(w.key)}`);
  const startedAt = clock.monotonic();
  const pending = new Map<string, Pending>();
  const signalled = new Map<string, "SIGTERM" | "SIGKILL">();
  const stragglers: string[] = [];

  const take = async (name: string) => {
    const found = await readAnnouncement(join(folder, name));
    const waits = found && (await waitFor(control, options, found.announced));
    if (found && waits) pending.set(name, { ...waits, sinceMs: found.sinceMs, provenAt: 0 });
    else pending.delete(name);
  };
  // Only what is there now can have read the old share: later writers read the new one.
  for (const name of await listAfresh(folder)) await take(name);

  const isOver = async (one: Pending, now: number): Promise<boolean> => {
    const { intent } = one;
    if (intent === null) return false;
    const life = await lifeOf(intent);
    if (life !== "unseen" || proveEnd === null || now - one.provenAt < PROVE_MS) return life === "ended";
    one.provenAt = now;
    return proveEnd(intent.key).catch(() => false);
  };

  for (;;) {
    signal.throwIfAborted();
    const present = new Set(await listAfresh(folder));
    const now = clock.monotonic();
    const elapsedMs = now - startedAt;
    for (const [name, one] of pending) {
      const { intent, concern } = one;
      if (!present.has(name)) {
        pending.delete(name);
      } else if (await isOver(one, now)) {
        await moveToDirty(control, store, name);
        pending.delete(name);
      } else if (intent === null) {
        await take(name);
      } else if (elapsedMs >= graceMs && concern === "end" && !(await isThisProcess(intent))) {
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
    if (elapsedMs >= graceMs) {
      const texts = [...pending].map(async ([name, { intent, sinceMs }]) => {
        const said = intent === null ? "a writer" : describe(intent);
        return `${WAITING}${await describeWriter(said, { intent, sinceMs, path: join(folder, name) })}`;
      });
      options.onWaiting?.(await Promise.all(texts));
    }
    await clock.sleep(POLL_MS, signal);
  }
}

/** Null: it cannot have passed, or is nobody's concern. */
async function waitFor(
  control: string,
  options: DrainOptions,
  announced: Announcement,
): Promise<{ intent: Intent | null; concern: Concern } | null> {
  // Its writer reads the share only after completing it, hence the new one.
  if (announced === "incomplete") return null;
  if (announced === "unreadable") return { intent: null, concern: "wait" };
  let concern = await concernOf(control, options, announced.key);
  // Who asked the fence for another organization than the key's owner may have passed a fence that is the owner's.
  const { organization } = announced;
  if (organization && concern === "skip" && (await isFenced(control, options, organization)))
    concern = "wait";
  if (concern === "end" && announced.server) concern = "wait";
  return concern === "skip" ? null : { intent: announced, concern };
}

async function isThisProcess(intent: Intent): Promise<boolean> {
  return intent.pid === process.pid && intent.view != null && sees(await ownView(), intent.view);
}

async function writesForNeighbours(control: string, options: DrainOptions, writer: Intent): Promise<boolean> {
  const folder = fencePaths(control).inflight(options.store);
  for (const name of await listAfresh(folder)) {
    const other = (await readAnnouncement(join(folder, name)))?.announced;
    if (typeof other !== "object" || other.pid !== writer.pid) continue;
    if ((await concernOf(control, options, other.key)) === "skip") return true;
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
  return concernOfHash(control, options, hash);
}

async function concernOfHash(control: string, options: DrainOptions, hash: string): Promise<Concern> {
  const route = parseRoute((await readIfPresent(routeFile(control, hash))) ?? "");
  if (route?.migrationId !== options.migrationId || route.targetPodId === null) return "skip";
  const shares = (await readIfPresent(shareFile(control, options.migrationId))) ?? "";
  const share = findShare(shares, route.targetPodId);
  if (share === null) return "wait";
  return share.phase === "fenced" ? "end" : "skip";
}

async function isFenced(control: string, options: DrainOptions, hash: string): Promise<boolean> {
  // Hostile: a path is made of it.
  return !/^[0-9a-f]{64}$/.test(hash) || (await concernOfHash(control, options, hash)) !== "skip";
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
