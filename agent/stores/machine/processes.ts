/**
 * Whether a writer still lives. A process id means something within one PID namespace of one boot of one machine, and
 * absence in one's own view is no proof of an end: who cannot be seen is neither alive nor ended, and never signalled.
 */
import { readdir, readFile, readlink } from "node:fs/promises";

/** Where a process id and a start time mean something. Null: not known, so it is nobody's view. */
export interface View {
  /** Inode numbers, as of /proc/self/ns. Start times are counted from the boot that the time namespace pretends. */
  readonly pidNamespace: string | null;
  readonly timeNamespace: string | null;
  /** Kernels have an id for each boot; containers share it with their machine, and machines do not share it. */
  readonly boot: string | null;
  /** For people alone: nothing follows from it. */
  readonly host: string | null;
}

/** As an announcement names a process. */
export interface Process {
  readonly pid: number;
  readonly startTime: string;
}

/** `unseen`: nothing is known, and it has to be taken for alive. */
export type Life = "alive" | "ended" | "unseen";

/** Field 22 of /proc/PID/stat (clock ticks since boot); null when there is no such process in the agent's own view. */
export async function processStartTime(pid: number): Promise<string | null> {
  const found = await look(pid);
  return found === null || found.ended ? null : found.startTime;
}

interface Look {
  readonly startTime: string;
  readonly ended: boolean;
  /** Its process group. */
  readonly group: number;
}

async function look(pid: number | "self"): Promise<Look | null> {
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
  const ended = fields[0] === "X" || (fields[0] === "Z" && Number(fields[17]) <= 1);
  return { startTime: fields[19] ?? "", ended, group: Number(fields[2]) };
}

/** All processes of a group that the agent started: its leader may be gone while others of it live. */
export async function processesOf(group: number): Promise<number[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(ids.map((pid) => look(pid).catch(() => null)));
  return ids.filter((_, index) => found[index]?.group === group);
}

/** Of a process in the agent's own PID namespace, on this boot: whoever wrote it down was the agent itself. */
export async function isAlive(process: Process): Promise<boolean> {
  return (await processStartTime(process.pid)) === process.startTime;
}

/** Of a process that announced itself from `view`; null: it did not say from where. */
export async function lifeOf(announced: Process & { readonly view?: View | null }): Promise<Life> {
  if (!announced.view || !sees(await ownView(), announced.view)) return "unseen";
  const { pid, startTime } = announced;
  try {
    const found = await look(pid);
    if (found !== null) return found.startTime === startTime && !found.ended ? "alive" : "ended";
  } catch {
    // It is there, and /proc hides it from this user.
    return "unseen";
  }
  return isHidden(pid) ? "unseen" : "ended";
}

/** /proc may be mounted so that it does not show others' processes (`hidepid`); a signal tells whether there is one. */
function isHidden(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Whether process ids and start times of `other` mean the same in `own`. */
export function sees(own: View, other: View): boolean {
  return (
    own.boot !== null &&
    own.pidNamespace !== null &&
    own.boot === other.boot &&
    own.pidNamespace === other.pidNamespace &&
    own.timeNamespace === other.timeNamespace
  );
}

/** Signals the writer if it is still that process. False when it is gone, unseen or not ours to signal. */
export async function signalWriter(
  writer: Process & { readonly view?: View | null },
  signal: NodeJS.Signals,
): Promise<boolean> {
  if ((await lifeOf(writer)) !== "alive") return false;
  try {
    process.kill(writer.pid, signal);
    return true;
  } catch {
    return false;
  }
}

let view: Promise<View> | undefined;

/** This process's own; read once, since nobody leaves a PID namespace. */
export function ownView(): Promise<View> {
  view ??= readOwnView();
  return view;
}

async function readOwnView(): Promise<View> {
  const namespace = async (name: string) =>
    /\[(\d+)\]$/.exec(await readlink(`/proc/self/ns/${name}`).catch(() => ""))?.[1] ?? null;
  const text = async (path: string) => (await readFile(path, "utf8").catch(() => "")).trim();
  const boot = await text("/proc/sys/kernel/random/boot_id");
  const host = await text("/proc/sys/kernel/hostname");
  // A container may have the /proc of its machine: then its numbers are not this namespace's.
  const own = (await readlink("/proc/self").catch(() => "")) === `${process.pid}`;
  return {
    pidNamespace: own ? await namespace("pid") : null,
    timeNamespace: await namespace("time"),
    boot: /^[\w-]{1,64}$/.test(boot) ? boot : null,
    host: /^[\w.-]{1,64}$/.test(host) ? host : null,
  };
}

let own: Promise<string> | undefined;

/** This process's own start time, "0" where no /proc tells it; read once. */
export function ownStartTime(): Promise<string> {
  own ??= look("self").then(
    (found) => found?.startTime || "0",
    () => "0",
  );
  return own;
}
