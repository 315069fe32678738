/**
 * The comparison's part in changes of the schema: what a change may have done to rows, past triggers and past the stream,
 * is compared whole, and put right, before any snapshot of the source counts as equal. So the fence, which asks for such a
 * snapshot with every change of the schema in it, comes to know of none that was not compared.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { MovedTable } from "../replication/moved-tables.ts";
import type { ApplySession } from "../replication/session.ts";
import type { SchemaChanges } from "../replication/suspects.ts";
import type { Database } from "../server/connection.ts";
import { type Difference, type Sides, walPosition } from "./comparison.ts";
import { repairRows } from "./repair.ts";
import { describeChange, readSchemaChanges } from "./schema-changes.ts";

export interface SchemaComparisonOptions {
  readonly migrationId: MigrationId;
  /** What is known, and what is to be compared. */
  readonly changes: SchemaChanges;
  /** Rows that differ because of such a change are put right; without it they stay differences. */
  readonly repair?: ApplySession;
  /** @throws CleaveError unless everything on the source is watched and streamed, as of now. */
  readonly requireWatched?: (source: Database) => Promise<void>;
  readonly log: Logger;
}

export interface ComparedSides extends Sides {
  readonly writer: Database;
  /** Every row of a table. What differs is remembered. */
  readonly compareWhole: (table: MovedTable) => Promise<readonly Difference[]>;
}

export class SchemaComparison {
  readonly #options: SchemaComparisonOptions;
  /** Every change that this snapshot has was looked at. */
  #since: string | null = null;

  constructor(options: SchemaComparisonOptions) {
    this.#options = options;
  }

  /** Nothing is left to be compared, of what is known. */
  get isSettled(): boolean {
    return this.#options.changes.suspects.size === 0;
  }

  /**
   * To be called before `snapshot` counts as compared; up to `since` everything was.
   * @throws CleaveError SCHEMA_CHANGED while this Pod has not met the change in its stream, or waits there.
   */
  async settle(sides: ComparedSides, since: string, snapshot: string): Promise<void> {
    const { migrationId, changes, requireWatched } = this.#options;
    const { suspects } = changes;
    const found = await readSchemaChanges(sides.source, migrationId, this.#since ?? since, snapshot);
    for (const { relations } of found) suspects.note(relations, sides.moving);
    const unknown = found.find(({ xid }) => !changes.isKnown(xid));
    if (unknown !== undefined)
      throw new CleaveError("SCHEMA_CHANGED", `${describeChange(unknown)} on the source is not followed yet`);
    if (found.length > 0) await requireWatched?.(sides.source);
    if (suspects.size > 0) await this.#compare(sides);
    if (suspects.size === 0) this.#since = snapshot;
  }

  async #compare(sides: ComparedSides): Promise<void> {
    const { changes, repair, log } = this.#options;
    const { suspects } = changes;
    const { turn } = suspects;
    // What the stream had of another shape is behind then.
    await sides.applied(await walPosition(sides.source));
    const differences: Difference[] = [];
    for (const table of sides.moving.tables.filter(({ name }) => suspects.has(name))) {
      sides.signal.throwIfAborted();
      const found = await sides.compareWhole(table);
      differences.push(...found);
      if (found.length === 0) suspects.clear(table.name, turn);
    }
    // A table that is no part of the move any more.
    for (const name of suspects.names())
      if (!sides.moving.tables.some((table) => table.name === name)) suspects.clear(name, turn);
    if (differences.length === 0 || repair === undefined) return;
    log.info({ rows: differences.length }, "rows that a change of the schema has changed are copied");
    await repairRows({ ...sides, session: repair }, differences);
  }
}
