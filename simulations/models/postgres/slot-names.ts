/** Names of logical slots, and of the origins that belong to them. */

/** Of a move: what its target streams from the source. */
export function slotName(migrationId: string, target: string): string {
  return `cleave_${migrationId}_${target}`;
}

/** On the target; of the origin on the source, too. */
export function backSlotName(migrationId: string, target: string): string {
  return `cleave_back_${migrationId}_${target}`;
}
