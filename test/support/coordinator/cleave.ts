/** `cleave` as a process, as an operator runs it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";

const CLEAVE = join(import.meta.dirname, "../../../bin/cleave.mjs");

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
export interface Running {
  readonly child: ChildProcess;
  /** Without the codes that move the cursor or colour. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly ended: Promise<Ran>;
}

export interface CleaveOptions {
  readonly url?: string;
  readonly env?: Record<string, string>;
  /** Which Node runs it; by default the one that runs the tests. */
  readonly node?: string;
}

const running = new Set<ChildProcess>();

export function startCleave(args: readonly string[], options: CleaveOptions = {}): Running {
  const { CLEAVE_URL: _url, CLEAVE_TOKEN: _token, FORCE_COLOR: _color, ...inherited } = process.env;
  const url: Record<string, string> = options.url === undefined ? {} : { CLEAVE_URL: options.url };
  const child = spawn(options.node ?? process.execPath, [CLEAVE, ...args], {
    env: { ...inherited, NO_COLOR: "1", ...url, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = once(child, "close").then(([code]) => {
    running.delete(child);
    return { code: code as number | null, stdout, stderr };
  });
  return {
    child,
    stdout: () => stripVTControlCharacters(stdout),
    stderr: () => stripVTControlCharacters(stderr),
    ended,
  };
}

/** Runs it to its end. */
export function cleave(args: readonly string[], options: CleaveOptions = {}): Promise<Ran> {
  return startCleave(args, options).ended;
}

/** Ends what a failed test left behind. */
export async function endCleave(): Promise<void> {
  for (const child of [...running]) {
    child.kill("SIGKILL");
    await once(child, "close");
  }
}
