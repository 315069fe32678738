/**
 * Compares a move's target with its source all the time: every row once before it says that they are equal, and again
 * and again after that; and between, soon, each row that a writer touched. So at the fence only those of the last moment
 * are left (`readTouched`, `MoveDigest`).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem, StoreStatus } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import type { Endpoint } from "../config.ts";
import type { Schema } from "../inventory/schema.ts";
import type { MovedTable, Moving } from "../replication/moved-tables.ts";
import type { ApplySession } from "../replication/session.ts";
import type { Suspects } from "../replication/suspects.ts";
import { connect, type Database, discard, toPostgresError } from "../server/connection.ts";
import { sqlStateOf } from "../server/queryable.ts";
import { compareRows, compareTable, type Difference, describe, type Sides } from "./comparison.ts";
import { crossingRows } from "./crossings.ts";
import { doubledRows } from "./doubled.ts";
import { fittingKeys } from "./fitting-keys.ts";
import type { RowKey } from "./keys.ts";
import type { SharedRows } from "./references.ts";
import { byTable } from "./rows.ts";
import { saveCompared } from "./schema-changes.ts";
import { type AsOf, SchemaComparison } from "./schema-comparison.ts";
import { pruneTouched, readTouched, saveVerified, snapshotOf } from "./touched.ts";

/** Between one look at touched rows and the next: the rows of so long are left for the fence. */
const LOOK_EVERY_MS = 50;
/** After a failure, and twice as long after the next, up to the longest. */
const RETRY_MS = { first: 50, longest: 500 } as const;
/** What an operator corrects is seen soon. */
const CONFLICT_RETRY_MS = 5_000;
/** A full pass begins again after this, or after nine times what the last one took. */
const PASS_EVERY_MS = 30_000;
const PASS_SHARE = 9;
const PRUNE_EVERY_MS = 5_000;
const NAMED = 20;
/** Rows that are known to differ. */
const AT_MOST = 100_000;

export interface VerifierOptions {
  readonly migrationId: MigrationId;
  readonly source: Endpoint;
  readonly target: Endpoint;
  /** What is compared; the target's schema; and the snapshots of both servers of which this is. */
  readonly plan: () => { readonly moving: Moving; readonly schema: Schema; readonly asOf: AsOf };
  /** See `SchemaComparisonOptions`. Plans that are made anew note in it what is to be compared. */
  readonly suspects: Suspects;
  readonly onStale?: (side: keyof AsOf) => void;
  readonly repair?: ApplySession;
  readonly requireWatched?: (source: Database) => Promise<void>;
  /** Makes a connection to the target one of the apply role. */
  readonly setup: string;
  readonly shared: SharedRows;
  /** Of a move: rows of others are not on the target, so none of theirs may refer to one. A way back finds them there. */
  readonly neighboursStay?: true;
  /** Resolves when everything up to a position of the source is durable on the target. */
  readonly applied: (lsn: string, signal: AbortSignal) => Promise<void>;
  /** Between one look at touched rows and the next: where no fence is to come, there is no hurry. */
  readonly lookEveryMs?: number;
  readonly log: Logger;
  readonly onChange: () => void;
}

interface Connections {
  readonly source: Database;
  readonly target: Database;
  readonly writer: Database;
}

type Loop = "pass" | "look";
type PlannedSides = Sides & Connections & ReturnType<VerifierOptions["plan"]>;

/** A name or a type that is no more: the schema was changed, and the next look goes by the new one. */
function byOldSchema(error: unknown): CleaveError | null {
  const state = sqlStateOf(error) ?? "";
  if (!/^(42|0A)/.test(state)) return null;
  return new CleaveError("SCHEMA_CHANGED", (error as Error).message, { cause: error });
}

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #stopping = new AbortController();
  readonly #differences = new Map<string, Difference>();
  readonly #open = new Set<Database>();
  #running: Promise<unknown> | null = null;
  #passes = 0;
  /** What keeps a loop from going on, until that loop has succeeded: the other one says nothing of it. */
  readonly #reasons = new Map<Loop, OwnProblem>();
  /** Rows of nobody alone that are others on the target, by who saw them last; nothing else waits for them. */
  readonly #conflicts = new Map<Loop, OwnProblem>();
  /** The snapshot up to which touched rows are compared; null before the first pass. */
  #since: string | null = null;
  #prunedAt = 0;
  /** The last look had more to compare than fits at once, so the next may have too. */
  #isBehind = false;
  /** Of the target: what was saved last of up to where changes of its schema were compared. */
  #compared: string | null = null;
  readonly #schema: SchemaComparison;

  constructor(options: VerifierOptions) {
    this.#options = options;
    this.#schema = new SchemaComparison(options);
  }

  start(): void {
    this.#running ??= Promise.all([
      this.#forever("pass", (sides) => this.#pass(sides)),
      this.#forever("look", (sides) => this.#look(sides)),
    ]);
  }

  /** At once, whatever a statement under way has still to read: the read-only window may be waiting. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the comparison is stopped"));
    for (const db of this.#open) discard(db);
    await this.#running;
  }

  /** Under a fence nothing is remembered, and the processors have better to do. */
  paused = false;

  /** Every row was compared at least once, and none is known to differ. */
  get verified(): boolean {
    const compared = this.#passes > 0 && this.#since !== null;
    const different = this.#differences.size + this.#conflicts.size;
    return compared && different === 0 && !this.#isBehind && this.#schema.isSettled;
  }

  problems(): OwnProblem[] {
    const differences = [...this.#differences.values()].slice(0, NAMED).map(
      (difference): OwnProblem => ({
        code: difference.code ?? "MISMATCH",
        message: describe(difference).slice(0, 2_000),
      }),
    );
    const reasons = [...this.#reasons.values(), ...this.#conflicts.values()];
    return [...new Map(reasons.map((reason) => [reason.message, reason])).values(), ...differences];
  }

  /** For the board. `problem` is what keeps the stream that it compares behind from going on. */
  status(problem: OwnProblem | null): Pick<StoreStatus, "verified" | "problems"> {
    const ofStream =
      problem === null ? [] : [{ code: problem.code, message: problem.message.slice(0, 2_000) }];
    return {
      verified: this.verified && problem === null,
      problems: [...ofStream, ...this.problems()],
    };
  }

  async #forever(loop: Loop, work: (sides: PlannedSides) => Promise<number>): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    const failed = async (error: CleaveError) => {
      this.#tell(loop, { code: error.code, message: `comparing rows: ${error.message}`.slice(0, 2_000) });
      await sleep(Math.min(RETRY_MS.first * 2 ** failures++, RETRY_MS.longest), undefined, { signal });
    };
    while (!signal.aborted) {
      let made: Connections | null = null;
      try {
        made = await this.#connect();
        for (const db of Object.values(made) as Database[]) this.#open.add(db);
        signal.throwIfAborted();
        const { applied, plan } = this.#options;
        const sides = { ...made, signal, applied: (lsn: string) => applied(lsn, signal) };
        for (;;)
          try {
            const pauseMs = await work({ ...sides, ...plan() });
            failures = 0;
            this.#tell(loop, null);
            await sleep(pauseMs, undefined, { signal });
          } catch (error) {
            // The servers are there, and it is for one of them to be brought to what is missing.
            if (!(error instanceof CleaveError) || error.code !== "SCHEMA_CHANGED") throw error;
            await failed(error);
          }
      } catch (error) {
        if (signal.aborted) return;
        const known = byOldSchema(error) ?? toPostgresError(error, "PostgreSQL of either Pod");
        await failed(known).catch(() => undefined);
      } finally {
        for (const db of Object.values(made ?? {}) as Database[]) {
          this.#open.delete(db);
          discard(db);
        }
      }
    }
  }

  #tell(loop: Loop, reason: OwnProblem | null): void {
    if (this.#reasons.get(loop)?.message === reason?.message) return;
    if (reason === null) this.#reasons.delete(loop);
    else this.#reasons.set(loop, reason);
    this.#options.onChange();
  }

  async #connect(): Promise<Connections> {
    const { source, target, setup } = this.#options;
    const opened: Database[] = [];
    try {
      for (const endpoint of [source, target, target]) {
        const db = await connect(endpoint, { applicationName: "cleave-verify" });
        opened.push(db);
      }
      const [first, second, writer] = opened as [Database, Database, Database];
      await writer.query(setup);
      return { source: first, target: second, writer };
    } catch (error) {
      for (const db of opened) discard(db);
      throw error;
    }
  }

  /** Every row of every table. @returns the pause before the next pass. */
  async #pass(sides: PlannedSides): Promise<number> {
    const startedAt = performance.now();
    this.#schema.begin(sides.asOf);
    const snapshot = await snapshotOf(sides.source);
    const conflict = await this.#references(sides, null);
    this.#note("pass", conflict);
    for (const table of sides.moving.tables) {
      sides.signal.throwIfAborted();
      await this.#compareWhole(sides, table);
    }
    if (this.#options.plan().moving !== sides.moving) return 0;
    // From here on what is touched is compared; everything before was by this pass.
    this.#since ??= snapshot;
    this.#passes += 1;
    this.#options.onChange();
    const pauseMs = PASS_SHARE * (performance.now() - startedAt);
    return Math.max(conflict === null ? PASS_EVERY_MS : CONFLICT_RETRY_MS, pauseMs);
  }

  /** @returns the rows that differ on the two Pods. */
  async #compareWhole(sides: Sides, table: MovedTable): Promise<readonly Difference[]> {
    const { rows } = await sides.target.query<{ rows: number }>(
      "SELECT GREATEST(reltuples, 0)::float8 AS rows FROM pg_catalog.pg_class WHERE oid = $1::text::regclass",
      [table.quoted],
    );
    const found = await compareTable(sides, table, rows[0]?.rows ?? 0);
    const crossing = await this.#crossing(sides, table, null);
    const doubled = await doubledRows(sides.target, sides.moving, table, null);
    this.#replace(table.name, null, [...found, ...crossing, ...doubled]);
    return found;
  }

  /** The rows that were touched since the last look. */
  async #look(sides: PlannedSides): Promise<number> {
    const { migrationId, lookEveryMs = LOOK_EVERY_MS } = this.#options;
    if (this.#since === null || this.paused) return lookEveryMs;
    const { snapshot, pages } = await readTouched(sides.source, migrationId, this.#since);
    const compareWhole = (table: MovedTable) => this.#compareWhole(sides, table);
    await this.#schema.settle({ ...sides, compareWhole }, snapshot);
    let conflict: OwnProblem | null = null;
    let read = 0;
    for await (const rows of pages) {
      // What takes long is not left for a fence.
      this.#isBehind ||= ++read > 1;
      for (const [name, keys] of byTable(await fittingKeys(sides.source, sides.moving, rows))) {
        sides.signal.throwIfAborted();
        const table = sides.moving.tables.find((one) => one.name === name);
        if (table === undefined) continue;
        this.#replace(name, keys, await this.#differing(sides, table, keys));
        conflict = (await this.#references(sides, { table, keys })) ?? conflict;
      }
    }
    this.#isBehind = read > 1;
    this.#note("look", conflict);
    await this.#lookAgain(sides);
    // A row that differs stays noted: it is compared at the fence too.
    if (this.#differences.size > 0 || conflict !== null || !this.#schema.isSettled) return lookEveryMs;
    if (this.#compared !== sides.asOf.target) {
      // Before the source's: rows that were touched since the former one are compared at the fence.
      await saveCompared(sides.target, migrationId, sides.asOf.target);
      this.#compared = sides.asOf.target;
    }
    if (await saveVerified(sides.source, migrationId, snapshot)) {
      this.#since = snapshot;
      await this.#prune(sides.source, snapshot);
    }
    return lookEveryMs;
  }

  /** Copies what rows refer to. @returns what could not be: the rest is there, and the comparison goes on. */
  async #references(
    sides: PlannedSides,
    only: { readonly table: MovedTable; readonly keys: readonly RowKey[] } | null,
  ): Promise<OwnProblem | null> {
    try {
      await this.#options.shared.ensure(sides, only);
      return null;
    } catch (error) {
      if (!(error instanceof CleaveError) || error.code !== "SHARED_ROW_CONFLICT") throw error;
      return { code: error.code, message: error.message.slice(0, 2_000) };
    }
  }

  #note(loop: Loop, conflict: OwnProblem | null): void {
    const before = this.#conflicts.get(loop)?.message;
    if (conflict === null) this.#conflicts.delete(loop);
    else this.#conflicts.set(loop, conflict);
    if (before !== conflict?.message) this.#options.onChange();
  }

  /** What was repaired, or changed since, is no difference any more. */
  async #lookAgain(sides: Sides): Promise<void> {
    for (const [name, keys] of byTable([...this.#differences.values()])) {
      const table = sides.moving.tables.find((one) => one.name === name);
      if (table !== undefined) this.#replace(name, keys, await this.#differing(sides, table, keys));
    }
  }

  async #differing(sides: Sides, table: MovedTable, keys: readonly RowKey[]): Promise<Difference[]> {
    const rows = await compareRows(sides, table, keys);
    const crossing = await this.#crossing(sides, table, keys);
    return [...rows, ...crossing, ...(await doubledRows(sides.target, sides.moving, table, keys))];
  }

  async #crossing(
    { source, moving }: Sides,
    table: MovedTable,
    keys: readonly RowKey[] | null,
  ): Promise<readonly Difference[]> {
    return this.#options.neighboursStay ? crossingRows(source, moving, table, keys) : [];
  }

  /** Of these keys (or all of the table) only `found` differ. */
  #replace(table: string, keys: readonly RowKey[] | null, found: readonly Difference[]): void {
    const idOf = (key: RowKey) => JSON.stringify([table, key]);
    const before = [...this.#differences.keys()].join();
    if (keys === null) {
      for (const [id, difference] of this.#differences)
        if (difference.table === table) this.#differences.delete(id);
    } else for (const key of keys) this.#differences.delete(idOf(key));
    // The others stay noted, and are found by the next look.
    for (const difference of found)
      if (this.#differences.size < AT_MOST) this.#differences.set(idOf(difference.key), difference);
    if ([...this.#differences.keys()].join() === before) return;
    for (const difference of found.slice(0, NAMED))
      this.#options.log.error({ difference }, describe(difference));
    this.#options.onChange();
  }

  async #prune(source: Database, saved: string): Promise<void> {
    const now = performance.now();
    if (now - this.#prunedAt < PRUNE_EVERY_MS) return;
    this.#prunedAt = now;
    await pruneTouched(source, this.#options.migrationId, saved);
  }
}
