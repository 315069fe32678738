/** Waiting until something is true that changes in many places, each of which says that it may be by now. */
export class Conditions {
  readonly #waiting = new Set<() => void>();

  /** Those who wait look again. */
  recheck(): void {
    for (const go of [...this.#waiting]) go();
  }

  /** Resolves when `condition` holds. @throws the signal's reason. */
  async until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    while (!condition()) {
      signal.throwIfAborted();
      await this.changed(signal);
    }
  }

  /** Resolves when somebody says next that something may be true by now, and when the signal aborts: at once when it has. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const go = () => {
        this.#waiting.delete(go);
        signal.removeEventListener("abort", go);
        resolve();
      };
      this.#waiting.add(go);
      signal.addEventListener("abort", go, { once: true });
    });
  }
}
