/**
 * Changes of the stream gathered into runs: of one table, of one kind, one statement each. Pure.
 *
 * A change may join a run that is not the last one, when it commutes with every run behind it; so transactions that
 * touch many tables in turn become few statements too. What has to keep its order:
 *
 * - changes of the same row;
 * - a row and its parents, for whose a row is, is asked of the parents that are on the target at that moment.
 *
 * Rows that give each other a value that only one of them may have would need their order as well. That is rare, and
 * the server notices it; so the changes are kept, for whoever has to apply them again one by one.
 */
import type { MovedTable } from "./moved-tables.ts";
import type { RelationMessage, Value } from "./pgoutput.ts";

/** Rows of one statement at most. */
const RUN_ROWS = 1_000;
/** So many runs are looked back for one to join. */
const LOOK_BACK = 64;

/** How the parent of a row is found. */
export interface Reference {
  readonly parent: string;
  /** Columns of the row. */
  readonly columns: readonly string[];
  /** The parent's columns that have the same values. */
  readonly parentKey: readonly string[];
  /** Values that are equal are written the same on both sides. */
  readonly exact: boolean;
}

/** A table of the stream. */
export interface Relation {
  readonly message: RelationMessage;
  /** Where in a row a column is. */
  readonly position: ReadonlyMap<string, number>;
  readonly table: MovedTable;
  /** The tables by which the owners of its rows are found: its parents, their parents and so on. */
  readonly ancestors: ReadonlySet<string>;
  readonly references: readonly Reference[];
  /** It has unique keys beside the one that tells its rows apart. */
  readonly contested: boolean;
  /** Equal keys may be written differently, so whether two changes are of one row is not known here. */
  readonly ambiguous: boolean;
}

/**
 * `rekey` is an update that changes the key, of whomever. `foreign` is any other that makes or leaves a row somebody
 * else's; it changes nothing here, unless the row was one of the moving organizations': then it left them.
 */
export type Kind = "insert" | "update" | "rekey" | "delete" | "foreign";

export interface Change {
  readonly relation: Relation;
  readonly kind: Kind;
  /** The key of the row as it was. */
  readonly key: readonly string[];
  /** All of its columns; for `delete` and `foreign` nothing is read of it. */
  readonly values: readonly Value[];
}

export interface Run {
  readonly relation: Relation;
  readonly kind: Kind;
  readonly changes: Change[];
}

interface OpenRun extends Run {
  /** Which columns were not sent, because their values are large and did not change. */
  readonly shape: string;
  /** Where in `changes` a row is. */
  readonly at: Map<string, number>;
  /** The parents that its rows name, each with the last transaction that did; null when they cannot all be told. */
  parents: Map<string, number> | null;
}

export class Runs {
  /** Each change is a run, in the order in which they came; but parents come before their children. */
  readonly #strict: boolean;
  #runs: OpenRun[] = [];
  #entries: Entry[] = [];
  #bytes = 0;
  #transaction = 0;

  constructor(strict = false) {
    this.#strict = strict;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** Of the values, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What follows is of another transaction of the source. */
  endTransaction(): void {
    this.#transaction += 1;
  }

  add(change: Change): void {
    for (const value of change.values) this.#bytes += value?.length ?? 0;
    const entry = {
      change,
      key: change.key.join("\0"),
      shape: shapeOf(change),
      transaction: this.#transaction,
    };
    this.#entries.push(entry);
    this.#place(entry);
  }

  /** The runs in the order in which they are to be applied; none are left. */
  take(): Taken {
    const [runs, entries] = [this.#runs, this.#entries];
    this.#runs = [];
    this.#entries = [];
    this.#bytes = 0;
    return { runs, oneByOne: () => oneByOne(entries) };
  }

  #place(entry: Entry): void {
    let place = this.#runs.length;
    const strict = this.#strict;
    const last = strict ? (entry.change.kind === "insert" ? 0 : place) : Math.max(0, place - LOOK_BACK);
    for (let at = place - 1; at >= last; at--) {
      const run = this.#runs[at] as OpenRun;
      if (!strict && join(run, entry)) return;
      const order = orderOf(run, entry);
      if (order === "after") break;
      if (order === "before") place = at;
    }
    const { relation, kind } = entry.change;
    const run: OpenRun = {
      relation,
      kind,
      shape: entry.shape,
      changes: [],
      at: new Map(),
      parents: new Map(),
    };
    put(run, entry);
    this.#runs.splice(place, 0, run);
  }
}

export interface Taken {
  readonly runs: readonly Run[];
  /** The same changes, each by itself, in the order in which they came; but parents come before their children. */
  oneByOne(): readonly Run[];
}

function oneByOne(entries: readonly Entry[]): Run[] {
  const strict = new Runs(true);
  let transaction: number | undefined;
  for (const entry of entries) {
    if (transaction !== entry.transaction) strict.endTransaction();
    transaction = entry.transaction;
    strict.add(entry.change);
  }
  return [...strict.take().runs];
}

interface Entry {
  readonly change: Change;
  readonly key: string;
  readonly shape: string;
  readonly transaction: number;
}

/** Puts the change into the run, where that is possible. */
function join(run: OpenRun, entry: Entry): boolean {
  const { relation, kind } = entry.change;
  if (run.relation !== relation || run.kind !== kind || run.shape !== entry.shape || kind === "rekey")
    return false;
  if (run.at.has(entry.key)) {
    if (kind === "foreign") return true;
    // The last value is what counts.
    if (kind !== "update") return false;
  } else if (run.changes.length >= RUN_ROWS) return false;
  // Two updates of one row in one statement: which of them lasts would be chance.
  else if (relation.ambiguous && kind !== "insert") return false;
  put(run, entry);
  return true;
}

function put(run: OpenRun, { change, key, transaction }: Entry): void {
  const { relation, kind, values } = change;
  const at = run.at.get(key) ?? run.changes.length;
  run.at.set(key, at);
  run.changes[at] = change;
  if (kind === "delete" || kind === "foreign") return;
  for (const [number, { columns, exact }] of relation.references.entries()) {
    const name = exact ? valuesOf(relation, columns, values) : null;
    if (name === null) run.parents = null;
    else run.parents?.set(`${number}\0${name}`, transaction);
  }
}

/** Null when one of them was not sent. */
function valuesOf(
  { position }: Relation,
  columns: readonly string[],
  values: readonly Value[],
): string | null {
  const chosen = columns.map((column) => values[position.get(column) ?? -1]);
  return chosen.includes(undefined) ? null : chosen.join("\0");
}

/** Whether the change may be applied before the run as well as after it, or which of the two it has to be. */
function orderOf(run: OpenRun, entry: Entry): "either" | "before" | "after" {
  const { relation, kind } = entry.change;
  const [one, other] = [run.relation.table.name, relation.table.name];
  const related = one === other || relation.ancestors.has(one) || run.relation.ancestors.has(other);
  if (!related) return "either";
  if (run.kind === "rekey" || kind === "rekey") return "after";
  if (one === other) return relation.ambiguous || run.at.has(entry.key) ? "after" : "either";
  // An update neither makes nor ends a parent; one that gives it to somebody else ends everything with an error.
  if (relation.ancestors.has(one)) {
    if (run.kind === "update" || run.kind === "foreign") return "either";
    return run.kind === "delete" && kind === "delete" ? "either" : "after";
  }
  if (kind === "delete") return "after";
  return kind === "insert" ? orderOfParent(run, entry) : "either";
}

/**
 * A new row, and a run of rows that may name it as their parent. Within a transaction its children may come first, if
 * their constraints are checked at its end; those of an earlier one named another row, which had the same key.
 */
function orderOfParent(run: OpenRun, { change, transaction }: Entry): "either" | "before" | "after" {
  if (run.parents === null) return "after";
  let order: "either" | "before" = "either";
  for (const [number, { parent, parentKey }] of run.relation.references.entries()) {
    if (parent !== change.relation.table.name) continue;
    const name = valuesOf(change.relation, parentKey, change.values);
    const named = name === null ? -1 : run.parents.get(`${number}\0${name}`);
    if (named === undefined) continue;
    if (named !== transaction) return "after";
    order = "before";
  }
  return order;
}

/** Which columns were not sent. */
function shapeOf({ kind, values }: Change): string {
  if (kind !== "update" && kind !== "rekey") return "";
  let shape = "";
  for (const [at, value] of values.entries()) if (value === undefined) shape += `${at} `;
  return shape;
}
