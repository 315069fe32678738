/**
 * The writer's side of the file fence: for every program that writes objects (or repositories without the hook).
 * An `inflight` file first, then the share, then the write, then `dirty`: so the fence sees every writer that might
 * have passed it, and the agent hears of every change.
 */
import { randomUUID } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CleaveError } from "../../../protocol/errors.ts";
import type { PodId } from "../../../protocol/ids.ts";
import { carriedPathFault } from "../git/inventory/repository-path.ts";
import { ownStartTime, ownView } from "../machine/processes.ts";
import { keyFault } from "../objects/inventory/keys.ts";
import { formatIntent } from "./announcement.ts";
import { type FencedStore, fencePaths, organizationHash } from "./layout.ts";
import { readPhase } from "./verdict.ts";

export { readPhase } from "./verdict.ts";

/** A refused write: `WRITE_FENCED` (try again soon) or `WRONG_POD`. `podId` is the authoritative Pod. */
export class WriteRefused extends CleaveError {
  readonly podId: PodId;
  constructor(code: "WRITE_FENCED" | "WRONG_POD", message: string, podId: PodId) {
    super(code, message);
    this.name = "WriteRefused";
    this.podId = podId;
  }
}

export interface WriteIntent {
  /** The `control` folder in the state directory of the agent beside. */
  readonly control: string;
  readonly store: FencedStore;
  /** Object key or repository path, exactly as the agent names it: relative, no `.`, `..` or empty segment. */
  readonly key: string;
  /** Null for content that is shared by all organizations: never refused, always tracked. */
  readonly organizationId: string | null;
  /**
   * `delete`: afterwards nothing has this key. Only what is announced so, or found by a look that nothing speaks against, is
   * deleted on other Pods. Default: `write`.
   */
  readonly change?: "write" | "delete";
  /**
   * `worker`: the process does this write and nothing else, so a fence ends it when it takes longer than the grace.
   * `server` (default): it serves others too and is never ended; a fence waits for the write, at most to its deadline.
   */
  readonly process?: "server" | "worker";
}

/**
 * Runs `write` if this Pod may write for the organization now. What `write` did is acknowledged to nobody before
 * this resolves. When it throws or the process dies, the key counts as changed.
 * @throws WriteRefused when it may not, and nothing was written.
 * @throws CleaveError POD_IDENTITY_UNKNOWN when the fence does not answer; OBJECT_KEY_INVALID for a key that the agent
 * would not carry, with the rule, and nothing was written; WRITE_REVOKED when the announcement was taken away meanwhile:
 * nobody knows whether the write counts, so nobody may be told that it does.
 */
export async function withWriteIntent<T>(intent: WriteIntent, write: () => Promise<T>): Promise<T> {
  const { control, store, key, organizationId, change = "write" } = intent;
  assertCarried(store, key);
  const paths = fencePaths(control);
  const id = randomUUID();
  const inflight = join(paths.inflight(store), id);
  const content = formatIntent({
    pid: process.pid,
    startTime: await ownStartTime(),
    key,
    server: intent.process !== "worker",
    change,
    view: await ownView(),
    organization: organizationId === null ? null : organizationHash(organizationId),
  });
  try {
    await writeFile(inflight, content, { flag: "wx", mode: 0o644 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new CleaveError("POD_IDENTITY_UNKNOWN", `${control} is not set up by an agent`, { cause: error });
  }
  try {
    if (organizationId !== null) await assertAllowed(control, organizationId);
  } catch (error) {
    await rm(inflight, { force: true });
    throw error;
  }
  let result: T;
  try {
    result = await write();
  } catch (error) {
    await rename(inflight, join(paths.dirty(store), id)).catch(() => undefined);
    throw error;
  }
  try {
    await rename(inflight, join(paths.dirty(store), id));
  } catch (error) {
    throw new CleaveError(
      "WRITE_REVOKED",
      `the announcement of ${JSON.stringify(key)} was taken away while it was being written: ${(error as Error).message}`,
      { cause: error },
    );
  }
  return result;
}

/** One rule for writers and agent: what the agent would not carry, or would know under another name, is not written. */
function assertCarried(store: FencedStore, key: string): void {
  const fault = store === "objects" ? keyFault(key) : carriedPathFault(key);
  if (fault === null) return;
  const what = store === "objects" ? "an object's key" : "a repository's path";
  const shown = JSON.stringify(key.length > 200 ? `${key.slice(0, 200)}…` : key);
  throw new CleaveError("OBJECT_KEY_INVALID", `${shown} is not ${what}: ${fault}`);
}

async function assertAllowed(control: string, organizationId: string): Promise<void> {
  const verdict = await readPhase(control, organizationId);
  if (verdict.allowed) return;
  const organization = JSON.stringify(organizationId);
  if (verdict.reason === "wrong-pod")
    throw new WriteRefused("WRONG_POD", `organization ${organization} is on ${verdict.podId}`, verdict.podId);
  throw new WriteRefused(
    "WRITE_FENCED",
    `organization ${organization} is read-only for a moment on ${verdict.podId}`,
    verdict.podId,
  );
}
