/** Removal of dormant repositories or objects, as agent/stores/git and agent/stores/objects do it. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { FileServer } from "./server.ts";

const BATCH = 5;
const PAUSE_MS = 3;

export interface RemovalPorts {
  readonly own: FileServer;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly onRemoved: (organizations: readonly string[]) => void;
}

/** What its rollbacks took back to the source: they removed what was left of it. */
export function wentBack(duty: Duty): ReadonlySet<string> {
  const opened = duty.rollbacks.filter(({ phase }) => phase === "opened");
  return new Set(opened.flatMap(({ assignments }) => [...assignments.keys()]));
}

/**
 * Of a source and of a move's target: what the migration named. Of a split's target: whatever is not its own. Of a
 * rollback's target nothing: what it did not take over is the copy that the migration before retains.
 */
function isCandidate(duty: Duty, organization: string): boolean {
  if (duty.role === "target" && duty.kind === "rollback") return false;
  if (duty.role === "source" && wentBack(duty).has(organization)) return false;
  if (duty.role === "target" && duty.kind === "split") return true;
  const target = duty.assignments.get(organization as never);
  if (target === undefined) return false;
  return duty.shares[target] === (duty.role === "source" ? "opened" : "source");
}

/** Nothing is left when it resolves. */
export async function removeFiles(ports: RemovalPorts, duty: Duty, signal: AbortSignal): Promise<void> {
  const { own } = ports;
  let held: string | null = null;
  for (const [organization, keys] of own.keys) {
    if (keys.size === 0 || !isCandidate(duty, organization)) continue;
    while (keys.size > 0) {
      const may = duty.removal?.mayRemove(organization as never) ?? false;
      const dormant = own.isDormant(organization, duty.migrationId);
      if (!may && dormant) held ??= organization;
      if (!may || !dormant) break;
      ports.onRemoved([organization]);
      for (const key of [...keys].slice(0, BATCH)) own.delete(key);
      await ports.sleep(PAUSE_MS, signal);
    }
  }
  if (held !== null)
    throw new CleaveError("REMOVAL_NOT_ALLOWED", `${held} may not be removed from ${duty.podId}`);
}
