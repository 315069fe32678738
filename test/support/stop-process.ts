import { readdir, readFile } from "node:fs/promises";

/**
 * SIGSTOP, and returns when every thread of the process has stopped. The signal alone is a request: on a busy
 * machine the threads of a server go on for a moment after it was sent, and answer what a test thinks lost.
 * Where there is no /proc the signal must do.
 */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  while (!(await hasStopped(pid))) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function hasStopped(pid: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const states = await Promise.all(
    threads.map((id) => readFile(`/proc/${pid}/task/${id}/stat`, "utf8").catch(() => null)),
  );
  // "PID (NAME) STATE …", where the name may hold anything; T is stopped, t traced, Z and X ended.
  return states.every(
    (stat) => stat === null || /[TtZX]/.test(stat.slice(stat.lastIndexOf(")") + 2)[0] ?? "T"),
  );
}
