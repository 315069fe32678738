/** Removal of dormant rows, as agent/stores/postgres/removal does it: batch by batch, asking twice before each. */
import { CleaveError } from "../../../protocol/errors.ts";
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreParts } from "./parts.ts";
import type { PostgresServer } from "./server.ts";
import { slotName } from "./slot-names.ts";
import { type Change, newestFirst, type RowId } from "./state.ts";

const BATCH_ROWS = 20;
const PAUSE_MS = 5;

export interface RemovalPorts {
  readonly parts: PostgresStoreParts;
  readonly administer: (changes: readonly Change[]) => Promise<void>;
  /** A target whose share went back still enforces what it knew when it did. */
  readonly enforce: () => Promise<void>;
  /** The way back of this migration, if there was one. */
  readonly takeDown: () => Promise<void>;
  readonly set: (change: Partial<StoreStatus>) => void;
}

/** Repositories and objects go first; until then rows say whose they are. */
export async function reachRemoval(ports: RemovalPorts, duty: Duty, signal: AbortSignal): Promise<void> {
  const { own, run } = ports.parts;
  await run.clock.sleep(1, signal);
  own.requirePrimary(duty.goal);
  await ports.takeDown();
  if (own.state.routes.has(duty.migrationId)) await ports.enforce();
  if (duty.goal === "removeRows" && own.state.routes.has(duty.migrationId)) {
    await removeRows(ports, duty, signal);
    const name = slotName(duty.migrationId, own.podId);
    const forgotten: Change[] =
      duty.role === "target" && duty.kind === "move"
        ? [
            { type: "origin", name, position: null },
            { type: "copying", name, copy: null },
          ]
        : [];
    const { migrationId, of } = duty;
    await ports.administer([...forgotten, { type: "settle", migrationId, of, wentBack: wentBack(duty) }]);
  }
  ports.set({ reached: true, lag: null, verified: true, problems: [] });
}

/** What its rollbacks took back to the source: they removed what was left of it. */
export function wentBack(duty: Duty): string[] {
  return duty.rollbacks.flatMap(({ phase, assignments }) =>
    phase === "opened" ? [...assignments.keys()] : [],
  );
}

/**
 * Of a source and of a move's target: what the migration named. Of a split's target: whatever is not its own. Of a
 * rollback's target nothing: what it did not take over is the copy that the migration before retains.
 */
function candidates(own: PostgresServer, duty: Duty): string[] {
  if (duty.role === "target" && duty.kind === "rollback") return [];
  const back = new Set(duty.role === "source" ? wentBack(duty) : []);
  if (duty.role === "target" && duty.kind === "split") return [...own.state.rows.keys()];
  return [...duty.assignments].flatMap(([organization, target]) => {
    const leaves =
      duty.role === "source" ? duty.shares[target] === "opened" : duty.shares[target] === "source";
    return leaves && !back.has(organization) && own.state.rows.has(organization) ? [organization] : [];
  });
}

/** The Pod's own word: another Pod is authoritative here, and nobody else has staged the organization. */
function isDormantHere(
  { state, clusterName, defaultPodId }: PostgresServer,
  duty: Duty,
  organization: string,
) {
  for (const [migrationId, { assignments }] of newestFirst(state.routes)) {
    const target = assignments.get(organization as never);
    if (target === undefined) continue;
    const share = state.shares.get(migrationId)?.get(target);
    if (migrationId !== duty.migrationId || share === undefined) return false;
    if (share.phase === "opened") return target !== clusterName;
    return share.phase === "source" && share.source !== clusterName;
  }
  return (state.base.get(organization) ?? defaultPodId) !== clusterName;
}

async function removeRows(ports: RemovalPorts, duty: Duty, signal: AbortSignal): Promise<void> {
  const { own, run, onRemoved } = ports.parts;
  const organizations = candidates(own, duty);
  let done = 0;
  for (const organization of organizations) {
    for (;;) {
      const rows = own.state.rows.get(organization) ?? [];
      if (rows.length === 0 || !duty.removal?.mayRemove(organization as never)) break;
      if (!isDormantHere(own, duty, organization)) break;
      onRemoved([organization]);
      const batch = rows.slice(0, BATCH_ROWS).map((write): RowId => ({ organization, write }));
      await ports.administer([{ type: "remove", rows: batch }]);
      await run.clock.sleep(PAUSE_MS, signal);
      own.requirePrimary("removal");
    }
    done += 1;
    ports.set({ progress: { done, total: organizations.length, unit: "rows" } });
  }
  const left = candidates(own, duty).find(
    (organization) => duty.role === "source" || isDormantHere(own, duty, organization),
  );
  if (left !== undefined)
    throw new CleaveError("REMOVAL_NOT_ALLOWED", `${left} may not be removed from ${duty.podId} yet`);
}
