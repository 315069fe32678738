/** Removes dormant repositories (rule 10): out of sight at once by one rename each, and deleted afterwards. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Finding, OwnProblem, StoreStatus } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { counted, formatAmount } from "../../../../protocol/wording.ts";
import { RemovalScope, removeInBatches, requireRemoval, some } from "../../common/removal/scope.ts";
import type { GitContext } from "../context.ts";
import { type DormantRepository, planRemoval, type RemovalPlan } from "./plan.ts";

/** After so many both are asked again. */
const BATCH = 20;

export class GitRemoval {
  readonly #context: GitContext;
  readonly #onRemoved: (path: string) => Promise<void>;
  #progress: { done: number; total: number } | null = null;
  #problems: OwnProblem[] = [];

  /** `onRemoved`: the repository is not there any more. */
  constructor(context: GitContext, onRemoved: (path: string) => Promise<void> = async () => undefined) {
    this.#context = context;
    this.#onRemoved = onRemoved;
  }

  get progress(): StoreStatus["progress"] {
    return this.#progress && { ...this.#progress, unit: "repositories" };
  }

  /** What stays since nobody knows whose it is. */
  get problems(): readonly OwnProblem[] {
    return this.#problems;
  }

  /**
   * Resolves when nothing dormant of the migration is left here. Idempotent; after a kill it goes on where it was.
   * @throws CleaveError REMOVAL_NOT_ALLOWED, REMOVAL_REFERENCED, REMOVAL_DISAGREES; the signal's reason.
   */
  async run(duty: Duty, signal: AbortSignal): Promise<void> {
    requireRemoval(duty);
    this.#progress = null;
    const { backend, fence, clock, log, root } = this.#context;
    const { migrationId } = duty;
    await root.require();
    // What an earlier process hid and did not delete.
    await this.#finish(await backend.hidden(migrationId), duty, signal);
    const scope = new RemovalScope(duty, fence);
    const plan = await planRemoval(this.#context, duty, scope, signal);
    this.#note(plan);
    if (plan.references.length > 0) throw new CleaveError("REMOVAL_REFERENCED", some(plan.references));
    this.#progress = { done: 0, total: plan.removable.length };
    await removeInBatches(plan.removable, {
      scope,
      size: BATCH,
      clock,
      signal,
      remove: async (batch) => {
        await root.require();
        for (const { path } of batch) await backend.hide(path, migrationId);
        await this.#finish(
          batch.map(({ path }) => path),
          duty,
          signal,
        );
      },
    });
    if (this.#progress.done > 0)
      log.info({ migrationId, repositories: this.#progress.done }, "dormant repositories are removed");
    if (plan.disputed.length > 0) throw new CleaveError("REMOVAL_DISAGREES", some(plan.disputed));
    scope.requireNoneHeld();
  }

  /** @throws CleaveError REMOVAL_DISAGREES when something came back. */
  async requireNothingLeft(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#context.root.require();
    const plan = await planRemoval(this.#context, duty, new RemovalScope(duty, this.#context.fence), signal);
    const left = [...plan.removable.map(({ path }) => `${path} is still here`), ...plan.disputed];
    if (left.length > 0) throw new CleaveError("REMOVAL_DISAGREES", some(left));
  }

  #note(plan: RemovalPlan): void {
    this.#problems = problemsOf(plan);
    for (const { code, message } of this.#problems) this.#context.log.warn({ code }, message);
    this.#context.changed();
  }

  async #finish(paths: readonly string[], { migrationId }: Duty, signal: AbortSignal): Promise<void> {
    const { backend, fence, inventory, changed } = this.#context;
    for (const path of paths) {
      if (await backend.exists(path)) continue;
      await fence.removeOwner(path);
      await inventory.refresh(path, { removed: true });
      await this.#onRemoved(path);
    }
    // Before the names are gone with the content.
    await backend.removeEmptyFolders(paths);
    for (const path of paths) {
      signal.throwIfAborted();
      await backend.deleteHidden(path, migrationId);
      if (this.#progress) this.#progress = { ...this.#progress, done: this.#progress.done + 1 };
      changed();
    }
    await backend.endHiding(migrationId);
  }
}

/** What nobody can judge, so it stays (rule 11). */
function problemsOf({ unknown, unusable }: RemovalPlan): OwnProblem[] {
  const found: OwnProblem[] = [];
  const repositories = (count: number) => counted(count, "repository", "repositories");
  if (unknown.length > 0)
    found.push({
      code: "OWNER_UNKNOWN",
      message: `${repositories(unknown.length)} without a known owner stay: ${some(unknown)}`,
    });
  if (unusable.length > 0)
    found.push({
      code: "REPOSITORY_UNREADABLE",
      message: `${counted(unusable.length, "entry", "entries")} of the Git root cannot be handled and stay: ${some(unusable)}`,
    });
  return found;
}

/** What would be removed, before it is. Takes as long as there are files: nobody waits but the operator who asked. */
export async function preflightRemoval(
  context: GitContext,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const say = (severity: Finding["severity"], code: Finding["code"], message: string): Finding => ({
    store: "git",
    severity,
    code,
    message,
  });
  const info = (message: string) => say("info", "DORMANT_DATA", message);
  if (duty.kind === "split" && duty.role === "target" && duty.shares[duty.podId] !== "opened")
    return [
      info(
        `this Pod never opened, so nothing is removed here: ${context.backend.place} is the operator's to delete`,
      ),
    ];
  const scope = new RemovalScope(duty, context.fence);
  const plan = await planRemoval(context, duty, scope, signal);
  const findings: Finding[] = [];
  for (const reference of plan.references.slice(0, 20))
    findings.push(say("error", "REMOVAL_REFERENCED", reference));
  if (plan.disputed.length > 0) findings.push(say("error", "REMOVAL_DISAGREES", some(plan.disputed)));
  // Whoever holds it ends by itself; a split's target removes the others meanwhile.
  if (scope.held.size > 0) {
    const goesAhead = duty.kind === "split" && duty.role === "target";
    findings.push(say(goesAhead ? "warning" : "error", "REMOVAL_NOT_ALLOWED", scope.describeHeld()));
  }
  for (const { code, message } of problemsOf(plan)) findings.push(say("warning", code, message));
  return [...findings, info(await describe(context, plan.removable, signal))];
}

async function describe(
  { backend }: GitContext,
  removable: readonly DormantRepository[],
  signal: AbortSignal,
): Promise<string> {
  if (removable.length === 0) return "nothing is dormant here: no repositories would be removed";
  let bytes = 0;
  for (const { path } of removable) bytes += await backend.bytes(path, signal);
  const organizations = new Set(removable.map(({ organizationId }) => organizationId));
  return `${counted(removable.length, "repository", "repositories")}, about ${formatAmount(bytes, "bytes")}, of ${counted(organizations.size, "organization")} would be removed`;
}
