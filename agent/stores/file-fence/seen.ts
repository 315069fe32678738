/** What of its writers this agent's kernel and /proc show it, and what of that an operator should know before a fence. */
import { readFile } from "node:fs/promises";
import type { Finding } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import { fileSystemAt } from "./file-systems.ts";
import { ownView } from "./processes.ts";

const finding = (store: StoreName, severity: Finding["severity"], message: string): Finding => ({
  store,
  severity,
  code: "WRITERS_ELSEWHERE",
  message,
});

/** What this agent does not see: empty where writers on the same machine and in the same PID namespace are all there are. */
export async function whatIsNotSeen(
  store: StoreName,
  folders: { readonly control: string; readonly root: string },
): Promise<Finding[]> {
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
  for (const [what, folder] of [
    ["writers' announcements", folders.control],
    ["the store", folders.root],
  ] as const) {
    const system = await fileSystemAt(folder).catch(() => null);
    if (system === null || system.isLocal) continue;
    findings.push(
      finding(
        store,
        "warning",
        `${what} in ${folder} are on a file system that other machines may write (${system.type}): no watch tells of their ` +
          "changes, so a fence lists everything, and a writer on another machine whose end is not announced is waited for " +
          "until an operator says that it has ended",
      ),
    );
  }
  return findings;
}

async function hidesProcesses(): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  return mounts
    .split("\n")
    .some((line) => line.split(" ")[4] === "/proc" && /\bhidepid=(?!0\b|off\b)/.test(line));
}

/** The same for a person who asks: what is seen, too. */
export async function whatIsSeen(folders: {
  readonly control: string;
  readonly root: string;
}): Promise<Finding> {
  const own = await ownView();
  const systems = await Promise.all(
    [folders.control, folders.root].map(
      async (folder) => (await fileSystemAt(folder).catch(() => null))?.type ?? "?",
    ),
  );
  return {
    store: null,
    severity: "info",
    code: "WRITERS_ELSEWHERE",
    message:
      `writers are seen in PID namespace ${own.pidNamespace ?? "unknown"} of host ${own.host ?? "unknown"}, ` +
      `and no others; ${folders.control} is on ${systems[0]}, ${folders.root} on ${systems[1]}`,
  };
}
