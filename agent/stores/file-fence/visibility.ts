/** What of its writers this agent's kernel and /proc show it, and what of that an operator should know before a fence. */
import type { Finding } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import type { IdentifiedRoot } from "../common/root/identity.ts";
import { fileSystemAt } from "../machine/file-systems.ts";
import { hidesProcesses } from "../machine/mounts.ts";
import { ownView } from "../machine/processes.ts";

const finding = (store: StoreName, severity: Finding["severity"], message: string): Finding => ({
  store,
  severity,
  code: "WRITERS_ELSEWHERE",
  message,
});

/** Where writers announce themselves, and where they write. */
export interface WritersPlaces {
  /** The fence's `control` folder. */
  readonly control: string;
  readonly root: Pick<IdentifiedRoot, "place" | "medium">;
}

const mediaOf = async ({ control, root }: WritersPlaces) =>
  [
    ["writers' announcements", control, await fileSystemAt(control).catch(() => null)],
    ["the store", root.place, await root.medium()],
  ] as const;

/** What this agent does not see: empty where writers on the same machine and in the same PID namespace are all there are. */
export async function whatIsNotSeen(store: StoreName, places: WritersPlaces): Promise<Finding[]> {
  const findings: Finding[] = [];
  const own = await ownView();
  if (own.pidNamespace === null || own.boot === null)
    findings.push(
      finding(
        store,
        "warning",
        "/proc is not that of this agent's own PID namespace, so it sees no writer's process: one that dies in the middle of " +
          "a write is waited for until an operator says that it has ended",
      ),
    );
  else if (await hidesProcesses())
    findings.push(
      finding(
        store,
        "warning",
        "/proc is mounted with hidepid, so writers of other users are not seen: one that dies in the middle of a write may " +
          "be waited for until an operator says that it has ended",
      ),
    );
  for (const [what, place, medium] of await mediaOf(places)) {
    if (medium === null || medium.isLocal) continue;
    findings.push(
      finding(
        store,
        "warning",
        `${what} in ${place} are on a file system that other machines may write (${medium.type}): no watch tells of their ` +
          "changes, so a fence lists everything, and a writer on another machine whose end is not announced is waited for " +
          "until an operator says that it has ended",
      ),
    );
  }
  return findings;
}

/** The same for a person who asks: what is seen, too. */
export async function whatIsSeen(places: WritersPlaces): Promise<Finding> {
  const own = await ownView();
  const media = await mediaOf(places);
  return {
    store: null,
    severity: "info",
    code: "WRITERS_ELSEWHERE",
    message:
      `writers are seen in PID namespace ${own.pidNamespace ?? "unknown"} of host ${own.host ?? "unknown"}, ` +
      `and no others; ` +
      media.map(([, place, medium]) => `${place} is on ${medium?.type ?? "?"}`).join(", "),
  };
}
