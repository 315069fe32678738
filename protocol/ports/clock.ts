/** Time as an argument. Domain code never reads a clock by itself. */
export interface Clock {
  /** Milliseconds since 1970; may jump. For timestamps and deadlines that others read. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back. For durations, leases and retries. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it is aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `run` once after `ms`, unless what is returned was called first. */
  after(ms: number, run: () => void): () => void;
}
