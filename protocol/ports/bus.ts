import type { Report } from "../messages.ts";

/** Reports between agents and coordinators: may be lost, repeated, delayed or reordered. */
export interface Bus {
  publishReport(report: Report): void;
  /** Malformed, oversized and wrong-version messages go to `onBad` and nowhere else. Returns the unsubscribe function. */
  onReport(onReport: (report: Report) => void, onBad: (error: Error) => void): () => void;
  /** Whether the connection to the bus is up, for status and health. */
  connected(): boolean;
}
