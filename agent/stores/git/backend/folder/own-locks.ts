/**
 * What a git of ours leaves in a copy when it is killed: locks, which no git takes over, so the copy could never be
 * brought up to date again. A record beside them says whose they are: it is there exactly while one of ours may be
 * writing, and names the locks that were there before.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { lstat, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isAlive, processStartTime } from "../../../machine/processes.ts";

const RECORD = "cleave-fetch";
/** Files that git makes beside what it is about to replace. HEAD's belongs to whoever writes HEAD. */
const TOP_LEVEL = ["packed-refs.lock", "packed-refs.new", "shallow.lock"];
const END_MS = 5_000;
/** No git that is refused by the hook holds a lock for as long, and in a copy every other one is refused. */
const LEFT_BEHIND_MS = 15_000;

interface Record {
  readonly pid: number;
  readonly startTime: string;
  /** Locks of others at the beginning, by name and inode. */
  readonly before: readonly string[];
}

/**
 * Before git runs in a copy, and when it runs (`pid`, the leader of its group). Ends what an earlier process of this
 * agent left running there, and removes its locks, and no other's.
 */
export async function beginWriting(directory: string, pid?: number): Promise<void> {
  if (pid !== undefined) {
    const record = await readRecord(directory);
    return writeRecord(directory, {
      before: record?.before ?? [],
      pid,
      startTime: (await processStartTime(pid)) ?? "",
    });
  }
  const earlier = await readRecord(directory);
  const locks = await locksIn(directory);
  if (earlier !== null) {
    await endGroup(earlier);
    const others = new Set(earlier.before);
    for (const lock of locks) if (!others.has(lock.id)) await rm(lock.path, { force: true });
  }
  const before: string[] = [];
  for (const lock of locks) {
    if (earlier !== null && !earlier.before.includes(lock.id)) continue;
    if (Date.now() - lock.changedAt > LEFT_BEHIND_MS && !isInUse(directory))
      await rm(lock.path, { force: true });
    else before.push(lock.id);
  }
  await writeRecord(directory, { pid: 0, startTime: "", before });
}

/** Git has ended by itself, and has given back what it held. */
export async function endWriting(directory: string): Promise<void> {
  await rm(join(directory, RECORD), { force: true });
}

async function readRecord(directory: string): Promise<Record | null> {
  const text = await readFile(join(directory, RECORD), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (text === null) return null;
  try {
    const { pid, startTime, before } = JSON.parse(text) as Record;
    return { pid: Number(pid), startTime: String(startTime), before: before.map(String) };
  } catch {
    // Killed while it was written: nothing had begun.
    return { pid: 0, startTime: "", before: (await locksIn(directory)).map(({ id }) => id) };
  }
}

async function writeRecord(directory: string, record: Record): Promise<void> {
  const path = join(directory, RECORD);
  await writeFile(`${path}.lock`, JSON.stringify(record));
  await rename(`${path}.lock`, path);
}

interface Lock {
  readonly path: Buffer;
  readonly id: string;
  readonly changedAt: number;
}

async function locksIn(directory: string): Promise<Lock[]> {
  const found: Lock[] = [];
  const note = async (name: string) => {
    const path = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name, "latin1")]);
    const stats = await lstat(path).catch(() => null);
    if (stats?.isFile()) found.push({ path, id: `${name} ${stats.ino}`, changedAt: stats.mtimeMs });
  };
  for (const name of TOP_LEVEL) await note(name);
  const pending = ["refs"];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const at = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(folder, "latin1")]);
    const entries = await readdir(at, { withFileTypes: true, encoding: "latin1" }).catch(() => []);
    for (const entry of entries)
      if (entry.isDirectory()) pending.push(`${folder}/${entry.name}`);
      else if (entry.name.endsWith(".lock")) await note(`${folder}/${entry.name}`);
  }
  return found;
}

/** A git that outlived the agent that started it goes on writing. */
async function endGroup({ pid, startTime }: Record): Promise<void> {
  if (pid <= 0 || startTime === "" || !(await isAlive({ pid, startTime }))) return;
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    try {
      process.kill(-pid, signal);
    } catch {
      return;
    }
    for (let waitedMs = 0; waitedMs < END_MS; waitedMs += 20) {
      if (!(await isAlive({ pid, startTime }))) return;
      await delay(20);
    }
  }
}

/** Some process of this machine works in the repository, or has a file of it open. */
function isInUse(directory: string): boolean {
  const inside = (path: string) => path === directory || path.startsWith(`${directory}/`);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      if (inside(readlinkSync(`/proc/${pid}/cwd`))) return true;
      for (const fd of readdirSync(`/proc/${pid}/fd`))
        if (inside(readlinkSync(`/proc/${pid}/fd/${fd}`))) return true;
      if (readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(directory)) return true;
    } catch {
      // It has ended, or is another user's.
    }
  }
  return false;
}
