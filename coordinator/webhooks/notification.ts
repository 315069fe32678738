/** What a webhook is told of one event, and how the receiver knows that nobody else said it. Pure. */
import { createHmac } from "node:crypto";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import { evolve } from "../../protocol/evolve.ts";
import type { MigrationId } from "../../protocol/ids.ts";
import { fieldsOf } from "../../protocol/telemetry/log-fields.ts";

export interface Notification {
  /** The same from every coordinator and with every attempt: `<sequence>.<place in the record>`. */
  readonly id: string;
  readonly sequence: number;
  /** Milliseconds since 1970, by the clock of whoever decided. */
  readonly at: number;
  readonly by: string;
  readonly type: string;
  readonly migration: string;
  /** The migration's state before and after; `from` is null for its plan. */
  readonly from: string | null;
  readonly to: string | null;
  /** As it is in the log. */
  readonly event: object;
}

/** Of one record: an entry for each event that concerns a migration, and the state after the record. */
export function notificationsOf(
  before: ClusterState,
  record: ReadRecord,
  sequence: number,
): { readonly state: ClusterState; readonly notifications: readonly Notification[] } {
  let state = before;
  const notifications: Notification[] = [];
  for (const [place, event] of record.events.entries()) {
    const { migration } = fieldsOf(event);
    const lifecycle = () => state.migrations[migration as MigrationId]?.lifecycle ?? null;
    const from = migration === undefined ? null : lifecycle();
    state = evolve(state, { ...record, events: [event] }, sequence);
    if (migration === undefined) continue;
    const { at, by } = record;
    const content = event.type === "Unknown" ? event.event : event;
    const id = `${sequence}.${place}`;
    notifications.push({
      ...{ id, sequence, at, by, type: content.type, migration, from, to: lifecycle() },
      event: content,
    });
  }
  return { state, notifications };
}

/**
 * `t=<seconds since 1970>,v1=<hexadecimal HMAC-SHA-256>` over `<seconds>.<body>`: whoever listened cannot say it again
 * later, and nobody without the secret can say anything.
 */
export function signatureOf(body: string, secret: string, now: number): string {
  const seconds = Math.floor(now / 1_000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}
