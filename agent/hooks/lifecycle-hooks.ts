/**
 * Calls an operator's hooks when the log says that it is time. Before the transfer a failure stops the attempt; after
 * it, a hook is called until it succeeds, and nothing waits for it. At least once: a call may come again after a restart,
 * under the same id.
 */
import type { ClusterState, Migration } from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { CheckStage, Finding, Problem } from "../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../protocol/ids.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Duty } from "../../protocol/ports/store.ts";
import {
  beforeFence,
  beforeRemoval,
  dueAfterwards,
  fenced,
  type HookCall,
  type Point,
  roleOf,
} from "../domain/hook-points.ts";
import { callOut } from "./call.ts";
import { type Query, runChecks } from "./checks.ts";
import type { CheckConfig, HookConfig } from "./config.ts";
import type { HookJournal } from "./journal.ts";

const RETRY_MS = { first: 1_000, last: 60_000 } as const;

export interface LifecycleHooksOptions {
  readonly podId: PodId;
  readonly hooks: readonly HookConfig[];
  readonly checks: readonly CheckConfig[];
  readonly journal: HookJournal;
  readonly query: Query;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onCall?: (point: Point, outcome: "done" | "failed", seconds: number) => void;
}

export class LifecycleHooks {
  readonly #options: LifecycleHooksOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stopping = new AbortController();
  /** By migration and call; what is being called until it succeeds, and why it has not. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #problems = new Map<string, { readonly migrationId: MigrationId; readonly problem: Problem }>();
  /** Of fences: a call that failed is not repeated, since the attempt is lost. */
  readonly #failed = new Map<string, CleaveError>();
  #state: ClusterState | null = null;

  constructor(options: LifecycleHooksOptions) {
    this.#options = options;
  }

  /** After any change of the fold. */
  update(state: ClusterState): void {
    const first = this.#state === null;
    this.#state = state;
    if (this.#stopping.signal.aborted) return;
    for (const migration of Object.values(state.migrations)) {
      if (roleOf(migration, this.#options.podId) === null) continue;
      this.#meet(migration, first);
      for (const call of this.#dueAfterwards(migration)) this.#repeat(migration, call);
    }
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hooks that are called again and again, for the status. */
  problems(migrationId: MigrationId): Problem[] {
    return [...this.#problems.values()]
      .filter((one) => one.migrationId === migrationId)
      .map((one) => one.problem);
  }

  /** Ends what is being called. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the agent is stopping"));
    await Promise.all(this.#running.values());
  }

  /** An operator's own checks; then, when nothing speaks against going on, the hooks before what is checked for. */
  async preflight(
    duty: Duty,
    stage: CheckStage,
    others: Promise<Finding[]>,
    signal: AbortSignal,
  ): Promise<Finding[]> {
    const { checks, query } = this.#options;
    const found = (await Promise.all([others, runChecks(checks, duty, stage, query, signal)])).flat();
    const migration = this.#state?.migrations[duty.migrationId];
    if (migration === undefined || stage === "start") return found;
    const call = stage === "fence" ? beforeFence(migration) : beforeRemoval(migration);
    if (call === null || this.#missing(migration, call).length === 0) return found;
    if (stage === "fence" && !cutoverWanted(migration)) {
      const names = this.#missing(migration, call).map(({ name }) => name);
      const message = `${names.join(", ")}: called once the cutover is approved, and before the fence`;
      // An error, so that no coordinator raises a fence before the hooks were called.
      return [...found, { store: null, severity: "error", code: "HOOK_PENDING", message }];
    }
    if (found.some(({ severity }) => severity === "error")) return found;
    try {
      await this.#callInOrder(migration, call, signal);
      return found;
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = error as CleaveError;
      return [...found, { store: null, severity: "error", code, message: message.slice(0, 2_000) }];
    }
  }

  /** Beside the drain: all at once, so that the window grows by the slowest alone. @throws CleaveError HOOK_FAILED */
  async fenced({ migrationId }: Duty, signal: AbortSignal): Promise<void> {
    const migration = this.#state?.migrations[migrationId];
    if (migration === undefined) return;
    const call = fenced(migration);
    const id = `${migrationId} ${call.key}`;
    const before = this.#failed.get(id);
    if (before !== undefined) throw before;
    const missing = this.#missing(migration, call);
    if (missing.length === 0) return;
    this.#note(migrationId, call, missing, "begun");
    const ended = await Promise.allSettled(
      missing.map(async (hook) => {
        await this.#call(migration, call, hook, signal);
        this.#note(migrationId, call, [hook], "done");
      }),
    );
    signal.throwIfAborted();
    for (const one of ended)
      if (one.status === "rejected") {
        this.#failed.set(id, one.reason as CleaveError);
        throw one.reason;
      }
  }

  /** A migration that was past a point when hooks were first configured is not told of it afterwards. */
  #meet(migration: Migration, first: boolean): void {
    const { journal } = this.#options;
    const { migrationId } = migration;
    if (journal.knows(migrationId)) return;
    const past = first ? this.#dueAfterwards(migration) : [];
    const entries = past.flatMap((call) =>
      this.#hooksAt(call.point, migration).map(({ name }) => [`${call.key}/${name}`, "done"] as const),
    );
    this.#keep(journal.note(migrationId, Object.fromEntries(entries)));
  }

  #dueAfterwards(migration: Migration): HookCall[] {
    const { podId, journal } = this.#options;
    const due = dueAfterwards(migration, podId, (key) => journal.begun(migration.migrationId, key));
    return due.filter((call) => this.#missing(migration, call).length > 0);
  }

  #hooksAt(point: Point, migration: Migration): HookConfig[] {
    const role = roleOf(migration, this.#options.podId);
    return this.#options.hooks.filter((hook) => hook.at === point && (hook.role ?? role) === role);
  }

  #missing(migration: Migration, call: HookCall): HookConfig[] {
    const { journal } = this.#options;
    const done = (name: string) => journal.isDone(migration.migrationId, call.key, name);
    return this.#hooksAt(call.point, migration).filter(({ name }) => !done(name));
  }

  async #callInOrder(migration: Migration, call: HookCall, signal: AbortSignal): Promise<void> {
    const { migrationId } = migration;
    for (const hook of this.#missing(migration, call)) {
      // On disk before: whoever is told that an attempt begins is told when it is over.
      await this.#options.journal.note(migrationId, { [`${call.key}/${hook.name}`]: "begun" });
      await this.#call(migration, call, hook, signal);
      await this.#options.journal.note(migrationId, { [`${call.key}/${hook.name}`]: "done" });
    }
  }

  #repeat(migration: Migration, call: HookCall): void {
    const { migrationId } = migration;
    const id = `${migrationId} ${call.key}`;
    if (this.#running.has(id)) return;
    const { signal } = this.#stopping;
    const work = (async () => {
      for (
        let waitMs: number = RETRY_MS.first;
        !signal.aborted;
        waitMs = Math.min(waitMs * 2, RETRY_MS.last)
      ) {
        try {
          await this.#callInOrder(migration, call, signal);
          if (this.#problems.delete(id)) this.#tell();
          return;
        } catch (error) {
          if (signal.aborted) return;
          const message = `${(error as Error).message}; called again in ${waitMs / 1_000} s`.slice(0, 2_000);
          this.#problems.set(id, { migrationId, problem: { code: "HOOK_RETRIED", message } });
          this.#tell();
          await this.#options.clock.sleep(waitMs, signal).catch(() => undefined);
        }
      }
    })();
    this.#running.set(id, work);
    void work.finally(() => this.#running.delete(id));
  }

  /** @throws CleaveError HOOK_FAILED; the signal's reason. */
  async #call(migration: Migration, call: HookCall, hook: HookConfig, signal: AbortSignal): Promise<void> {
    const { podId, clock, logger, onCall } = this.#options;
    const { migrationId, context } = migration;
    const { point, attempt, key } = call;
    const from = clock.monotonic();
    const about = { migration: migrationId, hook: hook.name, point, attempt, epoch: context.fence?.epoch };
    const payload = {
      ...{ call: `${migrationId}/${podId}/${key}/${hook.name}`, hook: hook.name, point },
      ...{
        migration: migrationId,
        kind: migration.kind,
        pod: podId,
        role: roleOf(migration, podId),
        attempt,
      },
      // The one of the attempt; there is none yet before its fence.
      epoch: point === "beforeFence" ? null : (context.fence?.epoch ?? null),
      source: migration.sourcePodId,
      targets: context.targetPodIds,
      organizations: migration.assignments.organizations,
    };
    const ended = (outcome: "done" | "failed") =>
      onCall?.(point, outcome, (clock.monotonic() - from) / 1_000);
    try {
      await callOut(hook, payload, signal);
      ended("done");
      logger.info(about, "hook called");
    } catch (error) {
      signal.throwIfAborted();
      ended("failed");
      const message = `hook ${hook.name} (${point}): ${error instanceof Error ? error.message : String(error)}`;
      logger.warn({ ...about, code: "HOOK_FAILED" }, message);
      throw new CleaveError("HOOK_FAILED", message, { cause: error });
    }
  }

  /** Within the window nothing waits for the disk: after a crash a hook may be called once more. */
  #note(
    migrationId: MigrationId,
    call: HookCall,
    hooks: readonly HookConfig[],
    what: "begun" | "done",
  ): void {
    const entries = hooks.map(({ name }) => [`${call.key}/${name}`, what] as const);
    this.#keep(this.#options.journal.note(migrationId, Object.fromEntries(entries)));
  }

  #keep(written: Promise<void>): void {
    written.catch((error: unknown) =>
      this.#options.logger.error({ err: error }, "what hooks were called cannot be written"),
    );
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
