/**
 * The comparison's part in changes of the schema: what a change may have done to rows, past triggers and past the stream,
 * is compared whole, and put right, before any snapshot of the source counts as equal. So the fence, which asks for such a
 * snapshot with every change of the schema in it, comes to know of none that was not compared. The same for what is changed
 * on the Pod that rows come to: an ALTER TABLE that is run there late, or there alone, makes its rows others too.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { MovedTable } from "../replication/moved-tables.ts";
import type { ApplySession } from "../replication/session.ts";
import type { Suspects } from "../replication/suspects.ts";
import type { Database } from "../server/connection.ts";
import { type Difference, type Sides, walPosition } from "./comparison.ts";
import { repairRows } from "./repair.ts";
import { changeSince, type Described, describeChange, readSchemaChanges } from "./schema-changes.ts";

/** Snapshots of both servers: a plan has every change of the schema that they have. */
export interface AsOf {
  readonly source: string;
  readonly target: string;
}

export interface SchemaComparisonOptions {
  readonly migrationId: MigrationId;
  /** What is to be compared, of all changes that plans have. */
  readonly suspects: Suspects;
  /** Called when a Pod has a change that the plan has not. */
  readonly onStale?: (side: keyof AsOf) => void;
  /** Rows that differ because of such a change are put right; without it they stay differences. */
  readonly repair?: ApplySession;
  /** @throws CleaveError unless everything on the source is watched and streamed, as of now. */
  readonly requireWatched?: (source: Database) => Promise<void>;
  readonly log: Logger;
}

export interface ComparedSides extends Sides {
  readonly writer: Database;
  /** Of the plan that they are compared by. */
  readonly asOf: AsOf;
  /** Every row of a table. What differs is remembered. */
  readonly compareWhole: (table: MovedTable) => Promise<readonly Difference[]>;
}

export class SchemaComparison {
  readonly #options: SchemaComparisonOptions;
  /** Of the source: by this snapshot's schema everything was watched and streamed. */
  #watched: string | null = null;
  /** Of the plan that was gone by last. */
  #asOf: AsOf | null = null;

  constructor(options: SchemaComparisonOptions) {
    this.#options = options;
  }

  /** Nothing is left to be compared, of what is known. */
  get isSettled(): boolean {
    return this.#options.suspects.size === 0;
  }

  /** Everything is about to be compared by a plan of these snapshots: what is changed after them is looked at by itself. */
  begin(asOf: AsOf): void {
    this.#asOf ??= asOf;
  }

  /**
   * To be called before `snapshot` counts as compared. By the plan of these sides and no other: one that is made meanwhile
   * may have columns that are not compared here.
   * @throws CleaveError SCHEMA_CHANGED while the plan has not all of the source's changes up to there (this Pod has not met
   * them in its stream, or waits there), or not all of the target's.
   */
  async settle(sides: ComparedSides, snapshot: string): Promise<void> {
    const { migrationId, suspects, requireWatched } = this.#options;
    const [here] = await readSchemaChanges(sides.source, migrationId, sides.asOf.source, snapshot);
    if (here !== undefined) throw this.#unknown("source", here);
    const there = await changeSince(sides.target, sides.asOf.target);
    if (there !== null) throw this.#unknown("target", there);
    await this.#note(sides);
    if (this.#watched !== sides.asOf.source) await requireWatched?.(sides.source);
    this.#watched = sides.asOf.source;
    if (suspects.size > 0) await this.#compare(sides);
  }

  /** What the plan has that the one before had not. */
  async #note({ source, target, moving, asOf }: ComparedSides): Promise<void> {
    const before = this.#asOf ?? asOf;
    if (before === asOf) return;
    const { migrationId, suspects } = this.#options;
    const changes = [
      ...(await readSchemaChanges(source, migrationId, before.source, asOf.source)),
      ...(await readSchemaChanges(target, migrationId, before.target, asOf.target)),
    ];
    for (const { relations } of changes) suspects.note(relations, moving);
    this.#asOf = asOf;
  }

  #unknown(side: keyof AsOf, change: Described): CleaveError {
    this.#options.onStale?.(side);
    return new CleaveError("SCHEMA_CHANGED", `${describeChange(change)} on the ${side} is not followed yet`);
  }

  async #compare(sides: ComparedSides): Promise<void> {
    const { suspects, repair, log } = this.#options;
    // What the stream had of another shape is behind then.
    await sides.applied(await walPosition(sides.source));
    const { turn } = suspects;
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
