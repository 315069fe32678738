/** Writers that the agent can neither see nor judge: how they are named, and what is said of them before a fence waits. */
import { join } from "node:path";
import type { Finding, OwnProblem } from "../../../protocol/evidence.ts";
import { lifeOf, ownView } from "../machine/processes.ts";
import { type Intent, readAnnouncement } from "./announcement.ts";
import { type FencedStore, fencePaths } from "./layout.ts";
import { listAfresh } from "./list-afresh.ts";

/** One whose end nobody here can see, announced in the file `path`. */
export interface UnseenWriter {
  /** Null: the announcement cannot be read. */
  readonly intent: Intent | null;
  /** When it was announced, by the clock of the file's server: for people alone. */
  readonly sinceMs: number | null;
  readonly path: string;
}

const MAX_NAMED = 10;
/** How a drain's words of such a writer begin. */
export const WAITING = "waiting for ";

/** `said` is what is known of any writer; where the agent cannot see it, what an operator needs to look for it. */
export async function describeWriter(said: string, { intent, sinceMs, path }: UnseenWriter): Promise<string> {
  if (intent !== null && (await lifeOf(intent)) !== "unseen") return said;
  const own = await ownView();
  const where =
    intent === null
      ? "whose announcement cannot be read"
      : intent.view == null
        ? "which did not say from which host and PID namespace (a writer of an older version)"
        : `on host ${intent.view.host ?? "unknown"} in PID namespace ${intent.view.pidNamespace ?? "unknown"}` +
          `${intent.view.boot === own.boot ? "" : " of another boot or machine"}, which this agent cannot see`;
  // What a file says of its time may be no date at all.
  const at = new Date(sinceMs ?? Number.NaN);
  const since = Number.isNaN(at.getTime()) ? "" : ` since ${at.toISOString()}`;
  return `${said} ${where},${since} in ${path}`;
}

/** Those that are announced now. `proveEnd` as of the drain: who is proven to have ended is none. */
export async function unseenWriters(
  control: string,
  store: FencedStore,
  proveEnd: ((key: string) => Promise<boolean>) | null,
): Promise<UnseenWriter[]> {
  const folder = fencePaths(control).inflight(store);
  const found: UnseenWriter[] = [];
  for (const name of await listAfresh(folder).catch(() => [])) {
    const path = join(folder, name);
    const read = await readAnnouncement(path);
    if (read === null || read.announced === "incomplete") continue;
    const { announced, sinceMs } = read;
    if (announced === "unreadable") found.push({ intent: null, sinceMs, path });
    else if ((await lifeOf(announced)) === "unseen" && !(await proveEnd?.(announced.key).catch(() => false)))
      found.push({ intent: announced, sinceMs, path });
  }
  return found;
}

/**
 * What to say of them. `lasting`: they were there for so long that a fence would wait for them in vain; before that they
 * may be writers that are about to end, of which the operator hears all the same.
 */
export async function findingsOf(
  store: FencedStore,
  writers: readonly UnseenWriter[],
  lasting: boolean,
): Promise<Finding[]> {
  return Promise.all(
    writers.slice(0, MAX_NAMED).map(async (writer, index) => {
      const said =
        writer.intent === null
          ? "a writer"
          : `process ${writer.intent.pid}, writing ${JSON.stringify(writer.intent.key)},`;
      const more = index === 0 && writers.length > 1 ? ` (one of ${writers.length})` : "";
      return {
        store,
        severity: lasting ? "error" : "warning",
        code: "WRITER_UNSEEN",
        message: `${await describeWriter(said, writer)}${more}`.slice(0, 2_000),
      } satisfies Finding;
    }),
  );
}

/** What a drain says of writers that it waits for, as problems; not of those that it has ended. */
export function waitedFor(stragglers: readonly string[]): OwnProblem[] {
  return stragglers
    .filter((text) => text.startsWith(WAITING))
    .map((text) => ({ code: "DRAIN_INCOMPLETE", message: text.slice(0, 2_000) }));
}
