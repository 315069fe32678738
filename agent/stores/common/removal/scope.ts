/**
 * Whose repositories or objects are dormant on this Pod, and may they go? Two answers are needed: the log's (`Removal`),
 * and that of the Pod's own routes, which are what its writers go by (rule 10). Of one run of one store.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { FileFence } from "../../file-fence/file-fence.ts";
import { wentBack } from "../reverse/claims.ts";

/** `kept`: none of this migration's business, or served here. `held`: would have to go, and must not now. */
export type Standing = "kept" | "dormant" | "held";

/** How many of many a message names. */
const NAMED = 5;

export class RemovalScope {
  readonly #duty: Duty;
  readonly #fence: FileFence;
  readonly #standings = new Map<OrganizationId, Standing>();
  readonly #held = new Map<OrganizationId, string>();

  constructor(duty: Duty, fence: FileFence) {
    this.#duty = duty;
    this.#fence = fence;
  }

  /** Organization → why it is held. */
  get held(): ReadonlyMap<OrganizationId, string> {
    return this.#held;
  }

  /** As this Pod has it, without asking the log: before the retention is over nothing may be removed anyway. */
  async standingOf(organizationId: OrganizationId): Promise<Standing> {
    const known = this.#standings.get(organizationId);
    if (known !== undefined) return known;
    const standing = await this.#find(organizationId);
    this.#standings.set(organizationId, standing);
    return standing;
  }

  /**
   * Deletion asks twice: the routes again and then the log, which is last, so that nothing lies between its answer and
   * the deletion. Returns those that may go now.
   * @throws CleaveError REMOVAL_NOT_ALLOWED when one may not; of a split's target only `requireNoneHeld` throws, since the
   * others go first.
   */
  async allowed(organizations: Iterable<OrganizationId>): Promise<ReadonlySet<OrganizationId>> {
    const asked = new Set(organizations);
    for (const id of asked)
      if ((await this.#find(id)) !== "dormant") {
        if (!this.#held.has(id)) this.#held.set(id, "this Pod serves it by now");
        asked.delete(id);
      }
    for (const id of asked)
      if (this.#duty.removal?.mayRemove(id) !== true) {
        this.#held.set(id, "the log says that it is authoritative here, retained or claimed");
        asked.delete(id);
      }
    for (const id of this.#held.keys()) this.#standings.set(id, "held");
    if (!keepsItsOwn(this.#duty)) this.requireNoneHeld();
    return asked;
  }

  /** @throws CleaveError REMOVAL_NOT_ALLOWED naming some of the organizations that had to stay. */
  requireNoneHeld(): void {
    if (this.#held.size > 0) throw new CleaveError("REMOVAL_NOT_ALLOWED", this.describeHeld());
  }

  describeHeld(): string {
    return some([...this.#held].map(([id, why]) => `organization ${id}: ${why}`));
  }

  async #find(organizationId: OrganizationId): Promise<Standing> {
    if (!isCandidate(this.#duty, organizationId)) return "kept";
    const { migrationId, podId: self } = this.#duty;
    const { podId, unsettled } = await this.#fence.whereaboutsOf(organizationId, migrationId);
    if (podId === self && keepsItsOwn(this.#duty)) return "kept";
    if (podId !== null && podId !== self && unsettled === null) return "dormant";
    this.#held.set(organizationId, unsettled ?? "this Pod is authoritative for it");
    return "held";
  }
}

/** It got everything, so what goes is not written in any plan. */
const keepsItsOwn = ({ role, kind }: Duty): boolean => role === "target" && kind === "split";

/**
 * Of a source what others opened and still have, of a split's target everything, of a move's target what it took over in
 * vain. What a rollback took over in vain is not its own: the migration before left it, and removes it.
 */
function isCandidate(duty: Duty, organizationId: OrganizationId): boolean {
  const { role, assignments, shares, podId } = duty;
  if (keepsItsOwn(duty)) return true;
  const target = assignments.get(organizationId);
  if (target === undefined || !mayHaveDormant(duty)) return false;
  if (wentBack(duty, organizationId)) return false;
  return role === "source" ? shares[target] === "opened" : target === podId && shares[target] === "source";
}

/** Whether the migration has left anything here that could be removed. */
export function mayHaveDormant(duty: Duty): boolean {
  const { role, kind, shares, podId } = duty;
  return role === "source" || kind === "split" || (kind === "move" && shares[podId] === "source");
}

/** @throws CleaveError REMOVAL_NOT_ALLOWED while nothing may be removed. */
export function requireRemoval({ removal, shares }: Duty): void {
  if (removal === null) throw new CleaveError("REMOVAL_NOT_ALLOWED", "the retention is not over");
  const open = Object.entries(shares).find(([, phase]) => phase !== "opened" && phase !== "source");
  if (open !== undefined)
    throw new CleaveError("REMOVAL_NOT_ALLOWED", `the share of ${open[0]} is ${open[1]}`);
}

export interface Dormant {
  readonly organizationId: OrganizationId;
}

/**
 * Removes what may go, batch by batch, asking before each. Between batches it rests as long as the last one took, so that
 * whoever is served here has at least half of the disk.
 */
export async function removeInBatches<T extends Dormant>(
  items: Iterable<T> | AsyncIterable<T>,
  options: {
    readonly scope: RemovalScope;
    readonly size: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly remove: (batch: readonly T[]) => Promise<void>;
  },
): Promise<void> {
  const { scope, size, clock, signal, remove } = options;
  let batch: T[] = [];
  const flush = async () => {
    signal.throwIfAborted();
    const allowed = await scope.allowed(batch.map(({ organizationId }) => organizationId));
    const startedAt = clock.monotonic();
    await remove(batch.filter(({ organizationId }) => allowed.has(organizationId)));
    batch = [];
    await clock.sleep(clock.monotonic() - startedAt, signal);
  };
  for await (const item of items) {
    batch.push(item);
    if (batch.length === size) await flush();
  }
  if (batch.length > 0) await flush();
}

/** A few of many, for a message. */
export function some(texts: readonly string[]): string {
  const more = texts.length > NAMED ? `; and ${texts.length - NAMED} more` : "";
  return `${texts.slice(0, NAMED).join("; ")}${more}`.slice(0, 2_000);
}
