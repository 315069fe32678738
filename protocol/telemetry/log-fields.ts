/** What a log line of an event says beside its type: the names by which lines of all processes are found together. */
import type { ReadRecord } from "../events.ts";

export interface EventFields {
  readonly migration?: string;
  readonly pod?: string;
  readonly epoch?: number;
}

/** `pod` is the one whose share an event settles; a line's writer says by itself who it is. */
export function fieldsOf(event: ReadRecord["events"][number]): EventFields {
  if (event.type === "Unknown") {
    const { migrationId } = event.event;
    return migrationId === undefined ? {} : { migration: migrationId };
  }
  if (event.type === "ClusterConfigured") return {};
  return {
    migration: event.migrationId,
    ...("podId" in event ? { pod: event.podId } : {}),
    ...("epoch" in event ? { epoch: event.epoch } : {}),
  };
}
