/**
 * What has to end when a run ends, and how. Everything that the demo starts is written down here first, so that
 * one piece of code ends it: after the run, on Ctrl-C, after an error, and when the demo itself was killed.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type Ending =
  /** A process that we started; `startedAt` tells it from another one that got its number later. */
  | { readonly kind: "process"; readonly name: string; readonly pid: number; readonly startedAt: string }
  /** A PostgreSQL server, whoever started it (an agent starts those of new Pods): found by its data directory. */
  | { readonly kind: "postgres"; readonly name: string; readonly dataDirectory: string }
  /** A folder that this run made. Removed last. */
  | { readonly kind: "folder"; readonly path: string };

const GRACE_MS = 4_000;

/** An opaque text that is the same for one process's whole life, or null when there is none with this number. */
export function startTimeOf(pid: number): string | null {
  if (existsSync("/proc/self/stat")) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The second field (the command) may contain anything, so count from its closing parenthesis.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return fields[0] === "Z" ? null : (fields[19] ?? null);
    } catch {
      return null;
    }
  }
  try {
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim() || null;
  } catch {
    return null;
  }
}

interface Target {
  readonly name: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly gently: NodeJS.Signals;
  readonly firmly: NodeJS.Signals;
}

/**
 * Ends everything: programs first (they might start a database again), then databases, then folders.
 * Safe to call twice; returns the names of what had to be ended by force.
 */
export async function endAll(endings: readonly Ending[]): Promise<string[]> {
  const programs = endings.flatMap((ending): Target[] =>
    ending.kind === "process" ? [{ ...ending, gently: "SIGTERM", firmly: "SIGKILL" }] : [],
  );
  const forced = await endTargets(programs.reverse());
  const databases = endings.flatMap((ending): Target[] => {
    const found = ending.kind === "postgres" ? postmaster(ending.dataDirectory) : null;
    if (found === null || ending.kind !== "postgres") return [];
    // SIGINT: fast shutdown; SIGQUIT: at once, and the server's own processes with it.
    return [{ name: ending.name, ...found, gently: "SIGINT", firmly: "SIGQUIT" }];
  });
  forced.push(...(await endTargets(databases)));
  for (const ending of endings) {
    if (ending.kind === "folder") rmSync(ending.path, { recursive: true, force: true, maxRetries: 5 });
  }
  return forced;
}

async function endTargets(targets: readonly Target[]): Promise<string[]> {
  const alive = () => targets.filter((target) => startTimeOf(target.pid) === target.startedAt);
  for (const target of alive()) send(target.pid, target.gently);
  if (await until(() => alive().length === 0)) return [];
  const forced = alive();
  for (const target of forced) send(target.pid, target.firmly);
  await until(() => alive().length === 0);
  return forced.map((target) => target.name);
}

function postmaster(dataDirectory: string): { pid: number; startedAt: string } | null {
  try {
    const pid = Number(readFileSync(`${dataDirectory}/postmaster.pid`, "utf8").split("\n")[0]);
    const startedAt = Number.isInteger(pid) && pid > 1 ? startTimeOf(pid) : null;
    return startedAt === null ? null : { pid, startedAt };
  } catch {
    return null;
  }
}

async function until(condition: () => boolean): Promise<boolean> {
  const end = Date.now() + GRACE_MS;
  while (!condition()) {
    if (Date.now() > end) return false;
    await sleep(20);
  }
  return true;
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
