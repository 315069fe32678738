/**
 * One PostgreSQL server process: started so that it survives the agent, recognised again through its
 * postmaster.pid, and stopped by signal (https://www.postgresql.org/docs/current/server-shutdown.html).
 */
import { spawn } from "node:child_process";
import { mkdir, open, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import { processStartTime } from "../../machine/processes.ts";
import { type Binaries, program } from "./binaries.ts";
import { giveTo, type SystemUser, spawnIdentity } from "./run-as.ts";

/** How often a starting or stopping server is looked at. */
const LOOK_EVERY_MS = 5;
const LOG_TAIL_BYTES = 4_000;

export interface RunningServer {
  readonly pid: number;
  readonly port: number;
  /** It said that it accepts connections (read-only ones on a standby). */
  readonly ready: boolean;
}

export interface StartOptions {
  readonly binaries: Binaries;
  readonly dataDirectory: string;
  /** Given on the command line, where nothing that is replicated can change them. */
  readonly settings: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly runAs: SystemUser | null;
  readonly signal: AbortSignal;
}

export async function readTextOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new CleaveError("FILE_PERMISSION", `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** A postmaster makes its data directory its working directory; another process with a reused id does not. */
async function isPostmasterOf(pid: number, dataDirectory: string): Promise<boolean> {
  if ((await processStartTime(pid)) === null) return false;
  try {
    const [itsDirectory, ours] = await Promise.all([realpath(`/proc/${pid}/cwd`), realpath(dataDirectory)]);
    return itsDirectory === ours;
  } catch {
    return false;
  }
}

/** The server that runs on a data directory, whoever started it, or null. Line by line as in PostgreSQL's pidfile.h. */
export async function runningServer(dataDirectory: string): Promise<RunningServer | null> {
  const text = await readTextOrNull(join(dataDirectory, "postmaster.pid"));
  if (text === null) return null;
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0 || !(await isPostmasterOf(pid, dataDirectory))) return null;
  return { pid, port: Number(lines[3]), ready: (lines[7] ?? "").trim() === "ready" };
}

/** The last words of a server's log; empty when it cannot be read. */
export async function logTail(logFile: string): Promise<string> {
  try {
    const log = await open(logFile, "r");
    try {
      const { size } = await log.stat();
      const from = Math.max(0, size - LOG_TAIL_BYTES);
      const { buffer, bytesRead } = await log.read(Buffer.alloc(LOG_TAIL_BYTES), 0, LOG_TAIL_BYTES, from);
      return buffer.toString("utf8", 0, bytesRead);
    } finally {
      await log.close();
    }
  } catch {
    return "";
  }
}

/** Why a server did not start, from the last words of its log. */
export function explainFailedStart(tail: string, dataDirectory: string): CleaveError {
  const lines = tail.trim().split("\n");
  const at = lines.findLastIndex((line) => /(FATAL|PANIC|postgres: )/.test(line));
  const fatal = lines[at];
  // Of files that it cannot use it says before which.
  const why = /contains errors|could not load/.test(fatal ?? "")
    ? lines.slice(0, at).findLast((line) => /error|could not|invalid|unrecognized/.test(line))
    : undefined;
  const said = [fatal ?? lines.at(-1), why].filter((line) => line !== undefined).map((line) => line.trim());
  const reason = said.join("; ").slice(0, 800);
  const message = `the server on ${dataDirectory} did not start: ${reason || "its log says nothing"}`;
  if (/No space left on device/.test(tail)) return new CleaveError("DISK_FULL", message);
  if (/Permission denied|wrong ownership|invalid permissions/.test(tail))
    return new CleaveError("FILE_PERMISSION", message);
  if (/invalid value for parameter|unrecognized configuration parameter|insufficient parameter/.test(tail))
    return new CleaveError("POSTGRES_SETTING", message);
  return new CleaveError("POSTGRES_UNREACHABLE", message);
}

/**
 * Starts a server unless one runs on the directory, and resolves when it accepts connections. Killed in between,
 * the server goes on and the next call finds it.
 * @throws CleaveError POSTGRES_UNREACHABLE, DISK_FULL, FILE_PERMISSION or POSTGRES_SETTING, in the server's words.
 */
export async function startServer(options: StartOptions): Promise<RunningServer> {
  const { dataDirectory, logFile, signal } = options;
  const running = await runningServer(dataDirectory);
  const child = running ? null : await launch(options);
  const logStart = child?.logStart ?? 0;
  for (;;) {
    signal.throwIfAborted();
    const server = await runningServer(dataDirectory);
    if (server?.ready) return server;
    // Somebody else may have been faster, and then ours ended because of the other's lock file.
    if (server === null && (child === null || child.exited()) && !(await runningServer(dataDirectory))) {
      const text = (await readTextOrNull(logFile).catch(() => null)) ?? "";
      throw explainFailedStart(text.slice(logStart) || (await logTail(logFile)), dataDirectory);
    }
    await sleep(LOOK_EVERY_MS, undefined, { signal });
  }
}

async function launch(options: StartOptions): Promise<{ exited: () => boolean; logStart: number }> {
  const { binaries, dataDirectory, logFile, runAs, settings } = options;
  await mkdir(dirname(logFile), { recursive: true });
  const log = await open(logFile, "a", 0o600);
  try {
    await giveTo(runAs, logFile);
    const { size } = await log.stat();
    const child = spawn(
      program(binaries, "postgres"),
      [
        "-D",
        dataDirectory,
        ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
      ],
      {
        ...spawnIdentity(runAs),
        cwd: "/",
        // Its own session: neither the agent's end nor a Ctrl-C in its terminal reaches it.
        detached: true,
        stdio: ["ignore", log.fd, log.fd],
      },
    );
    let exited = false;
    child.on("exit", () => {
      exited = true;
    });
    child.on("error", () => {
      exited = true;
    });
    child.unref();
    return { exited: () => exited, logStart: size };
  } finally {
    await log.close();
  }
}

/** How hard to stop: `fast` ends sessions and writes a checkpoint, `immediate` leaves crash recovery to the next start. */
export type StopMode = "fast" | "immediate";

/** Stops the server on the directory, if one runs, and resolves when it is gone. */
export async function stopServer(dataDirectory: string, mode: StopMode, signal?: AbortSignal): Promise<void> {
  const server = await runningServer(dataDirectory);
  if (!server) return;
  try {
    process.kill(server.pid, mode === "fast" ? "SIGINT" : "SIGQUIT");
  } catch {
    // It ended by itself in between.
  }
  while ((await processStartTime(server.pid)) !== null) {
    signal?.throwIfAborted();
    await sleep(LOOK_EVERY_MS);
  }
}
