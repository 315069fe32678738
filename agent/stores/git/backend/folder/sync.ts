/**
 * What git wrote, on the disk. Git syncs files as its `core.fsync` says and never the folders that name them, and before
 * 2.36 not every file: so what a copy got is synced here, whatever git is installed, before it counts.
 */
import { lstat, open, readdir } from "node:fs/promises";

/** The kernel's file times are a tick behind the clock, and clocks are set. */
const MARGIN_MS = 2_000;

/**
 * Files and folders below `directory`, and itself, are on the disk when it resolves: of folders that changed since
 * `sinceMs` (milliseconds since 1970; null: of all) the files that did. Costs one look at each folder. Links are not followed.
 * @throws what the file system says, an input/output error included: then nothing is known to be on the disk.
 */
export async function syncTree(directory: string, sinceMs: number | null): Promise<void> {
  await syncBelow(Buffer.from(directory), sinceMs === null ? Number.NEGATIVE_INFINITY : sinceMs - MARGIN_MS);
}

async function syncBelow(folder: Buffer, sinceMs: number): Promise<void> {
  const found = await lstatOrNull(folder);
  if (!found?.isDirectory()) return;
  const isChanged = found.ctimeMs >= sinceMs;
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: "buffer" })) {
    const path = Buffer.concat([folder, Buffer.from("/"), entry.name]);
    if (entry.isDirectory()) await syncBelow(path, sinceMs);
    else if (isChanged && entry.isFile()) await syncFileIfNew(path, sinceMs);
  }
  if (isChanged) await sync(folder);
}

async function syncFileIfNew(path: Buffer, sinceMs: number): Promise<void> {
  const found = await lstatOrNull(path);
  if (found !== null && found.ctimeMs >= sinceMs) await sync(path);
}

async function lstatOrNull(path: Buffer) {
  return lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
}

/** What was replaced meanwhile has been synced by whoever did, or will be. */
async function sync(path: Buffer): Promise<void> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (file === null) return;
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
