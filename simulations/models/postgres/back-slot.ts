/** On a target: the slot that its source will follow once this Pod is open, and what it keeps of this Pod's disk. */
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { PostgresServer } from "./server.ts";
import { backSlotName } from "./slot-names.ts";

/** Made while nobody but a copy can write to the organizations: nothing makes up for a slot that begins later. */
export async function keepBackSlot(
  { own, run }: PostgresStoreParts,
  duty: Duty,
  signal: AbortSignal,
): Promise<void> {
  const name = backSlotName(duty.migrationId, own.podId);
  const { logical } = own;
  if (!duty.reverseReplication.includes(own.podId)) {
    logical.drop(name);
    return;
  }
  const found = logical.slots.get(name);
  if (duty.goal === "open" || (found !== undefined && !found.lost)) return;
  const snapshot = await logical.create(own, name, run, signal);
  logical.release(snapshot.name);
}

export function keptBytes(own: PostgresServer, duty: Duty): number {
  const slot = own.logical.slots.get(backSlotName(duty.migrationId, own.podId));
  return slot === undefined || slot.lost ? 0 : own.position - slot.confirmed;
}
