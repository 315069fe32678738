/**
 * What a duty says about the way back, for stores of files; and who follows whom, so that two copies of different
 * migrations never work on the same organization.
 */
import type { OrganizationId, PodId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { StageRoutes } from "../../file-fence/file-fence.ts";
import { organizationHash } from "../../file-fence/layout.ts";
import type { MigrationEnd } from "../../file-fence/take-over.ts";
import { Conditions } from "../conditions.ts";

/** Of a source that yields: by target, the organizations whose changes flow back to this Pod now. */
export function flowsBack(duty: Duty): ReadonlyMap<PodId, ReadonlySet<OrganizationId>> {
  const found = new Map<PodId, ReadonlySet<OrganizationId>>();
  if (duty.role !== "source" || duty.goal !== "yield") return found;
  for (const podId of duty.reverseReplication) {
    const own = duty.rollbacks.filter((rollback) => rollback.podId === podId);
    if (duty.shares[podId] !== "opened" || own.some(({ phase }) => phase === "transferred")) continue;
    const organizations = new Set<OrganizationId>();
    for (const [organizationId, target] of duty.assignments)
      if (target === podId && !own.some(({ assignments }) => assignments.has(organizationId)))
        organizations.add(organizationId);
    if (organizations.size > 0) found.set(podId, organizations);
  }
  return found;
}

/** Of a target: whose changes this Pod tells the source; null when it tells nothing. */
export function givesBack(duty: Duty): ReadonlySet<OrganizationId> | null {
  const { role, goal, podId, reverseReplication, assignments } = duty;
  if (role !== "target" || (goal !== "activate" && goal !== "open") || !reverseReplication.includes(podId))
    return null;
  return new Set([...assignments].flatMap(([id, target]) => (target === podId ? [id] : [])));
}

/** A rollback has opened: the organization is where it was before the migration. */
export function wentBack({ rollbacks }: Duty, organizationId: OrganizationId): boolean {
  return rollbacks.some(({ phase, assignments }) => phase === "opened" && assignments.has(organizationId));
}

/** The routes of a duty's migration: a rollback takes over those of the migration before, which leaves them to it. */
export function stageOf(duty: Duty): StageRoutes {
  const { migrationId, sourcePodId, assignments, of, forced, rollbacks } = duty;
  return {
    migrationId,
    sourcePodId,
    assignments,
    leaveOut: (organizationId) => rollbacks.some((rollback) => rollback.assignments.has(organizationId)),
    takeOver: of === null ? null : { of, requireOpened: !forced },
  };
}

export function endOf(duty: Duty): MigrationEnd {
  const hashes = new Set<string>();
  for (const { phase, assignments } of duty.rollbacks)
    if (phase === "opened") for (const id of assignments.keys()) hashes.add(organizationHash(id));
  return { of: duty.of, returned: (hash) => hashes.has(hash) };
}

/** Who copies an organization's files to this Pod now, on the way back or for a rollback: one at a time. */
export class Claims {
  readonly #holders = new Map<OrganizationId, object>();
  readonly #conditions = new Conditions();

  /** Waits for those that hold one of them. @throws the signal's reason. */
  async take(organizations: Iterable<OrganizationId>, holder: object, signal: AbortSignal): Promise<void> {
    const wanted = [...organizations];
    const isFree = (id: OrganizationId) => (this.#holders.get(id) ?? holder) === holder;
    await this.#conditions.until(() => wanted.every(isFree), signal);
    signal.throwIfAborted();
    for (const id of wanted) this.#holders.set(id, holder);
  }

  release(holder: object): void {
    for (const [id, held] of this.#holders) if (held === holder) this.#holders.delete(id);
    this.#conditions.recheck();
  }
}
