/** What is mounted below a folder, and what it is on, as the kernel tells this process. */
import { readFile } from "node:fs/promises";

export interface Mounts {
  /** The type of the file system that the folder is on, as `ext4`; empty where the system does not say. */
  readonly fileSystem: string;
  /** Places below the folder at which something else is mounted, as paths relative to it; sorted, without spaces. */
  readonly below: readonly string[];
}

/** @param root absolute, without links */
export async function mountsOf(root: string): Promise<Mounts> {
  const text = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  let containing = "";
  let fileSystem = "";
  const below: string[] = [];
  for (const line of text.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const point = unescaped(before.split(" ")[4] ?? "");
    if (point === "") continue;
    const inside = point === "/" ? "/" : `${point}/`;
    // The last of those at one place hides the others.
    if ((point === root || root.startsWith(inside)) && point.length >= containing.length) {
      containing = point;
      fileSystem = after.split(" ")[0] ?? "";
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
