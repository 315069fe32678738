/** One seed, one run, one report. The same seed and scenario give the same trace hash, always. */

import type { PodId } from "../protocol/ids.ts";
import { isOver, type Lifecycle } from "../protocol/migration-machine.ts";
import { allCheckers } from "./checkers/all.ts";
import { Collector } from "./coverage/collector.ts";
import type { Coverage } from "./coverage/coverage.ts";
import { Faults } from "./faults/apply.ts";
import type { Fault } from "./faults/fault.ts";
import { FOUNDER, FOUNDING } from "./founding.ts";
import { Clients } from "./models/clients.ts";
import type { Checker } from "./observer.ts";
import { Cluster, SOURCE } from "./processes/cluster.ts";
import { Operator } from "./processes/operator.ts";
import { drawScenario, type Scenario } from "./scenario.ts";
import { Truth } from "./truth.ts";
import { forbidAmbient, realNow } from "./world/ambient.ts";
import { World } from "./world/world.ts";

export type Verdict = "pass" | "safety" | "liveness" | "crash" | "inconclusive";

/** Of a process that ran simulations; the worst verdict decides. */
export const EXIT_CODES: Readonly<Record<Verdict, number>> = {
  pass: 0,
  safety: 10,
  liveness: 11,
  crash: 12,
  inconclusive: 13,
};

export interface SimulateOptions {
  readonly seed: number;
  /** Instead of what the seed draws: for shrinking, replaying and scenarios. */
  readonly scenario?: Scenario;
  /** False: the same cluster and load without any fault. */
  readonly faults?: boolean;
  /** Gets every line of the story. */
  readonly echo?: (line: string) => void;
  readonly maxEvents?: number;
  /** Also what it passed: see coverage/. The trace is the same with and without. */
  readonly coverage?: boolean;
}

export interface Decision {
  readonly migrationId: string | null;
  readonly type: string;
  /** `coordinator:c1`, `agent:pod-0`, `operator:sim`. */
  readonly by: string;
}

export interface Report {
  readonly seed: number;
  readonly verdict: Verdict;
  /** `I1` … `I10` where one does not hold. */
  readonly invariant: string | null;
  readonly message: string | null;
  readonly hash: string;
  readonly virtualMs: number;
  readonly realMs: number;
  readonly events: number;
  /** Migrations whose authority was transferred and whose shares are all decided. */
  readonly migrations: number;
  readonly aborted: number;
  readonly acknowledged: number;
  readonly reads: number;
  /** Everything that was decided, in order: what, and on whose share or by whom. */
  readonly decisions: readonly Decision[];
  /** Where each migration ended, by its id. */
  readonly ends: Readonly<Record<string, Lifecycle>>;
  /** Processes that said that they do not know an event (rule 13). */
  readonly standingStill: readonly string[];
  readonly scenario: Scenario;
  readonly faultsApplied: readonly Fault[];
  /** The newest lines of the story. */
  readonly story: readonly string[];
  readonly coverage?: Coverage;
}

/** After the last migration has settled, this much more with faults on. */
const AFTER_SETTLED_MS = 2_500;
/** Then a quiet time, as most of the life of a cluster is; a last look at everything follows. */
const QUIET_MS = 60_000;
/** Faults being over, everything has to come to rest within this. */
const REST_WITHIN_MS = 180_000;
const MAX_EVENTS = 400_000;
const TRANSFERRED: ReadonlySet<Lifecycle> = new Set(["retaining", "cleaning", "completed"]);

interface Failure {
  readonly verdict: Verdict;
  readonly invariant: string | null;
  readonly message: string;
}

export async function simulate(options: SimulateOptions): Promise<Report> {
  const { seed } = options;
  const scenario = options.scenario ?? drawScenario(seed, options.faults ?? true);
  const startedAt = realNow();
  const world = new World(seed, options.echo ?? null);
  const run = new OneRun(world, scenario, options.maxEvents ?? MAX_EVENTS);
  const stopCollecting = options.coverage ? run.collect() : () => undefined;
  const give = forbidAmbient();
  const onRejection = (error: unknown) => run.fail("crash", null, describe(error));
  process.on("unhandledRejection", onRejection);
  try {
    await run.run();
  } catch (error) {
    run.fail("crash", null, describe(error));
  } finally {
    process.off("unhandledRejection", onRejection);
    give();
    stopCollecting();
  }
  return { ...run.report(), seed, realMs: realNow() - startedAt };
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

class OneRun {
  readonly #world: World;
  readonly #scenario: Scenario;
  readonly #maxEvents: number;
  readonly #truth: Truth;
  readonly #cluster: Cluster;
  readonly #clients: Clients;
  readonly #operator: Operator;
  readonly #faults: Faults;
  readonly #checkers: readonly Checker[];
  /** Those of them that look after every event. */
  readonly #lookers: readonly { afterEvent(): void }[];
  readonly #unserved = new Set<string>();
  #failure: Failure | null = null;
  #settledAt: number | null = null;
  #collector: Collector | null = null;

  constructor(world: World, scenario: Scenario, maxEvents: number) {
    this.#world = world;
    this.#scenario = scenario;
    this.#maxEvents = maxEvents;
    this.#cluster = new Cluster(world, scenario, {
      saved: (host, state) => this.#tell((checker) => checker.saved?.(host, state)),
      removed: (podId, store, organizations) =>
        this.#tell((checker) => checker.removed?.(podId, store, organizations)),
      committed: (podId, store, organization, write) =>
        this.#tell((checker) => checker.committed?.(podId, store, organization, write)),
    });
    const { log, blobs, network } = this.#cluster.servers;
    this.#truth = new Truth(blobs);
    const violated = (invariant: string, message: string) => this.fail("safety", invariant, message);
    this.#checkers = allCheckers({ truth: this.#truth, cluster: this.#cluster, violated });
    this.#lookers = this.#checkers.filter((checker) => checker.afterEvent !== undefined) as never;
    this.#clients = new Clients({
      world,
      network,
      organizations: this.#cluster.organizations,
      defaultPodId: SOURCE,
      pods: new Map(
        [...this.#cluster.pods].map(([id, pod]) => [
          id,
          {
            agent: () => pod.current,
            postgres: pod.postgres,
            git: pod.git,
            objects: pod.objects,
            machineUp: () => pod.machineUp,
          },
        ]),
      ),
      clients: scenario.clients,
      longShare: scenario.longShare,
      rows: scenario.move?.rows ?? 1,
      events: {
        acknowledged: (podId, store, organization, write) =>
          this.#tell((checker) => checker.acknowledged?.(podId, store, organization, write)),
        read: (read) => this.#tell((checker) => checker.read?.(read)),
        refused: (podId, organization, outcome) =>
          this.#tell((checker) => checker.refused?.(podId, organization, outcome)),
      },
    });
    this.#operator = new Operator(this.#cluster, scenario);
    this.#faults = new Faults(this.#cluster, scenario.faults, (id) => this.#isNeeded(id));
    const { past } = this.#cluster;
    if (past !== null) this.#truth.append(past, log.store(past));
    log.onAppended = (record, sequence) => {
      this.#truth.append(record, sequence);
      this.#collector?.appended(record, sequence);
      const what = record.events.map((event) => event.type).join(", ");
      if (record.events.some(({ type }) => type === "TransferForced"))
        this.#clients.accept(this.#truth.lostTo(record));
      world.say(record.by.replace(/^(coordinator|agent|operator):/, ""), `#${sequence} ${what}`);
      this.#tell((checker) => checker.appended?.(record, sequence));
      this.#faults.appended(record);
      this.#operator.appended(record);
    };
  }

  /** From now on; returns what ends it. */
  collect(): () => void {
    const collector = new Collector(this.#world, this.#truth, this.#cluster.servers.network);
    this.#collector = collector;
    this.#faults.onBegin = (fault) => collector.began(fault);
    return collector.start();
  }

  /** The first failure counts: what follows may be its consequence. */
  fail(verdict: Verdict, invariant: string | null, message: string): void {
    if (this.#failure) return;
    this.#failure = { verdict, invariant, message };
    this.#world.say("CHECKER", `${invariant ?? verdict}: ${message}`);
  }

  async run(): Promise<void> {
    this.#cluster.start();
    this.#operator.start();
    this.#clients.start();
    this.#faults.start();
    const { calmAtMs } = this.#scenario;
    const first = await this.#world.run(calmAtMs, this.#maxEvents, () => this.#look() || this.#isSettled());
    if (this.#failure || this.#outOfEvents(first)) return;
    this.#clients.stopped = true;
    this.#faults.calm();
    let probing = false;
    const rest = await this.#world.run(this.#world.now + REST_WITHIN_MS, this.#maxEvents, () => {
      if (this.#look()) return true;
      if (this.#world.events % 16 !== 0 || this.#waits().length > 0) return false;
      if (!probing) {
        probing = true;
        this.#probe();
      }
      return this.#unserved.size === 0;
    });
    if (this.#failure || this.#outOfEvents(rest)) return;
    if (rest === "time") {
      const waits = [
        ...this.#waits(),
        ...[...this.#unserved].slice(0, 5).map((what) => `${what} to be served`),
      ];
      this.fail(
        "liveness",
        "I9",
        `faults are over for ${REST_WITHIN_MS / 1000} s, and still waiting for ${waits.join("; ")}`,
      );
      return;
    }
    const quiet = await this.#world.run(this.#world.now + QUIET_MS, this.#maxEvents, () => this.#look());
    if (this.#failure || this.#outOfEvents(quiet)) return;
    this.#tell((checker) => checker.atRest?.());
  }

  #outOfEvents(stop: string): boolean {
    if (stop === "events") this.fail("inconclusive", null, `${this.#maxEvents} events were not enough`);
    return stop === "events";
  }

  #waits(): string[] {
    const newest = this.#truth.state.migrations[this.#operator.migrationId];
    const end = this.#end;
    const operator = newest?.lifecycle === end ? [] : [`${this.#operator.migrationId} to be ${end}`];
    return [
      ...operator,
      ...this.#operator.wants(),
      ...this.#checkers.flatMap((checker) => checker.waitsFor?.() ?? []),
    ];
  }

  /** A Pod that serves somebody, or has to remove what it served; and the last one that could. */
  #isNeeded(podId: string): boolean {
    if (!this.#cluster.pods.has(podId)) return false;
    return (
      this.#cluster.destinations.length < 2 ||
      this.#truth
        .migrations()
        .some(
          ({ lifecycle, sourcePodId, context }) =>
            !isOver(lifecycle) && (sourcePodId === podId || context.shares[podId as PodId] === "opened"),
        ) ||
      this.#cluster.organizations.some((one) => this.#truth.authority(one).podId === podId)
    );
  }

  /** Everybody is served again: every organization, every store, read and written. */
  #probe(): void {
    for (const organization of this.#cluster.organizations)
      for (const store of ["postgres", "git", "objects", "read"])
        this.#unserved.add(`${organization} ${store}`);
    this.#clients.probe((organization, store) => this.#unserved.delete(`${organization} ${store ?? "read"}`));
  }

  /** Where a migration of this scenario comes to rest. */
  get #end(): "retaining" | "completed" {
    return this.#scenario.retention ? "completed" : "retaining";
  }

  #look(): boolean {
    for (const checker of this.#lookers) checker.afterEvent();
    return this.#failure !== null;
  }

  #isSettled(): boolean {
    const lifecycle = this.#truth.state.migrations[this.#operator.migrationId]?.lifecycle;
    if (lifecycle !== this.#end || this.#operator.wants().length > 0) this.#settledAt = null;
    else this.#settledAt ??= this.#world.now;
    return this.#settledAt !== null && this.#world.now > this.#settledAt + AFTER_SETTLED_MS;
  }

  #tell(say: (checker: Checker) => void): void {
    for (const checker of this.#checkers) say(checker);
  }

  report(): Omit<Report, "seed" | "realMs"> {
    const migrations = this.#truth.migrations().filter(({ migrationId }) => migrationId !== FOUNDING);
    return {
      verdict: this.#failure?.verdict ?? "pass",
      invariant: this.#failure?.invariant ?? null,
      message: this.#failure?.message ?? null,
      hash: this.#world.trace.hash,
      virtualMs: this.#world.now,
      events: this.#world.events,
      migrations: migrations.filter(({ lifecycle }) => TRANSFERRED.has(lifecycle)).length,
      aborted: migrations.filter(({ lifecycle }) => lifecycle === "aborted").length,
      acknowledged: this.#clients.acknowledged,
      reads: this.#clients.reads,
      decisions: this.#cluster.servers.log.records.flatMap(({ by, events }) =>
        (by === FOUNDER ? [] : events).map((event) => ({
          migrationId: "migrationId" in event ? event.migrationId : null,
          type: event.type,
          by,
        })),
      ),
      ends: Object.fromEntries(migrations.map(({ migrationId, lifecycle }) => [migrationId, lifecycle])),
      standingStill: [...this.#cluster.hosts.values()].flatMap(({ id, saidUnknown }) =>
        saidUnknown === null ? [] : [id],
      ),
      scenario: this.#scenario,
      faultsApplied: this.#faults.applied,
      story: this.#world.trace.newest(60),
      ...(this.#collector === null ? {} : { coverage: this.#collector.result() }),
    };
  }
}
