/** Two Pods' Git stores for tests of removal, with what most of them do and look at. */
import { createHash } from "node:crypto";
import { access, lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { ROOT_MARK } from "../../../agent/stores/common/root/volume-entries.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import { GitSplit, type Side } from "./split.ts";

export let split: GitSplit;
/** Makes two Pods before each test of the file, and removes them afterwards. */
export function useGitSplit(): void {
  beforeEach(async () => {
    split = await GitSplit.create();
  });
  afterEach(() => split.remove());
}

export const at = (path: string) => split.source.pod.path(path);
export const copy = (path: string) => split.target.pod.path(path);
export const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
export const asOnSource = { mayRemove: (id: string) => id === "red" };
export const asOnTarget = { mayRemove: (id: string) => id !== "red" };
export const removeFiles = (side: Side, phase: SharePhase = "opened") =>
  split.reach(side, "removeFiles", phase, 1);
export const removeRows = (side: Side, phase: SharePhase = "opened") =>
  split.reach(side, "removeRows", phase, 1);

/** Names in a root, but for Cleave's own mark; sorted. */
export const entries = async (root: string) =>
  (await readdir(root)).filter((name) => name !== ROOT_MARK).sort();

/** Every name, type and content below a folder; not what Cleave writes by itself. */
export async function snapshot(folder: string, leaveOut: readonly string[] = []): Promise<string[]> {
  const lines: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (leaveOut.some((prefix) => path.startsWith(join(folder, prefix)))) continue;
    const found = await lstat(path);
    const content = found.isFile()
      ? createHash("sha256")
          .update(await readFile(path))
          .digest("hex")
      : found.isSymbolicLink()
        ? await readlink(path)
        : "folder";
    lines.push(`${path.slice(folder.length)} ${found.mode.toString(8)} ${content}`);
  }
  return lines.sort();
}

export const HOSTILE = "red/süß 😀 `$(touch x)` -rf.git";

/** `red` leaves, `blue` stays. */
export async function repositories(): Promise<void> {
  for (const path of ["red/one.git", "red/deep/er/two.git", "@hashed/aa/bb/red-3.git", HOSTILE])
    await split.source.pod.repository(path);
  for (const path of ["blue/one.git", "@hashed/aa/bb/blue-2.git", "@pools/p.git"])
    await split.source.pod.repository(path);
}
