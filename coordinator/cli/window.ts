/** How long organizations were read-only, by the log's own times. */
import type { StoredRecord } from "../api/ports.ts";

export interface Window {
  readonly raisedAt: number;
  readonly transferredAt: number;
  /** The last target opened, or its share went back. */
  readonly openedAt: number;
}

/** Of the attempt that ended in a transfer; null without one, or when its beginning is not among the records. */
export function windowOf(records: readonly StoredRecord[], migrationId: string): Window | null {
  let raisedAt: number | null = null;
  let transferredAt: number | null = null;
  let openedAt: number | null = null;
  for (const { at, events } of records) {
    for (const event of events) {
      if (event.type === "Unknown" || event.type === "ClusterConfigured") continue;
      if (event.migrationId !== migrationId) continue;
      if (event.type === "FenceRaised") raisedAt = at;
      if (event.type === "AuthorityTransferred") transferredAt = at;
      if (event.type === "Opened" || event.type === "TransferRevoked") openedAt = at;
    }
  }
  if (raisedAt === null || transferredAt === null || openedAt === null) return null;
  return { raisedAt, transferredAt, openedAt };
}
