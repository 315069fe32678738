/** What lies in a file fence. */
import { readdir, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { shareFile } from "../../../agent/stores/file-fence/layout.ts";
import type { MigrationId } from "../../../protocol/ids.ts";

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

/** As if a migration's shares had never been told there: a test may begin with any phase, and no log leads back. */
export function forgetShares(control: string, migrationId: MigrationId): Promise<void> {
  return rm(shareFile(control, migrationId), { force: true });
}
