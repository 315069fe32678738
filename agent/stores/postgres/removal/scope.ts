/**
 * Whose rows are dormant on this Pod, and may they go? Two answers are needed: the log's (`Removal`), and that of the
 * Pod's own routes, which are what its guard goes by (rule 10).
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { isGuarded } from "../fence/install.ts";
import { begunCopy } from "../replication/copy-journal.ts";
import { originPosition } from "../replication/follow.ts";
import type { Database } from "../server/connection.ts";
import { quoteIdentifier, quoteTable } from "../server/queryable.ts";
import { slotName } from "../split/slots.ts";
import type { Organizations } from "./tables.ts";

/** Of many organizations, how many are asked for at once, and how many a message names. */
const SLICE = 5_000;
const NAMED = 3;

export interface Scope {
  /** Dormant here; nothing of this Pod speaks against their removal. */
  readonly dormant: Organizations;
  /** Not served here as far as this migration goes, and not to be removed now; each with the reason. */
  readonly held: readonly string[];
}

interface Whereabouts {
  readonly id: OrganizationId;
  /** Authoritative, as far as this Pod knows. */
  readonly pod: PodId | null;
  /** Why nobody can say who is. */
  readonly unsettled: string | null;
}

/** Without a route an organization is the default Pod's. What another migration has staged here is never settled. */
const WHEREABOUTS = `
SELECT given.id,
  CASE WHEN route.migration_id IS NULL THEN COALESCE(route.pod_id, pod.default_pod_id)
    WHEN share.phase = 'opened' THEN share.target_pod_id ELSE share.source_pod_id END AS pod,
  CASE WHEN route.migration_id <> $2 THEN 'it is staged here for the migration ' || route.migration_id
    WHEN route.migration_id IS NOT NULL AND COALESCE(share.phase, 'lost') NOT IN ('source', 'opened')
      THEN 'its share is ' || COALESCE(share.phase, 'not staged') END AS unsettled
FROM unnest($1::text[]) AS given (id) CROSS JOIN cleave.pod
  LEFT JOIN cleave.route ON route.organization_id = given.id
  LEFT JOIN cleave.share ON share.migration_id = route.migration_id AND share.target_pod_id = route.target_pod_id`;

async function whereabouts(
  db: Database,
  migrationId: MigrationId,
  organizations: Organizations,
): Promise<Whereabouts[]> {
  return (await db.query<Whereabouts>(WHEREABOUTS, [organizations, migrationId])).rows;
}

/**
 * What this migration has left dormant here: on the source of what others opened, on a split's target of whatever is not
 * its own, on a move's target of what it copied in vain. Asks this Pod alone.
 * @throws CleaveError REMOVAL_NOT_ALLOWED when this Pod has no guard that could say who is authoritative.
 */
export async function findDormant(db: Database, duty: Duty, ownership: Ownership): Promise<Scope> {
  const guarded = await isGuarded(db);
  const candidates = await candidatesOf(db, duty, ownership, guarded);
  const dormant: OrganizationId[] = [];
  const held: string[] = [];
  for (let from = 0; from < candidates.length; from += SLICE) {
    if (!guarded)
      throw notAllowed(["this Pod has no guard, so it cannot say which organizations are its own"]);
    for (const { id, pod, unsettled } of await whereabouts(
      db,
      duty.migrationId,
      candidates.slice(from, from + SLICE),
    )) {
      // A split's target keeps its own, whoever else has staged it; what the others were told to remove cannot be theirs.
      if (pod === duty.podId && keepsItsOwn(duty)) continue;
      if (unsettled !== null) held.push(`organization ${id}: ${unsettled}`);
      else if (pod !== duty.podId) dormant.push(id);
      else held.push(`organization ${id}: this Pod is authoritative for it`);
    }
  }
  return { dormant, held };
}

/** It got everything, so what goes is not written in any plan. */
export const keepsItsOwn = ({ role, kind }: Duty): boolean => role === "target" && kind === "split";

async function candidatesOf(
  db: Database,
  duty: Duty,
  { root }: Ownership,
  guarded: boolean,
): Promise<Organizations> {
  const { assignments, shares, podId, rollbacks } = duty;
  // What went back is served here, or is for the rollback to remove.
  const wentBack = (id: OrganizationId) =>
    rollbacks.some((one) => one.phase === "opened" && one.assignments.has(id));
  if (duty.role === "source")
    return [...assignments].flatMap(([id, target]) =>
      shares[target] === "opened" && !wentBack(id) ? [id] : [],
    );
  if (keepsItsOwn(duty)) {
    const { rows } = await db.query<{ id: OrganizationId }>(
      `SELECT ${quoteIdentifier(root.key)}::pg_catalog.text AS id FROM ${quoteTable(root.table)}`,
    );
    return rows.map(({ id }) => id);
  }
  if (shares[podId] === "opened" || !guarded) return [];
  // Without a copy of this migration whatever is here is somebody's (I7).
  const slot = slotName(duty.migrationId, podId);
  const copied = (await originPosition(db, slot)) !== null || (await begunCopy(db, slot)) !== null;
  return copied ? [...assignments].flatMap(([id, target]) => (target === podId ? [id] : [])) : [];
}

/** The log's answer. @throws CleaveError REMOVAL_NOT_ALLOWED naming the first that may not be removed. */
export function requireAllowed({ removal }: Duty, organizations: Organizations): void {
  if (removal === null) throw notAllowed(["the retention is not over"]);
  const refused = organizations.find((id) => !removal.mayRemove(id));
  if (refused !== undefined) throw notAllowed([refusedByLog(refused)]);
}

/** @throws CleaveError REMOVAL_NOT_ALLOWED when a share may still go either way. */
export function requireDecided({ shares }: Duty): void {
  const open = Object.entries(shares).filter(([, phase]) => phase !== "opened" && phase !== "source");
  if (open.length > 0) throw notAllowed(open.map(([target, phase]) => `the share of ${target} is ${phase}`));
}

export const refusedByLog = (id: OrganizationId): string =>
  `organization ${id}: the log says that it is authoritative here, retained or claimed`;

/**
 * The Pod's own answer, which holds to the end of the transaction: until then nobody stages a route here and no share of
 * the migration flips. The table of routes is locked and not its rows, for an organization without a route has none.
 * @throws CleaveError REMOVAL_NOT_ALLOWED
 */
export async function requireDormant(db: Database, duty: Duty, organizations: Organizations): Promise<void> {
  await db.query("LOCK TABLE cleave.route IN SHARE MODE");
  await db.query("SELECT FROM cleave.share WHERE migration_id = $1 FOR SHARE", [duty.migrationId]);
  const found = await whereabouts(db, duty.migrationId, organizations);
  const refused = found.find(({ pod, unsettled }) => unsettled !== null || pod === duty.podId);
  if (refused === undefined && found.length === organizations.length) return;
  const why = refused?.unsettled ?? "this Pod is authoritative for it";
  throw notAllowed([`organization ${refused?.id ?? ""}: ${why}`]);
}

export function notAllowed(reasons: readonly string[]): CleaveError {
  const more = reasons.length > NAMED ? `; and ${reasons.length - NAMED} more` : "";
  return new CleaveError("REMOVAL_NOT_ALLOWED", `${reasons.slice(0, NAMED).join("; ")}${more}`);
}
