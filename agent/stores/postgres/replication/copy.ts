/** The base copy: one snapshot of the source, several ranges of rows at once, straight from server to server. */
import { once } from "node:events";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { invariant } from "../../../../protocol/errors.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import type { Endpoint } from "../config.ts";
import { ownedCondition } from "../inventory/selection.ts";
import { connect, type Database, describeEndpoint, discard, toPostgresError } from "../server/connection.ts";
import {
  forgetCopy,
  noteCopied,
  type RangeState,
  rangesOf,
  readRanges,
  tableOf,
  writeRanges,
} from "./copy-journal.ts";
import { firstValues, LineCursor } from "./copy-lines.ts";
import type { MovedTable, Moving } from "./moved-tables.ts";
import {
  copiedColumns,
  DIVISION,
  type Division,
  divide,
  isDivisible,
  type KeyText,
  rowsOfRange,
} from "./ranges.ts";
import { RateLimit } from "./rate.ts";
import {
  APPLY_SETTINGS,
  type ApplySession,
  atTheGate,
  beginApplying,
  beginRemoving,
  settingsSql,
} from "./session.ts";
import { joinSnapshot, type Snapshot } from "./snapshot.ts";

// Where callers look for it.
export type { ApplySession } from "./session.ts";
export { createSlot } from "./snapshot.ts";

/** One transaction on the target has about so much, so a kill costs no more than that of each range under way. */
const CHUNK_BYTES = 32 * 1024 * 1024;

export interface CopyProgress {
  readonly rows: number;
  readonly bytes: number;
  /** What the source's statistics say there is; both may turn out more. */
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
}

export interface CopyOptions {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly moving: Moving;
  readonly snapshot: Snapshot;
  readonly concurrency: number;
  readonly session?: ApplySession;
  readonly signal: AbortSignal;
  /** Under this name the target remembers what is done; without it a copy that was cut off has to begin anew. */
  readonly record?: string;
  /** Of all ranges together; null for as fast as it goes. */
  readonly bytesPerSecond?: number | null;
  /** Waited for before each transaction on the target: whoever knows that the source suffers lets it pass later. */
  readonly throttle?: () => Promise<void>;
  readonly division?: Division;
  readonly chunkBytes?: number;
  /** When a table is there whole, with its number of rows; not for one that an earlier attempt has completed. */
  readonly onTable?: (table: string, rows: number) => void;
  readonly onProgress?: (progress: CopyProgress) => void;
}

/**
 * Copies the organizations' rows of every table, or what an earlier attempt from the same snapshot has left. Each range
 * is copied in order of the table's key, in transactions that remember how far they came. A table comes after those by
 * which its rows' owners are found, so whatever a copy that was given up has left can be told from the rows of others,
 * and removed (`removeRows`).
 * @returns the number of rows of all attempts. @throws what either server says; the signal's reason.
 */
export async function copyRows(options: CopyOptions): Promise<number> {
  return await new Copy(options).run();
}

class Copy {
  readonly #options: CopyOptions;
  readonly #rate: RateLimit;
  readonly #failed = new AbortController();
  readonly #either: AbortSignal;
  readonly #remaining = new Map<string, { ranges: number; rows: number }>();
  #progress: CopyProgress = { rows: 0, bytes: 0, estimatedRows: 0, estimatedBytes: 0 };

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#rate = new RateLimit(options.bytesPerSecond ?? null);
    this.#either = AbortSignal.any([options.signal, this.#failed.signal]);
  }

  async run(): Promise<number> {
    const { moving, target, signal } = this.#options;
    try {
      const ranges = await this.#ranges();
      for (const { table, rows, bytes, done, estimatedRows, estimatedBytes } of ranges) {
        const known = this.#remaining.get(table) ?? { ranges: 0, rows: 0 };
        this.#remaining.set(table, { ranges: known.ranges + (done ? 0 : 1), rows: known.rows + rows });
        this.#add({ rows, bytes, estimatedRows, estimatedBytes });
      }
      const levels = Map.groupBy(ranges, (range) => tableOf(moving, range).depth);
      for (const depth of [...levels.keys()].sort((a, b) => a - b))
        await this.#level(levels.get(depth) ?? []);
    } catch (error) {
      signal.throwIfAborted();
      throw toPostgresError(atTheGate(error), describeEndpoint(target));
    }
    return this.#progress.rows;
  }

  #add(more: Partial<CopyProgress>): void {
    const { rows, bytes, estimatedRows, estimatedBytes } = this.#progress;
    this.#progress = {
      rows: rows + (more.rows ?? 0),
      bytes: bytes + (more.bytes ?? 0),
      estimatedRows: estimatedRows + (more.estimatedRows ?? 0),
      estimatedBytes: estimatedBytes + (more.estimatedBytes ?? 0),
    };
    this.#options.onProgress?.(this.#progress);
  }

  /** What an earlier attempt has left, or all of it. */
  async #ranges(): Promise<readonly RangeState[]> {
    const { moving, snapshot, record, division = DIVISION } = this.#options;
    return this.#connected(async (source, target) => {
      const begun = record === undefined ? null : await readRanges(target, record, snapshot);
      if (begun !== null) return begun;
      const plans = [];
      for (const table of moving.tables) plans.push(await divide(source, moving, table, division));
      const ranges = rangesOf(plans);
      if (record !== undefined) await writeRanges(target, record, snapshot, ranges);
      return ranges;
    });
  }

  async #level(ranges: readonly RangeState[]): Promise<void> {
    const waiting = ranges.filter(({ done }) => !done);
    const worker = () =>
      this.#connected(async (source, target) => {
        for (let range = waiting.shift(); range !== undefined; range = waiting.shift())
          await this.#range(source, target, range);
      });
    const workers = Math.min(this.#options.concurrency, waiting.length);
    const results = await Promise.allSettled(Array.from({ length: workers }, worker));
    // The first failure: the others were cut because of it.
    if (this.#failed.signal.aborted) throw this.#failed.signal.reason;
    const rejected = results.find((result) => result.status === "rejected");
    if (rejected !== undefined) throw rejected.reason;
  }

  /** On connections of its own, the source's within the snapshot. */
  async #connected<T>(work: (source: Database, target: Database) => Promise<T>): Promise<T> {
    const opened: Database[] = [];
    const cut = () => {
      for (const db of opened) discard(db);
    };
    this.#either.addEventListener("abort", cut, { once: true });
    try {
      this.#either.throwIfAborted();
      const open = async (endpoint: Endpoint) => {
        const db = await connect(endpoint, { applicationName: "cleave-copy" });
        opened.push(db);
        this.#either.throwIfAborted();
        return db;
      };
      const source = await open(this.#options.source);
      const target = await open(this.#options.target);
      // Sorting a range in memory, and no compiling of plans that are run once.
      await source.query(settingsSql({ work_mem: "64MB", jit: "off" }));
      await joinSnapshot(source, this.#options.snapshot.name);
      await target.query(APPLY_SETTINGS);
      if (this.#options.session) await target.query(this.#options.session.setup);
      return await work(source, target);
    } catch (error) {
      this.#failed.abort(error);
      throw error;
    } finally {
      this.#either.removeEventListener("abort", cut);
      cut();
    }
  }

  /** One range, from where it was left, in one transaction or several. */
  async #range(source: Database, target: Database, range: RangeState): Promise<void> {
    const { moving, chunkBytes = CHUNK_BYTES } = this.#options;
    const table = tableOf(moving, range);
    const out = source.query(
      copyTo(`COPY (${rowsOfRange(moving, table, range.range, range.upto)}) TO STDOUT`),
    );
    // It may fail once more when its connection is cut, and by then nobody listens.
    out.on("error", () => undefined);
    const chunks = new ChunkWriter(target, table, this.#options);
    const cursor = new LineCursor();
    let state = range;
    for await (const data of out as AsyncIterable<Buffer>) {
      await this.#rate.take(data.length, this.#either);
      await chunks.begin();
      // A table whose parts cannot be named is one transaction, whatever its size.
      const full = isDivisible(table) && chunks.bytes + data.length >= chunkBytes;
      const last = cursor.take(data, full);
      if (last === null) {
        await chunks.write(data);
        continue;
      }
      await chunks.write(data.subarray(0, last.end));
      state = await this.#commit(chunks, state, firstValues(last.line, table.key.length), false);
      if (last.end < data.length) {
        await chunks.begin();
        await chunks.write(data.subarray(last.end));
      }
    }
    await chunks.begin();
    await this.#commit(chunks, state, null, true);
    const remaining = this.#remaining.get(table.name);
    invariant(remaining !== undefined, `${table.name} is copied without having been planned`);
    remaining.ranges -= 1;
    if (remaining.ranges === 0) this.#options.onTable?.(table.name, remaining.rows);
  }

  async #commit(
    chunks: ChunkWriter,
    state: RangeState,
    upto: KeyText | null,
    done: boolean,
  ): Promise<RangeState> {
    const copied = await chunks.commit(state, upto, done);
    const remaining = this.#remaining.get(state.table);
    if (remaining) remaining.rows += copied.rows;
    this.#add(copied);
    return { ...state, upto: upto ?? state.upto, done, rows: state.rows + copied.rows };
  }
}

/** Writes lines of COPY into a table of the target, in transactions that remember how far they came. */
class ChunkWriter {
  readonly #db: Database;
  readonly #table: MovedTable;
  readonly #options: CopyOptions;
  #into: ReturnType<typeof copyFrom> | null = null;
  #failure: unknown = null;
  #bytes = 0;

  constructor(db: Database, table: MovedTable, options: CopyOptions) {
    this.#db = db;
    this.#table = table;
    this.#options = options;
  }

  /** Of the transaction that is open. */
  get bytes(): number {
    return this.#bytes;
  }

  async begin(): Promise<void> {
    if (this.#into !== null) return;
    const { throttle, session } = this.#options;
    await throttle?.();
    await this.#db.query(beginApplying(session));
    const columns = copiedColumns(this.#table).join(", ");
    this.#into = this.#db.query(copyFrom(`COPY ${this.#table.quoted} (${columns}) FROM STDIN`));
    // Between two writes nobody waits for it.
    this.#into.on("error", (error) => {
      this.#failure ??= error;
    });
  }

  async write(data: Buffer): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#bytes += data.length;
    if (this.#into?.write(data) !== false) return;
    if (this.#failure !== null) throw this.#failure;
    await once(this.#into, "drain");
  }

  async commit(
    state: RangeState,
    upto: KeyText | null,
    done: boolean,
  ): Promise<{ readonly rows: number; readonly bytes: number }> {
    const into = this.#into;
    invariant(into !== null, "a transaction of the copy ends that was not begun");
    if (this.#failure !== null) throw this.#failure;
    into.end();
    await once(into, "finish");
    const copied = { rows: into.rowCount ?? 0, bytes: this.#bytes };
    const { record } = this.#options;
    if (record !== undefined) await noteCopied(this.#db, record, state, { ...copied, upto, done });
    await this.#db.query("COMMIT");
    tally("postgres", "rows", copied.rows);
    tally("postgres", "bytes", copied.bytes);
    this.#into = null;
    this.#bytes = 0;
    return copied;
  }
}

/**
 * Removes the organizations' rows from the target, children first. For a copy that was cut off or given up; with its
 * `record`, what it remembers goes in the same transaction.
 */
export async function removeRows(
  target: Endpoint,
  moving: Moving,
  session?: ApplySession,
  record?: string,
): Promise<number> {
  const db = await connect(target, { applicationName: "cleave-copy" });
  let rows = 0;
  try {
    await db.query(APPLY_SETTINGS);
    if (session) await db.query(session.setup);
    await db.query(beginRemoving(session));
    for (const table of [...moving.tables].sort((a, b) => b.depth - a.depth)) {
      const result = await db.query(
        `DELETE FROM ${table.quoted} AS "row" WHERE ${ownedCondition(moving.ownership, table.name, '"row"', moving.keys)}`,
      );
      rows += result.rowCount ?? 0;
    }
    if (record !== undefined) await forgetCopy(db, record);
    await db.query("COMMIT");
    return rows;
  } catch (error) {
    throw atTheGate(error);
  } finally {
    discard(db);
  }
}
