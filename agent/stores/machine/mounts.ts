/** What is mounted, as the kernel tells this process. */
import { readFile } from "node:fs/promises";

export interface Mounts {
  /** The type of the file system that the folder is on, as `ext4`; empty where the system does not say. */
  readonly fileSystem: string;
  /** Places below the folder at which something else is mounted, as paths relative to it; sorted, without spaces. */
  readonly below: readonly string[];
}

interface Mount {
  readonly point: string;
  readonly options: string;
  readonly type: string;
}

/** As proc_pid_mountinfo(5) has them; empty where the system does not say. */
async function readMounts(): Promise<Mount[]> {
  const text = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  const mounts = text.split("\n").map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const [type = "", , options = ""] = after.split(" ");
    return { point: unescaped(before.split(" ")[4] ?? ""), options, type };
  });
  return mounts.filter(({ point }) => point !== "");
}

/** Whether this process is not shown processes of other users (`hidepid` of proc_mount(5)). */
export async function hidesProcesses(): Promise<boolean> {
  const mounts = await readMounts();
  return mounts.some(({ point, options }) => point === "/proc" && /\bhidepid=(?!0\b|off\b)/.test(options));
}

/** @param root absolute, without links */
export async function mountsOf(root: string): Promise<Mounts> {
  let containing = "";
  let fileSystem = "";
  const below: string[] = [];
  for (const { point, type } of await readMounts()) {
    const inside = point === "/" ? "/" : `${point}/`;
    // The last of those at one place hides the others.
    if ((point === root || root.startsWith(inside)) && point.length >= containing.length) {
      containing = point;
      fileSystem = type;
    }
    if (point.startsWith(`${root}/`)) below.push(encodeURI(point.slice(root.length + 1)));
  }
  return { fileSystem, below: [...new Set(below)].sort() };
}

/** The kernel writes spaces and the like as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
