/** What lies in one folder of a file fence. */
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";

/** Paths of all files below `folder` of the fence, sorted. */
export async function fenceFiles(
  control: string,
  folder: "owners" | "routes" | "shares" | "inflight" | "dirty",
): Promise<string[]> {
  const root = join(control, folder);
  const entries = await readdir(root, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}
