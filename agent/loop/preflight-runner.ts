/** Runs the stores' checks when the lifecycle asks for them: once in `preflight`, again and again while `ready`. */
import type { ClusterState, Migration } from "../../protocol/cluster.ts";
import { cutoverWanted } from "../../protocol/cutover.ts";
import type { Finding } from "../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../protocol/ids.ts";
import { mark } from "../../protocol/marks.ts";
import type { MigrationReport } from "../../protocol/messages.ts";
import { Pause } from "../../protocol/pause.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Duty, Store } from "../../protocol/ports/store.ts";

/** Well within what the coordinator accepts as recent, so that a cutover never waits for a check. */
const REPEAT_MS = 10_000;

/**
 * An agent that is restarted answers within seconds, on a machine that is overloaded within twenty; so long a plan that
 * names a wrong address waits for its refusal.
 */
const PEER_PATIENCE_MS = 30_000;
const PEER_AGAIN_MS = 500;

type Result = NonNullable<MigrationReport["preflight"]>;
type Stage = Result["stage"];

interface Run {
  readonly stage: Stage;
  /** Of `PreflightStarted` or `RemovalCheckStarted`, so that a second dry run is another run. */
  readonly sequence: number;
  readonly abort: AbortController;
  /** A cutover is wanted: what is called before a fence is called now, and not with the next repetition. */
  wanted: boolean;
  /** Between two repetitions. */
  readonly pause: Pause;
  result: Result | null;
}

export class PreflightRunner {
  readonly #self: PodId;
  readonly #stores: readonly Store[];
  readonly #clock: Clock;
  readonly #dutyFor: (migration: Migration) => Duty;
  readonly #onChange: () => void;
  readonly #runs = new Map<MigrationId, Run>();

  constructor(
    self: PodId,
    stores: readonly Store[],
    clock: Clock,
    dutyFor: (migration: Migration) => Duty,
    onChange: () => void,
  ) {
    this.#self = self;
    this.#stores = stores;
    this.#clock = clock;
    this.#dutyFor = dutyFor;
    this.#onChange = onChange;
  }

  result(migrationId: MigrationId): Result | null {
    return this.#runs.get(migrationId)?.result ?? null;
  }

  update(state: ClusterState): void {
    for (const migration of Object.values(state.migrations)) {
      const stage = this.#stageOf(migration);
      const run = this.#runs.get(migration.migrationId);
      const { preflightSequence, removalCheck } = migration.context;
      const sequence = stage === "removal" ? (removalCheck?.sequence ?? 0) : preflightSequence;
      const wanted = stage === "fence" && cutoverWanted(migration);
      if (run && run.stage === stage && run.sequence === sequence) {
        if (wanted && !run.wanted) run.pause.wake();
        run.wanted = wanted;
        continue;
      }
      if (run) this.#end(run);
      this.#runs.delete(migration.migrationId);
      if (stage === null) continue;
      const next: Run = {
        stage,
        sequence,
        abort: new AbortController(),
        wanted,
        pause: new Pause(this.#clock),
        result: null,
      };
      this.#runs.set(migration.migrationId, next);
      void this.#loop(next, this.#dutyFor(migration));
    }
  }

  stop(): void {
    for (const run of this.#runs.values()) this.#end(run);
    this.#runs.clear();
  }

  #end(run: Run): void {
    run.abort.abort();
    run.pause.wake();
  }

  #stageOf(migration: Migration): Stage | null {
    const takesPart =
      migration.sourcePodId === this.#self || migration.context.shares[this.#self] !== undefined;
    if (!takesPart || migration.notUnderstood !== null) return null;
    if (migration.lifecycle === "preflight") return "start";
    if (migration.lifecycle === "retaining") return migration.context.removalCheck?.open ? "removal" : null;
    return migration.lifecycle === "ready" ? "fence" : null;
  }

  async #loop(run: Run, duty: Duty): Promise<void> {
    const { signal } = run.abort;
    while (!signal.aborted) {
      run.pause.look();
      const findings = await Promise.all(
        this.#stores.map((store) => this.#checkPatiently(store, duty, run.stage, signal)),
      );
      if (signal.aborted) return;
      run.result = { stage: run.stage, at: this.#clock.now(), findings: findings.flat().slice(0, 200) };
      this.#onChange();
      if (run.stage !== "fence") return;
      await run.pause.wait(REPEAT_MS);
    }
  }

  /** A peer whose agent is just being restarted is no reason for refusing a plan: it is asked again for a while. */
  async #checkPatiently(store: Store, duty: Duty, stage: Stage, signal: AbortSignal): Promise<Finding[]> {
    const startedAt = this.#clock.monotonic();
    for (;;) {
      const findings = await this.#check(store, duty, stage, signal);
      const away = findings.some(({ code, severity }) => code === "PEER_UNREACHABLE" && severity === "error");
      const waitedMs = this.#clock.monotonic() - startedAt;
      if (!away || stage !== "start" || waitedMs > PEER_PATIENCE_MS || signal.aborted) return findings;
      mark("check-repeated-for-a-peer");
      await this.#clock.sleep(PEER_AGAIN_MS, signal).catch(() => undefined);
    }
  }

  async #check(store: Store, duty: Duty, stage: Stage, signal: AbortSignal): Promise<Finding[]> {
    try {
      return await store.preflight(duty, stage, signal);
    } catch (error) {
      // A check that breaks has not passed (rule 11).
      mark("check-broke");
      const message = error instanceof Error ? error.message : String(error);
      return [
        {
          store: store.name,
          severity: "error",
          code: "INTERNAL",
          message: `the check failed: ${message}`.slice(0, 2_000),
        },
      ];
    }
  }
}
