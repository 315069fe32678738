/** Waiting for what other processes bring about. */
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Asks until there is an answer other than null, or the time is over, or `failed` rejects (the process that was
 * to bring it about has ended).
 */
export async function waitFor<T>(
  what: string,
  ask: () => Promise<T | null>,
  options: { readonly withinMs: number; readonly everyMs?: number; readonly failed?: Promise<never> },
): Promise<T> {
  const end = performance.now() + options.withinMs;
  let lastError: unknown = null;
  while (performance.now() < end) {
    const answer = await Promise.race([
      ask().catch((error: unknown) => {
        lastError = error;
        return null;
      }),
      ...(options.failed === undefined ? [] : [options.failed]),
    ]);
    if (answer !== null) return answer;
    await sleep(options.everyMs ?? 20);
  }
  const reason = lastError instanceof Error ? ` (${lastError.message})` : "";
  throw new Error(`${what}: not within ${options.withinMs / 1000} s${reason}`);
}

/** True once something listens on the port; null before. */
export async function listening(port: number): Promise<true | null> {
  return await new Promise((resolve) => {
    const socket = createConnection({ host: "127.0.0.1", port });
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(null));
  });
}
