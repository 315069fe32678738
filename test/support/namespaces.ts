/** Processes in PID namespaces of their own, as containers have. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";

/** Why none can be made here; null when they can. */
export const noNamespaces: string | null = (() => {
  try {
    execFileSync("unshare", ["--pid", "--fork", "--kill-child", "--mount-proc", "true"], { stdio: "ignore" });
    return null;
  } catch {
    return "PID namespaces cannot be made here: root and util-linux are needed";
  }
})();

export interface Contained {
  readonly child: ChildProcess;
  /** The exit code of the program, with what it printed. */
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>;
  /** Sends the signal to the processes in the namespace, as a container's runtime does, and not to `unshare`. */
  readonly signal: (signal: NodeJS.Signals) => void;
}

/**
 * Runs a program in a new PID namespace, where it is not process 1, which no signal of the namespace's own would end.
 * `proc`: `own` has /proc mounted for it, `outer` keeps that of the test.
 */
export function contained(
  program: string,
  args: readonly string[],
  options: { readonly proc?: "own" | "outer"; readonly env?: NodeJS.ProcessEnv } = {},
): Contained {
  const mount = options.proc === "outer" ? [] : ["--mount-proc"];
  const child = spawn(
    "unshare",
    ["--pid", "--fork", "--kill-child", ...mount, "sh", "-c", '"$@"; exit $?', "contained", program, ...args],
    { stdio: ["ignore", "ignore", "pipe"], ...(options.env ? { env: options.env } : {}) },
  );
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once("close", (code) => resolve({ code, stderr })),
  );
  const signal = (name: NodeJS.Signals) => {
    // unshare → sh → the program; each is the only child.
    const below = (pid: number | string) =>
      execFileSync("cat", [`/proc/${pid}/task/${pid}/children`], { encoding: "utf8" })
        .trim()
        .split(" ")[0] ?? "";
    process.kill(Number(below(below(child.pid as number))), name);
  };
  return { child, ended, signal };
}
