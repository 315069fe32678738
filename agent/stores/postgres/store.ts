/** PostgreSQL behind the store port: one part per migration, source or target. */
import type { CheckStage, Finding, Goal, OwnProblem, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import { Door, type Part } from "../common/door.ts";
import type { Endpoint } from "./config.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { MoveTarget } from "./move/target.ts";
import { preflight } from "./preflight.ts";
import { Carriers } from "./reverse/carriers.ts";
import { RollbackTarget } from "./reverse/target.ts";
import { cutWhenAborted, toPostgresError } from "./server/connection.ts";
import { KeptServer } from "./server/kept-server.ts";
import { LockWatch } from "./server/lock-watch.ts";
import { SourcePart } from "./source.ts";
import { TargetPart } from "./split/target.ts";
import { StatusBoard } from "./status-board.ts";

interface PostgresPart extends Part {
  readonly board: StatusBoard;
  readonly work: SourcePart | TargetPart | MoveTarget | RollbackTarget;
  readonly locks: LockWatch;
}

/** In the read-only window nobody looks who waits for whom, and what is over waits for nobody. */
const UNWATCHED: ReadonlySet<Goal> = new Set(["fence", "match", "activate", "open"]);
const OVER: ReadonlySet<Goal> = new Set(["release", "removeRows"]);

export class PostgresStore implements Store {
  readonly name = "postgres";
  readonly #options: PostgresStoreOptions;
  readonly #door = new Door<PostgresPart>();
  /** What flows back to this Pod, by the migration that took it away: its rollbacks use it too. */
  readonly #carriers = new Map<MigrationId, Carriers>();

  readonly #kept: KeptServer;

  constructor(options: PostgresStoreOptions) {
    this.#options = options;
    this.#kept = new KeptServer(options, this.#door.listeners.tell);
  }

  /** From now on the Pod's server is looked after at any time: see `KeptServer`. */
  keepServer(): void {
    this.#kept.start();
  }

  /** What is wrong with the Pod's server itself, whatever migrations there are. */
  get podProblems(): readonly OwnProblem[] {
    return this.#kept.problem === null ? [] : [this.#kept.problem];
  }

  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    return preflight(this.#options, duty, stage, signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { board, work, locks } = this.#partOf(duty);
    board.begin(duty.goal);
    if (UNWATCHED.has(duty.goal)) locks.stop();
    else locks.start();
    try {
      await cutWhenAborted(
        signal,
        () => work.cut(),
        () => work.reach(duty, signal),
      );
      if (OVER.has(duty.goal)) locks.stop();
    } catch (error) {
      signal.throwIfAborted();
      const known = toPostgresError(error, `PostgreSQL of ${duty.podId}`);
      board.problem(known);
      throw known;
    }
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#door.status(migrationId);
  }

  onChange(listener: () => void): () => void {
    return this.#door.listeners.add(listener);
  }

  async close(): Promise<void> {
    // Nobody has to hear how its connections end, nor may ask what was known through them.
    this.#door.listeners.clear();
    await Promise.all([this.#kept.close(), this.#door.close()]);
    await Promise.all([...this.#carriers.values()].map((carriers) => carriers.close()));
    this.#door.forgetAll();
    this.#carriers.clear();
  }

  #partOf(duty: Duty): PostgresPart {
    const known = this.#door.part(duty.migrationId);
    if (known) return known;
    const board = new StatusBoard(duty.goal, this.#door.listeners.tell);
    const work = this.#workOf(duty, board);
    const locks = new LockWatch(this.#options.clock, board, this.#serversOf(duty));
    return this.#door.admit(duty.migrationId, {
      board,
      work,
      locks,
      status: () => board.status,
      close: async () => void (await Promise.all([work.close(), locks.close()])),
    });
  }

  /** Where its own sessions may wait for others; a split's target has no others. */
  #serversOf({ role, kind, podId, sourcePodId }: Duty): Record<string, Endpoint> {
    if (role === "target" && kind === "split") return {};
    const peer = role === "target" ? this.#options.peers[sourcePodId] : undefined;
    return { [podId]: this.#options.config, ...(peer === undefined ? {} : { [sourcePodId]: peer }) };
  }

  #workOf(duty: Duty, board: StatusBoard): PostgresPart["work"] {
    const carriers = this.#carriersOf(duty.of ?? duty.migrationId);
    if (duty.role === "source") return new SourcePart(this.#options, board, duty.kind, carriers);
    switch (duty.kind) {
      case "split":
        return new TargetPart(this.#options, board, this.#kept);
      case "move":
        return new MoveTarget(this.#options, board, duty);
      case "rollback":
        return new RollbackTarget(this.#options, board, duty, carriers);
    }
  }

  #carriersOf(migrationId: MigrationId): Carriers {
    const known = this.#carriers.get(migrationId);
    if (known) return known;
    const carriers = new Carriers(this.#options);
    this.#carriers.set(migrationId, carriers);
    return carriers;
  }
}

export function createPostgresStore(options: PostgresStoreOptions): PostgresStore {
  return new PostgresStore(options);
}
