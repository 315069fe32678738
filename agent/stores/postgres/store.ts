/** PostgreSQL behind the store port: one part per migration, source or target. */
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { MoveTarget } from "./move/target.ts";
import { preflight } from "./preflight.ts";
import { Carriers } from "./reverse/carriers.ts";
import { RollbackTarget } from "./reverse/target.ts";
import { cutWhenAborted, toPostgresError } from "./server/connection.ts";
import { SourcePart } from "./source.ts";
import { TargetPart } from "./split/target.ts";
import { StatusBoard } from "./status-board.ts";

interface Part {
  readonly board: StatusBoard;
  readonly work: SourcePart | TargetPart | MoveTarget | RollbackTarget;
}

export class PostgresStore implements Store {
  readonly name = "postgres";
  readonly #options: PostgresStoreOptions;
  readonly #parts = new Map<MigrationId, Part>();
  /** What flows back to this Pod, by the migration that took it away: its rollbacks use it too. */
  readonly #carriers = new Map<MigrationId, Carriers>();
  readonly #listeners = new Set<() => void>();

  constructor(options: PostgresStoreOptions) {
    this.#options = options;
  }

  preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    return preflight(this.#options, duty, stage, signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { board, work } = this.#partOf(duty);
    board.begin(duty.goal);
    try {
      await cutWhenAborted(
        signal,
        () => work.cut(),
        () => work.reach(duty, signal),
      );
    } catch (error) {
      signal.throwIfAborted();
      const known = toPostgresError(error, `PostgreSQL of ${duty.podId}`);
      board.problem(known);
      throw known;
    }
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#parts.get(migrationId)?.board.status ?? null;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    await Promise.all([...this.#parts.values()].map(({ work }) => work.close()));
    await Promise.all([...this.#carriers.values()].map((carriers) => carriers.close()));
    this.#parts.clear();
    this.#carriers.clear();
  }

  #partOf(duty: Duty): Part {
    const known = this.#parts.get(duty.migrationId);
    if (known) return known;
    const board = new StatusBoard(duty.goal, () => {
      for (const listener of this.#listeners) listener();
    });
    const work = this.#workOf(duty, board);
    const part = { board, work };
    this.#parts.set(duty.migrationId, part);
    return part;
  }

  #workOf(duty: Duty, board: StatusBoard): Part["work"] {
    const carriers = this.#carriersOf(duty.of ?? duty.migrationId);
    if (duty.role === "source") return new SourcePart(this.#options, board, duty.kind, carriers);
    switch (duty.kind) {
      case "split":
        return new TargetPart(this.#options, board);
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
