import type { LogRecord, ReadRecord } from "../events.ts";

export type AppendResult =
  | { readonly outcome: "appended"; readonly sequence: number }
  /** Somebody else appended first: read on, fold, decide again. */
  | { readonly outcome: "conflict" };

export interface LogSubscription {
  /** Ends delivery; no record is delivered after it resolved. */
  close(): Promise<void>;
}

/** The one totally ordered log of the cluster (rule 1). Sequences start at 1 and have no gaps. */
export interface EventLog {
  /**
   * Appends one record if the log's last sequence is `expectedSequence`.
   * @throws CleaveError LOG_APPEND_UNKNOWN when no answer came: it may have happened, so read before deciding again.
   */
  append(record: LogRecord, expectedSequence: number): Promise<AppendResult>;
  /**
   * Delivers every record after `afterSequence` in order, exactly once, and goes on with new ones. Reconnects by
   * itself. `onRecord` is awaited before the next record.
   */
  subscribe(
    afterSequence: number,
    onRecord: (record: ReadRecord, sequence: number) => Promise<void> | void,
  ): Promise<LogSubscription>;
  /** The log's last sequence now, asked of the server: confirms a reader as up to date (rule 12). */
  lastSequence(): Promise<number>;
}
