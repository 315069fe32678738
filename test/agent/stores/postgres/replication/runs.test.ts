/** Changes gathered into runs leave what the same changes leave one by one, whatever they are and wherever it is cut. */
import fc from "fast-check";
import { expect, it } from "vitest";
import {
  type Change,
  type Relation,
  type Run,
  Runs,
} from "../../../../../agent/stores/postgres/replication/runs.ts";

/** A small model of what the statements do: rows by table and key, whose owner is found through their parents. */
interface Row {
  /** The organization for `projects` and `labels`, else the parent's key. */
  readonly of: string;
  readonly value: string;
}
type Tables = Map<string, Map<string, Row>>;

const PARENT: Record<string, string | null> = {
  projects: null,
  labels: null,
  issues: "projects",
  notes: "issues",
};
const NAMES = Object.keys(PARENT);
const ancestors = (table: string): string[] => {
  const parent = PARENT[table];
  return parent ? [parent, ...ancestors(parent)] : [];
};

const relations: Record<string, Relation> = Object.fromEntries(
  NAMES.map((name) => [
    name,
    {
      table: { name },
      position: new Map([
        ["key", 0],
        ["of", 1],
        ["value", 2],
      ]),
      ancestors: new Set(ancestors(name)),
      references: PARENT[name]
        ? [{ parent: PARENT[name], columns: ["of"], parentKey: ["key"], exact: true }]
        : [],
      contested: name === "labels",
      ambiguous: false,
    } as unknown as Relation,
  ]),
);

const empty = (): Tables => new Map(NAMES.map((name) => [name, new Map()]));
const copyOf = (tables: Tables): Tables => new Map([...tables].map(([name, rows]) => [name, new Map(rows)]));
const rowsOf = (tables: Tables, table: string) => tables.get(table) as Map<string, Row>;

function ownerOf(tables: Tables, table: string, row: Row): string | null {
  const parent = PARENT[table];
  if (!parent) return row.of;
  const found = rowsOf(tables, parent).get(row.of);
  return found === undefined ? null : ownerOf(tables, parent, found);
}

const OURS = "ours";
class Taken extends Error {}

const rowOf = ({ values }: Change): Row => ({ of: values[1] as string, value: values[2] as string });

/** As the SQL of a run does it on the target, where only rows of OURS are. */
function applyRun(tables: Tables, { relation, kind, changes }: Run): void {
  const name = relation.table.name;
  const rows = rowsOf(tables, name);
  const before = copyOf(tables);
  const ours = (row: Row) => ownerOf(before, name, row) === OURS;
  for (const change of changes) {
    const key = change.key[0] as string;
    const present = rowsOf(before, name).get(key);
    const isOurs = present !== undefined && ours(present);
    if (kind === "insert" && ours(rowOf(change))) {
      if (present) throw new Error(`${name} ${key} is there already`);
      rows.set(key, rowOf(change));
    } else if (kind === "update") {
      // Its parent's key has changed, and it follows.
      const follows = present !== undefined && ownerOf(before, name, present) === null && ours(rowOf(change));
      if (isOurs || follows) rows.set(key, rowOf(change));
      else if (ours(rowOf(change))) throw new Error(`${name} ${key} came`);
    } else if (kind === "rekey") {
      if (!isOurs) continue;
      rows.delete(key);
      rows.set(change.values[0] as string, rowOf(change));
    } else if (kind === "delete" && present && (isOurs || ownerOf(before, name, present) === null))
      rows.delete(key);
    else if (kind === "foreign" && isOurs) throw new Error(`${name} ${key} left`);
    // One row after the other: that is when the server looks.
    if (name === "labels") {
      const values = [...rows.values()].map(({ value }) => value);
      if (new Set(values).size < values.length) throw new Taken();
    }
  }
}

const applyOneByOne = (tables: Tables, changes: readonly Change[]) => {
  for (const change of changes) applyRun(tables, { ...change, changes: [change] });
};

/** As the applier does it. */
function applyTogether(tables: Tables, changes: readonly Change[], ends: ReadonlySet<Change>): Tables {
  const runs = new Runs();
  for (const change of changes) {
    runs.add(change);
    if (ends.has(change)) runs.endTransaction();
  }
  const taken = runs.take();
  const attempt = copyOf(tables);
  try {
    for (const run of taken.runs) applyRun(attempt, run);
    return attempt;
  } catch (error) {
    if (!(error instanceof Taken)) throw error;
    const again = copyOf(tables);
    for (const run of taken.oneByOne()) applyRun(again, run);
    return again;
  }
}

/** A source on which every step is possible: what it does to itself, and what its stream says of it. */
class Source {
  readonly tables = empty();
  readonly changes: Change[] = [];
  /** The last ones of their transactions. */
  readonly ends = new Set<Change>();
  #next = 0;

  commit(): void {
    const last = this.changes.at(-1);
    if (last) this.ends.add(last);
  }

  #say(kind: Change["kind"], table: string, key: string, row: Row | null, newKey = key): void {
    const values = row === null ? [] : [newKey, row.of, row.value];
    const foreign = !PARENT[table] && kind === "update" && row?.of !== OURS;
    // Whose a project is, an insert tells by itself.
    if (!PARENT[table] && kind === "insert" && row?.of !== OURS) return;
    this.changes.push({
      relation: relations[table] as Relation,
      kind: foreign ? "foreign" : kind,
      key: [key],
      values,
    });
  }

  #pick(table: string, seed: number): string | undefined {
    const keys = [...rowsOf(this.tables, table).keys()];
    return keys[seed % Math.max(1, keys.length)];
  }

  step({ what, table, a, b }: Step): void {
    const rows = rowsOf(this.tables, table);
    const parent = PARENT[table];
    const of = parent ? this.#pick(parent, a) : a % 3 === 0 ? "others" : OURS;
    const key = this.#pick(table, b);
    if (what === "insert" && of !== undefined) {
      // A key that was there before may come again.
      const free = b % 3 === 0 ? [0, 1, 2, 3].map((n) => `k${n}`).find((k) => !rows.has(k)) : undefined;
      this.#next += 1;
      const [made, row] = [free ?? `n${this.#next}`, { of, value: `v${this.#next}` }];
      rows.set(made, row);
      this.#say("insert", table, made, row);
    } else if (key === undefined) return;
    else if (what === "update") this.#set(table, key, { value: `w${a}` });
    else if (what === "delete") this.#remove(table, key);
    else if (what === "rekey") this.#rekey(table, key);
    else if (what === "exchange") this.#exchange(key, this.#pick("labels", a));
    else if (what === "move") this.#move(table, key, a);
    else if (what === "child first") this.#childFirst(a);
  }

  /** With constraints that are checked at the end. */
  #childFirst(seed: number): void {
    this.#next += 1;
    const [project, issue, note] = [`p${this.#next}`, `i${this.#next}`, `o${this.#next}`];
    const rows: [string, string, Row][] = [
      ["notes", note, { of: issue, value: "first" }],
      ["issues", issue, { of: project, value: "first" }],
      ["projects", project, { of: seed % 3 === 0 ? "others" : OURS, value: "first" }],
    ];
    for (const [table, key, row] of rows) {
      rowsOf(this.tables, table).set(key, row);
      this.#say("insert", table, key, row);
    }
  }

  #set(table: string, key: string, change: Partial<Row>): void {
    const row = { ...(rowsOf(this.tables, table).get(key) as Row), ...change };
    if (table === "labels" && [...rowsOf(this.tables, table).values()].some((one) => one.value === row.value))
      return;
    rowsOf(this.tables, table).set(key, row);
    this.#say("update", table, key, row);
  }

  /** As a foreign key that cascades: the parent first. */
  #remove(table: string, key: string): void {
    rowsOf(this.tables, table).delete(key);
    this.#say("delete", table, key, null);
    for (const child of NAMES.filter((name) => PARENT[name] === table))
      for (const [name, row] of [...rowsOf(this.tables, child)])
        if (row.of === key) this.#remove(child, name);
  }

  /** As a foreign key that cascades: the parent first. */
  #rekey(table: string, key: string): void {
    const row = rowsOf(this.tables, table).get(key) as Row;
    this.#next += 1;
    const made = `r${this.#next}`;
    rowsOf(this.tables, table).delete(key);
    rowsOf(this.tables, table).set(made, row);
    this.#say("rekey", table, key, row, made);
    for (const child of NAMES.filter((name) => PARENT[name] === table))
      for (const [name, one] of [...rowsOf(this.tables, child)])
        if (one.of === key) this.#set(child, name, { of: made });
  }

  /** Two labels give each other the value that only one may have, by way of a third. */
  #exchange(one: string | undefined, other: string | undefined): void {
    const rows = rowsOf(this.tables, "labels");
    if (one === undefined || other === undefined || one === other || !rows.has(one) || !rows.has(other))
      return;
    const [first, second] = [rows.get(one) as Row, rows.get(other) as Row];
    this.#next += 1;
    this.#set("labels", one, { value: `x${this.#next}` });
    this.#set("labels", other, { value: first.value });
    this.#set("labels", one, { value: second.value });
  }

  /** To another parent of the same organization. */
  #move(table: string, key: string, seed: number): void {
    const parent = PARENT[table];
    if (!parent) return;
    const owner = ownerOf(this.tables, table, rowsOf(this.tables, table).get(key) as Row);
    const choices = [...rowsOf(this.tables, parent)].filter(
      ([, row]) => ownerOf(this.tables, parent, row) === owner,
    );
    const next = choices[seed % Math.max(1, choices.length)];
    if (next) this.#set(table, key, { of: next[0] });
  }
}

interface Step {
  readonly what: "insert" | "update" | "delete" | "rekey" | "exchange" | "move" | "child first";
  readonly table: string;
  readonly a: number;
  readonly b: number;
}
const kinds: Step["what"][] = [
  "insert",
  "insert",
  "insert",
  "update",
  "update",
  "delete",
  "rekey",
  "exchange",
  "move",
];
const stepOf = (whats: Step["what"][]) =>
  fc.record({
    what: fc.constantFrom(...whats),
    table: fc.constantFrom(...NAMES),
    a: fc.nat(30),
    b: fc.nat(30),
  });
const some = <T>(one: fc.Arbitrary<T>, maxLength: number) => fc.array(one, { maxLength, size: "max" });

const ours = (tables: Tables) =>
  Object.fromEntries(
    NAMES.map((name) => [
      name,
      [...rowsOf(tables, name)].filter(([, row]) => ownerOf(tables, name, row) === OURS).sort(),
    ]),
  );
const everything = (tables: Tables) =>
  Object.fromEntries(NAMES.map((name) => [name, [...rowsOf(tables, name)].sort()]));

/** A window may end in the midst of a transaction, and have several. */
it("in any window, with exchanged values, returning keys and cascades", () => {
  const transactions = some(some(stepOf(kinds), 6), 30);
  fc.assert(
    fc.property(transactions, fc.integer({ min: 1, max: 40 }), (all, window) => {
      const source = new Source();
      for (const steps of all) {
        for (const step of steps) source.step(step);
        source.commit();
      }
      const expected = empty();
      applyOneByOne(expected, source.changes);
      expect(ours(expected)).toEqual(ours(source.tables));
      let target = empty();
      for (let at = 0; at < source.changes.length; at += window)
        target = applyTogether(target, source.changes.slice(at, at + window), source.ends);
      expect(everything(target)).toEqual(ours(source.tables));
    }),
    { numRuns: 2_000 },
  );
});

it("with children that come before their parents in one transaction", () => {
  const transactions = some(some(stepOf([...kinds, "child first", "child first"]), 6), 30);
  fc.assert(
    fc.property(transactions, fc.integer({ min: 1, max: 8 }), (all, together) => {
      const source = new Source();
      let target = empty();
      for (const [at, steps] of all.entries()) {
        for (const step of steps) source.step(step);
        source.commit();
        if (at % together === 0) target = applyTogether(target, source.changes.splice(0), source.ends);
      }
      target = applyTogether(target, source.changes, source.ends);
      expect(everything(target)).toEqual(ours(source.tables));
    }),
    { numRuns: 2_000 },
  );
});

it("as few runs as there can be of a usual mix", () => {
  const source = new Source();
  for (let n = 0; n < 300; n++)
    for (const table of NAMES) {
      source.step({ what: "insert", table, a: 1 + 3 * n, b: 1 });
      source.step({ what: "update", table, a: n, b: n });
    }
  const runs = new Runs();
  for (const change of source.changes) runs.add(change);
  expect(runs.size).toBeGreaterThan(2_000);
  expect(runs.take().runs.length).toBeLessThan(30);
  expect(runs.size).toBe(0);
});
