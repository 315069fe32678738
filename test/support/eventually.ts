import { setTimeout as delay } from "node:timers/promises";

/** Repeats an assertion until it passes; throws its last error after `withinMs`. */
export async function eventually(
  assertion: () => void | Promise<void>,
  withinMs = 10_000,
  everyMs = 10,
): Promise<void> {
  const until = performance.now() + withinMs;
  for (;;) {
    try {
      await assertion();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await delay(everyMs);
    }
  }
}
