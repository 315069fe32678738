/** When to report: at once while it matters for the window, otherwise at most every 100 ms, and every second anyway. */
import type { Clock } from "../../protocol/ports/clock.ts";

const HEARTBEAT_MS = 1_000;
const CALM_MS = 100;

export class Reporter {
  readonly #clock: Clock;
  readonly #send: (reportSequence: number) => void;
  #sequence = 0;
  #sentAt = Number.NEGATIVE_INFINITY;
  #pending: "turn" | "calm" | null = null;
  #running: AbortController | null = null;
  /** A fence is up or a share is about to open: every change is said at once. */
  urgent = false;

  constructor(clock: Clock, send: (reportSequence: number) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  start(): void {
    this.#running = new AbortController();
    void this.#beat(this.#running.signal);
  }

  stop(): void {
    this.#running?.abort();
    this.#running = null;
  }

  /** Something changed. Changes of one turn of the event loop are said together. */
  now(): void {
    const running = this.#running;
    if (!running || this.#pending === "turn") return;
    const waitMs = this.urgent ? 0 : this.#sentAt + CALM_MS - this.#clock.monotonic();
    if (waitMs <= 0) {
      // Overtakes a calm report that is still waiting.
      this.#pending = "turn";
      queueMicrotask(() => this.#flush("turn"));
    } else if (this.#pending === null) {
      this.#pending = "calm";
      const flush = () => this.#flush("calm");
      void this.#clock.sleep(waitMs, running.signal).then(flush, () => undefined);
    }
  }

  #flush(of: "turn" | "calm" | "beat"): void {
    if (!this.#running || (of === "calm" && this.#pending !== "calm")) return;
    this.#pending = null;
    this.#sentAt = this.#clock.monotonic();
    this.#sequence += 1;
    this.#send(this.#sequence);
  }

  async #beat(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#clock.monotonic() - this.#sentAt >= HEARTBEAT_MS) this.#flush("beat");
      await this.#clock.sleep(HEARTBEAT_MS / 2, signal).catch(() => undefined);
    }
  }
}
