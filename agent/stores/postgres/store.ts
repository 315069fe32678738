/** PostgreSQL behind the store port: one part per migration, source or target. */
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import { cutWhenAborted, toPostgresError } from "./connection.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { MoveTarget } from "./move/target.ts";
import { preflight } from "./preflight.ts";
import { SourcePart } from "./source.ts";
import { StatusBoard } from "./status-board.ts";
import { TargetPart } from "./target.ts";

interface Part {
  readonly board: StatusBoard;
  readonly work: SourcePart | TargetPart | MoveTarget;
}

export class PostgresStore implements Store {
  readonly name = "postgres";
  readonly #options: PostgresStoreOptions;
  readonly #parts = new Map<MigrationId, Part>();
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
    this.#parts.clear();
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
    if (duty.role === "source") return new SourcePart(this.#options, board, duty.kind);
    return duty.kind === "move"
      ? new MoveTarget(this.#options, board, duty)
      : new TargetPart(this.#options, board);
  }
}

export function createPostgresStore(options: PostgresStoreOptions): PostgresStore {
  return new PostgresStore(options);
}
