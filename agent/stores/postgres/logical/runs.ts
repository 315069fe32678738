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
 * the server notices it; so the changes are kept as they came, for whoever has to apply them again one by one.
 */
import type { MovedTable } from "./moved-tables.ts";
import type { RelationMessage, Value } from "./pgoutput.ts";

/** Rows of one statement at most. */
const RUN_ROWS = 1_000;
/** So many runs are looked back for one to join. */
const LOOK_BACK = 64;

/** A table of the stream. */
export interface Relation {
  readonly message: RelationMessage;
  readonly table: MovedTable;
  /** The tables by which the owners of its rows are found. */
  readonly ancestors: ReadonlySet<string>;
  /** It has unique keys beside the one that tells its rows apart. */
  readonly contested: boolean;
  /** Equal keys may be written differently, so whether two changes are of one row is not known here. */
  readonly ambiguous: boolean;
}

/**
 * `rekey` is an update that changes the key. `foreign` is an update that makes or leaves a row somebody else's; it
 * changes nothing here, unless the row was one of the moving organizations': then it left them.
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
}

export class Runs {
  #runs: OpenRun[] = [];
  #changes: Change[] = [];
  #bytes = 0;

  get size(): number {
    return this.#changes.length;
  }

  /** Of the values, about. */
  get bytes(): number {
    return this.#bytes;
  }

  add(change: Change): void {
    this.#changes.push(change);
    for (const value of change.values) this.#bytes += value?.length ?? 0;
    const { relation, kind } = change;
    const shape = kind === "update" || kind === "rekey" ? shapeOf(change.values) : "";
    const key = change.key.join("\0");
    let place = this.#runs.length;
    for (let at = this.#runs.length - 1; at >= 0 && at >= this.#runs.length - LOOK_BACK; at--) {
      const run = this.#runs[at] as OpenRun;
      if (run.relation === relation && run.kind === kind && run.shape === shape && join(run, change, key))
        return;
      if (!commute(run, change, key)) break;
      // A parent comes before its children although the source, which checks at the end, took them the other way round.
      if (kind === "insert" && run.relation.ancestors.has(relation.table.name)) place = at;
    }
    this.#runs.splice(place, 0, { relation, kind, shape, changes: [change], at: new Map([[key, 0]]) });
  }

  /** The runs in the order in which they are to be applied, and the changes as they came; none are left. */
  take(): { readonly runs: readonly Run[]; readonly changes: readonly Change[] } {
    const taken = { runs: this.#runs, changes: this.#changes };
    this.#runs = [];
    this.#changes = [];
    this.#bytes = 0;
    return taken;
  }
}

/** A run of this change alone. */
export function runOf(change: Change): Run {
  return { ...change, changes: [change] };
}

/** Puts the change into the run, where that is possible. */
function join(run: OpenRun, change: Change, key: string): boolean {
  const { kind, relation } = change;
  if (kind === "rekey") return false;
  const known = run.at.get(key);
  if (known !== undefined) {
    if (kind === "foreign") return true;
    // The last value is what counts.
    if (kind !== "update") return false;
    run.changes[known] = change;
    return true;
  }
  if (run.changes.length >= RUN_ROWS) return false;
  // Two updates of one row in one statement: which of them lasts would be chance.
  if (relation.ambiguous && kind !== "insert") return false;
  run.at.set(key, run.changes.length);
  run.changes.push(change);
  return true;
}

/** Whether `change` may be applied before `run` as well as after it. */
function commute(run: OpenRun, change: Change, key: string): boolean {
  const [one, other] = [run.relation.table.name, change.relation.table.name];
  if (one === other) {
    if (change.relation.ambiguous) return false;
    if (run.kind === "rekey" || change.kind === "rekey") return false;
    return !run.at.has(key);
  }
  const overParent = change.relation.ancestors.has(one);
  const overChild = run.relation.ancestors.has(other);
  if (!overParent && !overChild) return true;
  if (run.kind === "rekey" || change.kind === "rekey") return false;
  // An update neither makes nor ends a parent; one that gives it to somebody else ends everything with an error.
  if (overParent) {
    if (run.kind === "update" || run.kind === "foreign") return true;
    return run.kind === "delete" && change.kind === "delete";
  }
  return change.kind !== "delete";
}

function shapeOf(values: readonly Value[]): string {
  let shape = "";
  for (const [at, value] of values.entries()) if (value === undefined) shape += `${at} `;
  return shape;
}
