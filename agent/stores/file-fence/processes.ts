/** Whether a writer still lives, by process id and start time, since ids are reused. */
import { readFile } from "node:fs/promises";

/**
 * Field 22 of /proc/PID/stat (clock ticks since boot); null when there is no such process. Writer and agent have to
 * share a process id namespace (a container's writer needs the agent in the same one).
 */
export async function processStartTime(pid: number): Promise<string | null> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return null;
    throw error;
  }
  // The second field is the program's name in parentheses and may itself contain spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // A zombie writes nothing any more, and stays until its parent looks; unless other threads of it still run.
  if (fields[0] === "X" || (fields[0] === "Z" && Number(fields[17]) <= 1)) return null;
  return fields[19] ?? null;
}

export async function isAlive(writer: {
  readonly pid: number;
  readonly startTime: string;
}): Promise<boolean> {
  return (await processStartTime(writer.pid)) === writer.startTime;
}

/** Signals the writer if it is still that process. False when it is gone or is not ours to signal. */
export async function signalWriter(
  writer: { readonly pid: number; readonly startTime: string },
  signal: NodeJS.Signals,
): Promise<boolean> {
  if (!(await isAlive(writer))) return false;
  try {
    process.kill(writer.pid, signal);
    return true;
  } catch {
    return false;
  }
}

let own: Promise<string> | undefined;

/** This process's own start time; read once. */
export function ownStartTime(): Promise<string> {
  own ??= processStartTime(process.pid).then((startTime) => {
    if (startTime === null) throw new Error("/proc does not know this process");
    return startTime;
  });
  return own;
}
