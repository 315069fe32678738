/** Removes dormant objects (rule 10), as the listing names them: nothing is remembered, so a kill costs nothing. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Finding, OwnProblem, StoreStatus } from "../../../../protocol/evidence.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { counted, formatAmount } from "../../../../protocol/wording.ts";
import { forEachParallel } from "../../common/parallel.ts";
import {
  mayHaveDormant,
  RemovalScope,
  removeInBatches,
  requireRemoval,
  some,
} from "../../common/removal/scope.ts";
import type { ObjectsContext } from "../context.ts";
import { quoteKey } from "../inventory/keys.ts";
import { readCopyRecord } from "../replication/copy-record.ts";

/** After so many both are asked again. */
const BATCH = 200;
const NAMED = 5;

interface DormantObject {
  readonly key: string;
  readonly bytes: number;
  readonly organizationId: OrganizationId;
}

/** What a listing found, besides what is dormant. */
class Remaining {
  objects = 0;
  bytes = 0;
  readonly organizations = new Set<OrganizationId>();
  #unknown = 0;
  #unlistable = 0;
  readonly #examples: string[] = [];

  count({ bytes, organizationId }: DormantObject): void {
    this.objects += 1;
    this.bytes += bytes;
    this.organizations.add(organizationId);
  }
  countUnknown(key: string): void {
    this.#unknown += 1;
    if (this.#examples.length < NAMED) this.#examples.push(quoteKey(key));
  }
  readonly countUnlistable = (name: string, reason: string): void => {
    this.#unlistable += 1;
    if (this.#examples.length < NAMED) this.#examples.push(`${quoteKey(name)} (${reason})`);
  };

  /** What stays since nobody knows whose it is. */
  problems(): OwnProblem[] {
    const count = this.#unknown + this.#unlistable;
    if (count === 0) return [];
    const message = `${counted(count, "object")} without a known owner stay: ${some(this.#examples)}`;
    return [{ code: this.#unknown > 0 ? "OWNER_UNKNOWN" : "OBJECT_UNREADABLE", message }];
  }
}

export class ObjectsRemoval {
  readonly #context: ObjectsContext;
  #progress: { done: number; total: number } | null = null;
  #problems: OwnProblem[] = [];

  constructor(context: ObjectsContext) {
    this.#context = context;
  }

  get progress(): StoreStatus["progress"] {
    return this.#progress && { ...this.#progress, unit: "objects" };
  }

  get problems(): readonly OwnProblem[] {
    return this.#problems;
  }

  /**
   * Resolves when nothing dormant of the migration is left here. Idempotent; after a kill it goes on where it was.
   * @throws CleaveError REMOVAL_NOT_ALLOWED; the signal's reason.
   */
  async run(duty: Duty, signal: AbortSignal): Promise<void> {
    requireRemoval(duty);
    const { backend, fence, clock, log, changed, root } = this.#context;
    await root.require();
    const inventory = await this.#context.inventory();
    const scope = new RemovalScope(duty, fence);
    const { objects, problems } = await measure(this.#context, duty, scope, signal);
    this.#problems = problems;
    for (const { code, message } of problems) log.warn({ code }, message);
    let done = 0;
    const tell = () => {
      this.#progress = { done, total: Math.max(done, objects) };
      changed();
    };
    tell();
    await removeInBatches(dormantObjects(this.#context, duty, scope, new Remaining(), signal), {
      scope,
      size: BATCH,
      clock,
      signal,
      remove: async (batch) => {
        await root.require();
        await forEachParallel(batch, duty.settings.rateLimits.objectConcurrency, async ({ key }) => {
          signal.throwIfAborted();
          await backend.delete(key);
          inventory.delete(key);
          done += 1;
        });
        tell();
      },
    });
    if (done > 0) log.info({ migrationId: duty.migrationId, objects: done }, "dormant objects are removed");
    scope.requireNoneHeld();
  }

  /** @throws CleaveError REMOVAL_DISAGREES when something came back. */
  async requireNothingLeft(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#context.root.require();
    const scope = new RemovalScope(duty, this.#context.fence);
    const { objects, organizations } = await measure(this.#context, duty, scope, signal);
    if (objects > 0)
      throw new CleaveError(
        "REMOVAL_DISAGREES",
        `${counted(objects, "object")} of ${some([...organizations])} came back`,
      );
  }
}

/** Every dormant object of the migration; `into` hears of everything else that matters. */
async function* dormantObjects(
  { backend, ownerLookup, stateDirectory }: ObjectsContext,
  duty: Duty,
  scope: RemovalScope,
  into: Remaining,
  signal: AbortSignal,
): AsyncGenerator<DormantObject> {
  if (!mayHaveDormant(duty)) return;
  // Without the proof that this migration found nothing of its organizations here, they are somebody's (I7).
  const copies = duty.kind === "move" && duty.role === "target";
  if (copies && (await readCopyRecord(stateDirectory, duty.migrationId)) === null) return;
  for await (const { key, bytes } of backend.list({ onUnlistable: into.countUnlistable })) {
    signal.throwIfAborted();
    const owner = ownerLookup.object(key);
    if (owner === null) into.countUnknown(key);
    if (owner?.kind !== "organization") continue;
    const { organizationId } = owner;
    if ((await scope.standingOf(organizationId)) === "dormant") yield { key, bytes, organizationId };
  }
}

async function measure(
  context: ObjectsContext,
  duty: Duty,
  scope: RemovalScope,
  signal: AbortSignal,
): Promise<{
  readonly objects: number;
  readonly bytes: number;
  readonly organizations: ReadonlySet<OrganizationId>;
  readonly problems: OwnProblem[];
}> {
  const found = new Remaining();
  for await (const object of dormantObjects(context, duty, scope, found, signal)) found.count(object);
  // A disk may go while it is listed, and then less was listed than there is.
  await context.root.require();
  const { objects, bytes, organizations } = found;
  return { objects, bytes, organizations, problems: found.problems() };
}

/** What would be removed, before it is. Takes as long as there are objects: nobody waits but the operator who asked. */
export async function preflightRemoval(
  context: ObjectsContext,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const say = (severity: Finding["severity"], code: Finding["code"], message: string): Finding => ({
    store: "objects",
    severity,
    code,
    message,
  });
  const info = (message: string) => say("info", "DORMANT_DATA", message);
  const splitTarget = duty.kind === "split" && duty.role === "target";
  if (splitTarget && duty.shares[duty.podId] !== "opened")
    return [
      info(
        `this Pod never opened, so nothing is removed here: ${context.backend.place} is the operator's to delete`,
      ),
    ];
  const scope = new RemovalScope(duty, context.fence);
  const { objects, bytes, organizations, problems } = await measure(context, duty, scope, signal);
  const findings = problems.map(({ code, message }) => say("warning", code, message));
  // Whoever holds it ends by itself; a split's target removes the others meanwhile.
  if (scope.held.size > 0)
    findings.push(say(splitTarget ? "warning" : "error", "REMOVAL_NOT_ALLOWED", scope.describeHeld()));
  findings.push(
    info(
      objects === 0
        ? "nothing is dormant here: no objects would be removed"
        : `${counted(objects, "object")}, about ${formatAmount(bytes, "bytes")}, of ${counted(organizations.size, "organization")} would be removed`,
    ),
  );
  return findings;
}
