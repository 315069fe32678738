/**
 * What a writer says of itself: a file of `inflight/` (between begin and end) or `dirty/` (afterwards). The Git hook (sh)
 * writes the same, so a change here is a change there. Two lines:
 *
 *     <pid> <start time>[ server][ delete] pidns=… timens=… boot=… host=…[ organization=…]
 *     <repository path or object key>
 *
 * Words of the first line that are not known are passed over. Files come from whoever may write here: hostile.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { View } from "../machine/processes.ts";

export interface Intent {
  readonly pid: number;
  /** Clock ticks since boot, of /proc/PID/stat: tells a reused process id from the writer. */
  readonly startTime: string;
  /** Repository path or object key. */
  readonly key: string;
  /** Whether the process serves others too, so that nobody may end it for the sake of one write. */
  readonly server?: boolean;
  /** `delete`: the key goes, and nothing takes its place: what others may follow although it is absence. */
  readonly change?: "write" | "delete";
  /** Where its process id means something; null: not said (a writer of an older version), so nobody can judge it. */
  readonly view?: View | null;
  /** Whose fence the writer asked, as `organizationHash`; null: not said, or content of all organizations. */
  readonly organization?: string | null;
}

/** `incomplete`: its writer has not read the share yet, since it completes this first. `unreadable`: anything else. */
export type Announcement = Intent | "incomplete" | "unreadable";

/** Much more than a key and a line. */
const MAX_BYTES = 4_096;
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Every beginning of a complete one, and nothing else. */
const BEGINNING =
  /^(?:\d{0,10}|\d{1,10} \d{0,20}|\d{1,10} \d{1,20} [^\n]*|\d{1,10} \d{1,20}(?: [^\n]*)?\n[^\n]*)$/;

export function formatIntent(intent: Intent): string {
  const { pid, startTime, view, organization } = intent;
  const words = [
    `${pid} ${startTime}`,
    ...(intent.server ? ["server"] : []),
    ...(intent.change === "delete" ? ["delete"] : []),
    ...(view
      ? [
          `pidns=${view.pidNamespace ?? "-"}`,
          `timens=${view.timeNamespace ?? "-"}`,
          `boot=${view.boot ?? "-"}`,
          `host=${view.host ?? "-"}`,
        ]
      : []),
    ...(organization ? [`organization=${organization}`] : []),
  ];
  return `${words.join(" ")}\n${intent.key}\n`;
}

export function parseAnnouncement(text: string): Announcement {
  const match = /^(\d{1,10}) (\d{1,20})((?: [^ \n]+)*)\n([^\n]*)\n$/.exec(text);
  if (match === null) return BEGINNING.test(text) ? "incomplete" : "unreadable";
  const words = (match[3] ?? "").split(" ");
  const wordOf = (name: string) => {
    const word = words.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
    return word === undefined || word === "-" || word === "" ? null : word;
  };
  const said = ["pidns", "timens", "boot", "host"].some((name) =>
    words.some((w) => w.startsWith(`${name}=`)),
  );
  return {
    pid: Number(match[1]),
    startTime: match[2] as string,
    key: match[4] as string,
    server: words.includes("server"),
    change: words.includes("delete") ? "delete" : "write",
    organization: wordOf("organization"),
    view: said
      ? {
          pidNamespace: wordOf("pidns"),
          timeNamespace: wordOf("timens"),
          boot: wordOf("boot"),
          host: wordOf("host"),
        }
      : null,
  };
}

/** Null when there is none. Whatever lies there: nothing is waited for, followed or read without end. */
export async function readAnnouncement(
  path: string,
): Promise<{ readonly announced: Announcement; readonly sinceMs: number | null } | null> {
  try {
    const file = await open(path, FLAGS);
    try {
      const stat = await file.stat();
      const sinceMs = stat.mtimeMs;
      if (!stat.isFile() || stat.size > MAX_BYTES) return { announced: "unreadable", sinceMs };
      return { announced: parseAnnouncement(await file.readFile("utf8")), sinceMs };
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    return { announced: "unreadable", sinceMs: null };
  }
}
