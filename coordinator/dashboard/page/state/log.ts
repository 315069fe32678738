/** The log as this browser folded it, with the coordinator's own code: the state after every record there was. */
import { signal } from "@preact/signals";
import { type ClusterState, emptyCluster } from "../../../../protocol/cluster.ts";
import { foldAndTell, type NumberedRecord, type ToldEntry } from "../../../domain/history.ts";
import { askJson, Refused } from "./client.ts";
import { listen } from "./event-stream.ts";

/** Folding goes on in slices of this, so that the page answers to its user meanwhile. */
const SLICE_MS = 8;

export interface Folded {
  readonly entry: ToldEntry;
  /** After the whole record that the entry is part of. */
  readonly state: ClusterState;
}

/** By migration, in order. A list that grew is another list, or views would not be drawn anew. */
const folded = new Map<string, readonly Folded[]>();
/** Sequence of the last record that is folded. */
export const foldedUntil = signal(0);
/** False: the coordinator began with a checkpoint, and the log's beginning is not at hand. Null: not known yet. */
export const complete = signal<boolean | null>(null);

const waiting: NumberedRecord[] = [];
let state = emptyCluster;
let received = 0;
let folding = false;

export function foldedOf(migrationId: string): readonly Folded[] {
  return folded.get(migrationId) ?? [];
}

export async function followLog(signal: AbortSignal): Promise<void> {
  const first = await untilAnswered(signal);
  if (first === null) return;
  complete.value = first.complete;
  await listen<NumberedRecord>(
    {
      path: () => `/v1/events?after=${received}`,
      onEvent: (record) => {
        if (record.sequence <= received) return;
        received = record.sequence;
        waiting.push(record);
        if (!folding) fold();
      },
      onState: () => undefined,
    },
    signal,
  );
}

async function untilAnswered(signal: AbortSignal): Promise<{ complete: boolean } | null> {
  while (!signal.aborted) {
    try {
      return await askJson<{ complete: boolean }>("/v1/events?after=0&limit=1", { signal });
    } catch (error) {
      // The form that asks for a token begins anew.
      if (error instanceof Refused && error.status === 401) return null;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
  return null;
}

function fold(): void {
  const until = performance.now() + SLICE_MS;
  const grown = new Map<string, Folded[]>();
  while (waiting.length > 0 && performance.now() < until) {
    const record = waiting.shift() as NumberedRecord;
    const next = foldAndTell(state, record);
    state = next.state;
    for (const entry of next.told) {
      const list = grown.get(entry.migrationId) ?? [];
      grown.set(entry.migrationId, list);
      list.push({ entry, state });
    }
  }
  for (const [migrationId, list] of grown) folded.set(migrationId, [...foldedOf(migrationId), ...list]);
  foldedUntil.value = state.sequence;
  folding = waiting.length > 0;
  if (folding) setTimeout(fold);
}
