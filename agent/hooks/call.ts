/** One call of what an operator wrote: a POST or a program, ended when its time is over. */
import { spawn } from "node:child_process";

export interface Callee {
  readonly url?: string | undefined;
  readonly command?: readonly string[] | undefined;
  readonly timeLimitMs: number;
}

/** Of what a program said, the end is kept. */
const OUTPUT_CHARACTERS = 1_000;

/**
 * `payload` is the body of the POST, or a program's standard input; its plain fields are also in a program's environment
 * as `CLEAVE_<FIELD>`. Resolves on success.
 * @throws Error that says what went wrong; the signal's reason when it is aborted.
 */
export async function callOut(
  callee: Callee,
  payload: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const limit = AbortSignal.timeout(callee.timeLimitMs);
  const ending = AbortSignal.any([signal, limit]);
  try {
    if (callee.url !== undefined) await post(callee.url, payload, ending);
    else await run(callee.command ?? [], payload, ending);
  } catch (error) {
    signal.throwIfAborted();
    if (limit.aborted) throw new Error(`no answer within ${callee.timeLimitMs} ms`, { cause: error });
    throw error;
  }
}

async function post(url: string, payload: object, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(payload),
    redirect: "error",
    signal,
  }).catch((error: unknown) => {
    // `fetch failed` alone helps nobody.
    const cause = (error as Error).cause;
    throw cause instanceof Error ? new Error(`${url}: ${cause.message}`, { cause }) : error;
  });
  const text = await response.text();
  if (!response.ok)
    throw new Error(`${url} answered ${response.status}: ${text.slice(0, OUTPUT_CHARACTERS)}`);
}

async function run(
  [program = "", ...args]: readonly string[],
  payload: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<void> {
  const plain = Object.entries(payload).filter(([, value]) => ["string", "number"].includes(typeof value));
  const told = plain.map(([name, value]) => [`CLEAVE_${name.toUpperCase()}`, String(value)] as const);
  const child = spawn(program, args, {
    env: { ...process.env, ...Object.fromEntries(told) },
    stdio: ["pipe", "pipe", "pipe"],
    // Whatever it starts ends with it.
    detached: true,
  });
  const end = () => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // All of it has ended.
    }
  };
  signal.addEventListener("abort", end, { once: true });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS);
    });
  // A program that does not read what it is told is none the worse for it.
  child.stdin.on("error", () => undefined);
  child.stdin.end(`${JSON.stringify(payload)}\n`);
  try {
    const code = await new Promise<number | string>((resolve, reject) => {
      child.on("error", reject);
      // Not `close`: a program it left behind may hold the pipes for ever.
      child.on("exit", (status, name) => resolve(status ?? name ?? "nothing"));
    });
    signal.throwIfAborted();
    if (code !== 0)
      throw new Error(`${program} ended with ${code}${output === "" ? "" : `: ${output.trim()}`}`);
  } finally {
    signal.removeEventListener("abort", end);
  }
}
