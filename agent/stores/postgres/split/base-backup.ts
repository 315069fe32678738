/** One run of pg_basebackup (https://www.postgresql.org/docs/current/app-pgbasebackup.html). */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import { isAlive, processesOf, processStartTime } from "../../machine/processes.ts";
import { type PeerPostgres, passwordOf } from "../config.ts";
import { type Binaries, program } from "../server/binaries.ts";
import { type SystemUser, spawnIdentity } from "../server/run-as.ts";
import type { CopyRecord } from "./copy-record.ts";

export interface BaseBackupOptions {
  readonly binaries: Binaries;
  readonly source: PeerPostgres;
  readonly dataDirectory: string;
  readonly slot: string;
  readonly applicationName: string;
  readonly bytesPerSecond: number | null;
  readonly runAs: SystemUser | null;
  readonly signal: AbortSignal;
  /** Awaited before the copy is waited for, so that a killed agent's successor knows the process. */
  readonly onStart: (copier: NonNullable<CopyRecord["copier"]>) => Promise<void>;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

const OUTPUT_KEPT_CHARACTERS = 8_000;

/** `--max-rate` takes 32 kB/s to 1 GB/s. */
function maxRate(bytesPerSecond: number | null): string[] {
  if (bytesPerSecond === null) return [];
  const kilobytes = Math.min(1_048_576, Math.max(32, Math.floor(bytesPerSecond / 1024)));
  return [`--max-rate=${kilobytes}k`];
}

/** The documented code for what pg_basebackup said when it failed. */
export function explainFailedBackup(output: string): CleaveError {
  const said =
    output
      .split("\n")
      .filter((line) => /error|FATAL|could not/i.test(line))
      .join("; ")
      .slice(0, 1_000) || output.trim().slice(-500);
  const message = `the base backup failed: ${said || "it ended without a word"}`;
  if (/No space left on device|Disk quota exceeded/.test(output))
    return new CleaveError("DISK_FULL", message);
  if (
    /authentication failed|no pg_hba\.conf entry|no password supplied|must be superuser or replication role/.test(
      output,
    )
  )
    return new CleaveError("POSTGRES_AUTHENTICATION", message);
  if (/Permission denied/.test(output)) return new CleaveError("FILE_PERMISSION", message);
  return new CleaveError("POSTGRES_UNREACHABLE", message);
}

/**
 * Copies a whole server into an empty directory and resolves when everything is synced.
 * @throws CleaveError DISK_FULL, POSTGRES_AUTHENTICATION, FILE_PERMISSION or POSTGRES_UNREACHABLE; the directory
 * may then hold anything.
 */
export async function runBaseBackup(options: BaseBackupOptions): Promise<void> {
  const { binaries, source, signal } = options;
  signal.throwIfAborted();
  const password = await passwordOf(source);
  const child = spawn(
    program(binaries, "pg_basebackup"),
    [
      ...["--pgdata", options.dataDirectory, "--host", source.host, "--port", String(source.port)],
      ...["--username", source.user, "--no-password", "--wal-method=stream", "--slot", options.slot],
      ...["--checkpoint=fast", "--progress", ...maxRate(options.bytesPerSecond)],
    ],
    {
      ...spawnIdentity(options.runAs, {
        PGAPPNAME: options.applicationName,
        PGCONNECT_TIMEOUT: "10",
        ...(password === undefined ? {} : { PGPASSWORD: password }),
      }),
      cwd: "/",
      // Its own process group: it starts a second process for the WAL, and both are ended together.
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  // Awaited below; until then an early end must not count as unhandled.
  ended.catch(() => undefined);
  let output = "";
  child.stderr.setEncoding("utf8");
  child.stderr.on("data", (text: string) => {
    const progress = [...text.matchAll(/(\d+)\/(\d+) kB \(/g)].at(-1);
    if (progress) options.onProgress(Number(progress[1]) * 1024, Number(progress[2]) * 1024);
    else output = (output + text).slice(-OUTPUT_KEPT_CHARACTERS);
  });
  const stop = () => {
    if (child.pid !== undefined) killGroup(child.pid);
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    if (child.pid !== undefined) {
      const startTime = await processStartTime(child.pid);
      if (startTime !== null) await options.onStart({ pid: child.pid, startTime });
    }
    const code = await ended.catch((error: Error) => {
      throw new CleaveError("POSTGRES_TOOL_MISSING", `pg_basebackup cannot be started: ${error.message}`, {
        cause: error,
      });
    });
    signal.throwIfAborted();
    if (code !== 0) throw explainFailedBackup(output);
  } catch (error) {
    stop();
    await ended.catch(() => undefined);
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

/** Processes of a group that copy into the directory: the leader may be gone while its WAL receiver lives. */
async function copiersOf(leader: number, dataDirectory: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processesOf(leader)) {
    // It may end while it is looked at.
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (command[0]?.endsWith("pg_basebackup") && command.includes(dataDirectory)) found.push(pid);
  }
  return found;
}

/** Ends a copy that a killed agent left behind; resolves when nothing writes into the directory any more. */
export async function endLeftCopier(record: CopyRecord): Promise<void> {
  const { copier, dataDirectory } = record;
  if (copier === null) return;
  for (;;) {
    const pids = await copiersOf(copier.pid, dataDirectory);
    if ((await isAlive(copier)) && !pids.includes(copier.pid)) pids.push(copier.pid);
    if (pids.length === 0) return;
    for (const pid of pids)
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    await sleep(5);
  }
}
