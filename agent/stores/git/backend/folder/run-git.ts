/** The one place that starts git: a clean environment, no shell, a time limit, bounded output, and nothing left running. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { constants, setPriority } from "node:os";
import type { Readable, Writable } from "node:stream";
import { CleaveError } from "../../../../../protocol/errors.ts";
import { codeOfWords } from "../../../common/file-error.ts";

const STDERR_LIMIT_BYTES = 16 * 1024;

export type GitChild = ChildProcessByStdio<Writable, Readable, Readable>;

export interface GitOptions {
  /** The git program; `git` of the PATH by default. */
  readonly program?: string;
  /** Added to the clean environment. Secrets belong here, never into the arguments, which every user can read. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Configuration for this call, passed through the environment. */
  readonly config?: readonly (readonly [key: string, value: string])[];
  readonly cwd?: string;
}

export interface GitRun extends GitOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly maxOutputBytes?: number;
  /** Given to git, and then nothing more; else nothing at all. */
  readonly input?: Buffer;
  /** Leaves the processors to everybody else. */
  readonly isBackground?: boolean;
  /** Told git's process id, which is its group's too; git's end waits for it. */
  readonly onStart?: (pid: number) => Promise<void>;
  /** Receives stdout as it comes; then nothing of it is kept. */
  readonly onOutput?: (chunk: Buffer) => void;
}

export interface GitResult {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/**
 * Nothing of the user's or the system's configuration, no prompt, messages in English. Repositories may belong to
 * another user than the agent's: the agent reads them by order of its operator.
 */
export function gitEnvironment(options: GitOptions = {}): Record<string, string> {
  const config = [["safe.directory", "*"] as const, ...(options.config ?? [])];
  const environment: Record<string, string> = {
    PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "true",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_CONFIG_COUNT: String(config.length),
    ...options.environment,
  };
  config.forEach(([key, value], index) => {
    environment[`GIT_CONFIG_KEY_${index}`] = key;
    environment[`GIT_CONFIG_VALUE_${index}`] = value;
  });
  return environment;
}

/** In a process group of its own, so that helpers (remote-http, index-pack) end with it: see `endGit`. */
export function spawnGit(args: readonly string[], options: GitOptions = {}): GitChild {
  return spawn(options.program ?? "git", args, {
    env: gitEnvironment(options),
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
    shell: false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
}

function lowerPriority(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It has ended already.
  }
}

export function endGit(child: GitChild): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It ended by itself in this moment.
  }
}

/**
 * Runs git to its end; a non-zero code is a result, not an error.
 * @throws the signal's reason when aborted; CleaveError REPOSITORY_UNREADABLE after the time limit or with too much
 * output, CONFIG_INVALID when git cannot be started.
 */
export function runGit(args: readonly string[], run: GitRun = {}): Promise<GitResult> {
  run.signal?.throwIfAborted();
  const timeoutMs = run.timeoutMs ?? 60_000;
  const maxOutputBytes = run.maxOutputBytes ?? 16 * 1024 * 1024;
  return new Promise((resolve, reject) => {
    const child = spawnGit(args, run);
    if (run.isBackground && child.pid !== undefined) lowerPriority(child.pid);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stdoutBytes = 0;
    let stderrBytes = 0;
    let failure: unknown = null;
    const end = (reason: unknown) => {
      failure ??= reason;
      endGit(child);
    };
    const onAbort = () => end(run.signal?.reason);
    run.signal?.addEventListener("abort", onAbort, { once: true });
    const words = args.slice(0, 6).join(" ");
    const timer = setTimeout(
      () => end(new CleaveError("REPOSITORY_UNREADABLE", `git ${words}: not finished after ${timeoutMs} ms`)),
      timeoutMs,
    );
    child.stdin.on("error", () => undefined);
    const started = child.pid === undefined ? undefined : run.onStart?.(child.pid);
    started?.catch(end);
    child.stdin.end(run.input);
    child.stdout.on("data", (chunk: Buffer) => {
      if (run.onOutput) return run.onOutput(chunk);
      stdoutBytes += chunk.length;
      if (stdoutBytes > maxOutputBytes)
        end(new CleaveError("REPOSITORY_UNREADABLE", `git ${words}: more than ${maxOutputBytes} bytes`));
      else stdout.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderrBytes += chunk.length;
      if (stderrBytes <= STDERR_LIMIT_BYTES) stderr.push(chunk);
    });
    const finish = () => {
      clearTimeout(timer);
      run.signal?.removeEventListener("abort", onAbort);
    };
    child.once("error", (error) => {
      finish();
      reject(new CleaveError("CONFIG_INVALID", `git cannot be started: ${error.message}`, { cause: error }));
    });
    child.once("close", async (code) => {
      finish();
      await started?.catch(() => undefined);
      if (failure !== null) reject(failure);
      else
        resolve({
          code,
          stdout: Buffer.concat(stdout),
          stderr: Buffer.concat(stderr).toString("utf8").trim(),
        });
    });
  });
}

/**
 * As `runGit`, for commands that have to succeed.
 * @throws CleaveError DISK_FULL, DISK_FAILED, FILE_PERMISSION or REPOSITORY_UNREADABLE with git's own words when they do not.
 */
export async function mustRunGit(args: readonly string[], run: GitRun = {}): Promise<GitResult> {
  const result = await runGit(args, run);
  if (result.code === 0) return result;
  const words = result.stderr.slice(-1_000) || `exit code ${result.code}`;
  throw new CleaveError(
    codeOfWords(words) ?? "REPOSITORY_UNREADABLE",
    `git ${args.slice(0, 6).join(" ")}: ${words}`,
  );
}
