/** Starts the cluster's processes, each with its own log file, and hands every one of them to the watchdog. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { join } from "node:path";
import { type Ending, startTimeOf } from "./endings.ts";

export interface StartOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: { readonly uid: number; readonly gid: number } | null;
  /** `pipe` to talk to the process through its standard input and output; its log then has errors only. */
  readonly io?: "log" | "pipe";
  /** Served before the others when processors are short, where the system allows that. */
  readonly urgent?: boolean;
}

export interface Started {
  readonly name: string;
  readonly child: ChildProcess;
  readonly logFile: string;
  /** Rejects, with the end of its log, when the process ends before `end` was called. */
  readonly failed: Promise<never>;
  /** From here on its end is no failure. */
  expectEnd(): void;
}

interface Running {
  readonly options: StartOptions;
  readonly started: Started;
}

/** All processes of one run. They end when `end` is called or when this process ends, however that happens. */
export class Processes {
  readonly #logFolder: string;
  readonly #watchdog: ChildProcess;
  readonly #children: ChildProcess[] = [];
  readonly #running = new Map<string, Running>();
  #ending = false;
  #reject: (error: Error) => void = () => {};
  /** Rejects with the first failure of any process. */
  readonly failed = new Promise<never>((_, reject) => {
    this.#reject = reject;
  });

  constructor(logFolder: string) {
    this.#logFolder = logFolder;
    this.#watchdog = spawn(process.execPath, [join(import.meta.dirname, "watchdog.ts")], {
      stdio: ["pipe", "pipe", "inherit"],
      // Its own session: a terminal's Ctrl-C must not end it before it has done its work.
      detached: true,
    });
    this.#watchdog.unref();
    this.failed.catch(() => {});
    // It went away first: then nothing would be cleaned up after us, which the next `add` reports.
    this.#watchdog.stdin?.on("error", () => {});
  }

  /** Writes down something to be ended or removed with the run. Call it before it can exist, where possible. */
  add(ending: Ending): void {
    if (this.#watchdog.exitCode !== null) throw new Error("the watchdog ended; not starting anything more");
    this.#watchdog.stdin?.write(`${JSON.stringify({ add: ending })}\n`);
  }

  /** Starts a process in its own session with a log file of its name. */
  start(options: StartOptions): Started {
    const logFile = join(this.#logFolder, `${options.name}.log`);
    const log = openSync(logFile, "a");
    const piped = options.io === "pipe";
    const child = spawn(options.command, [...options.args], {
      stdio: piped ? ["pipe", "pipe", log] : ["ignore", log, log],
      detached: true,
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.user ? { uid: options.user.uid, gid: options.user.gid } : {}),
    });
    closeSync(log);
    this.#children.push(child);
    let expected = false;
    const failed = new Promise<never>((_, reject) => {
      child.on("error", (error) => reject(new Error(`${options.name}: ${error.message}`)));
      child.on("exit", (code, signal) => {
        if (this.#ending || expected) return;
        reject(new Error(`${options.name} ended (${signal ?? code}); its log ends with:\n${tail(logFile)}`));
      });
    });
    // Nobody may be waiting yet; whoever does gets the reason.
    failed.catch((error: Error) => this.#reject(error));
    if (options.urgent && child.pid !== undefined) {
      try {
        setPriority(child.pid, constants.priority.PRIORITY_ABOVE_NORMAL);
      } catch {
        // Not permitted: then it has to share.
      }
    }
    const startedAt = child.pid === undefined ? null : startTimeOf(child.pid);
    if (child.pid !== undefined && startedAt !== null)
      this.add({ kind: "process", name: options.name, pid: child.pid, startedAt });
    const expectEnd = () => {
      expected = true;
    };
    const started = { name: options.name, child, logFile, failed, expectEnd };
    this.#running.set(options.name, { options, started });
    return started;
  }

  /** `kill -9`; resolves when the process is gone, with what starts it again in the same way. */
  async kill(name: string): Promise<() => Started> {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} was never started`);
    const { child } = running.started;
    running.started.expectEnd();
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      child.kill("SIGKILL");
      await gone;
    }
    return () => this.start(running.options);
  }

  /** Stops a process where it is, as a machine does that hangs; returns what lets it go on. */
  pause(name: string): () => void {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} was never started`);
    const { child } = running.started;
    child.kill("SIGSTOP");
    return () => void child.kill("SIGCONT");
  }

  /** From here on an ending process is no failure. */
  expectEndings(): void {
    this.#ending = true;
  }

  /** Ends everything. Resolves when it is gone, with what had to be ended by force. */
  async end(): Promise<string> {
    this.#ending = true;
    return await this.#close();
  }

  /** Leaves everything running; `file` then lists it for `endAll`. */
  async keep(file: string): Promise<void> {
    this.#ending = true;
    this.#watchdog.stdin?.write(`${JSON.stringify({ keep: file })}\n`);
    await this.#close();
    // They go on without us; nothing of them may keep this process waiting.
    for (const child of this.#children) child.unref();
  }

  async #close(): Promise<string> {
    if (this.#watchdog.exitCode !== null) return "";
    this.#watchdog.ref();
    let output = "";
    this.#watchdog.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    const exited = new Promise<void>((resolve) => this.#watchdog.once("exit", () => resolve()));
    this.#watchdog.stdin?.end();
    await exited;
    return output.trim();
  }
}

/** The last lines of a log, for an error message. */
export function tail(file: string, lines = 15): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "(no log)";
  }
}
