/**
 * References that lead out of what is moved, to rows that belong to nobody alone (users, shared files): those that a
 * constraint declares, and those of which only a column's name says what they mean. Pure, and the same on both Pods: the
 * evidence of both is made by it.
 */
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { ownerColumns, rulesOf } from "../fence/owner-sql.ts";
import { bareName, mayMean, stemmed, words } from "../inventory/names.ts";
import { type Column, type ForeignKey, identityOf, type Schema, type Table } from "../inventory/schema.ts";

export interface SharedReference {
  /** `schema.table` that has the columns; it is moved. */
  readonly from: string;
  /** The constraint, or the column whose name says it. */
  readonly name: string;
  readonly columns: readonly string[];
  readonly to: Table;
  readonly parentKey: readonly string[];
  /** What tells which row it is: every column of a `shared` one, the unique ones of others, for the rest may change. */
  readonly identifying: readonly string[];
  /** A constraint says so: there has to be such a row. Of what a name says, only what the source has is needed. */
  readonly declared: boolean;
  /** The source knows of it, so it is part of the evidence; a constraint of the target alone is not. */
  readonly onSource: boolean;
}

/** `moved` are the names of the tables whose rows move. @returns references in an order that depends on names alone. */
export function sharedReferences(
  moved: ReadonlySet<string>,
  source: Schema,
  target: Schema,
  ownership: Ownership,
): SharedReference[] {
  const rules = rulesOf(ownership);
  return [...moved].sort().flatMap((name) => {
    const table = source.get(name);
    if (table === undefined) return [];
    const there = target.get(name);
    const declared = [
      ...table.foreignKeys.map((key) => ({ key, onSource: true })),
      ...(there?.foreignKeys ?? [])
        .filter((key) => !table.foreignKeys.some((one) => sameReference(one, key)))
        .map((key) => ({ key, onSource: false })),
    ].flatMap(({ key, onSource }) =>
      moved.has(key.parent) ? [] : reference(name, key, source, target, rules, true, onSource),
    );
    return [
      ...declared,
      ...named(table, moved, source, rules).flatMap((key) =>
        reference(name, key, source, target, rules, false, true),
      ),
    ];
  });
}

/** A reference of a moved table to one that is moved too. */
export interface WithinReference {
  readonly from: string;
  readonly name: string;
  readonly columns: readonly string[];
  readonly to: string;
  readonly parentKey: readonly string[];
}

/** Those by which a row may refer to another organization's; not those by which it is found whose it is. */
export function withinReferences(
  moved: ReadonlySet<string>,
  source: Schema,
  ownership: Ownership,
): WithinReference[] {
  const rules = rulesOf(ownership);
  return [...moved].flatMap((from) =>
    (source.get(from)?.foreignKeys ?? []).flatMap(({ name, columns, parent, parentKey }) => {
      const rule = rules.get(from);
      const byRule =
        rule !== undefined &&
        "parent" in rule &&
        rule.parent === parent &&
        [rule.column].flat().join("\n") === columns.join("\n");
      return moved.has(parent) && !byRule ? [{ from, name, columns, to: parent, parentKey }] : [];
    }),
  );
}

/** Tables that are referred to and that are not on both Pods with the same columns, in words. */
export function differencesOfReferred(
  references: readonly SharedReference[],
  source: Schema,
  target: Schema,
  differences: (source: Table, target: Table) => string[],
): string[] {
  return [...new Set(references.map(({ to }) => to.name))].flatMap((name) => {
    const [here, there] = [source.get(name), target.get(name)];
    if (here === undefined) return [`${name} is on the target alone`];
    return there === undefined ? [`${name} is not on the target`] : differences(here, there);
  });
}

const sameReference = (a: ForeignKey, b: ForeignKey) =>
  a.parent === b.parent &&
  a.columns.join("\n") === b.columns.join("\n") &&
  a.parentKey.join("\n") === b.parentKey.join("\n");

function reference(
  from: string,
  { name, columns, parent, parentKey }: Pick<ForeignKey, "name" | "columns" | "parent" | "parentKey">,
  source: Schema,
  target: Schema,
  rules: ReadonlyMap<string, TableRule>,
  declared: boolean,
  onSource: boolean,
): SharedReference[] {
  const here = source.get(parent);
  const to = target.get(parent) ?? here;
  if (to === undefined) return [];
  const rule = rules.get(parent);
  const known = here ?? to;
  const identifying =
    rule !== undefined && "shared" in rule
      ? [...known.columns.values()].filter(({ generated }) => !generated).map((column) => column.name)
      : [...parentKey, ...known.keys.flatMap((key) => key.columns)];
  return [
    { from, name, columns, to, parentKey, identifying: [...new Set(identifying)].sort(), declared, onSource },
  ];
}

/** Columns without a constraint whose name means a table of nobody's alone, and whose type is that of its key. */
function named(
  table: Table,
  moved: ReadonlySet<string>,
  source: Schema,
  rules: ReadonlyMap<string, TableRule>,
): Pick<ForeignKey, "name" | "columns" | "parent" | "parentKey">[] {
  const taken = new Set(table.foreignKeys.flatMap((key) => key.columns));
  const rule = rules.get(table.name);
  if (rule !== undefined && ("organization" in rule || "parent" in rule || "typeColumn" in rule))
    for (const column of ownerColumns(rule)) taken.add(column);
  return [...table.columns.values()].flatMap((column) => {
    if (taken.has(column.name)) return [];
    const meant = [...source.values()].flatMap((to) => {
      const other = rules.get(to.name);
      if (other === undefined || moved.has(to.name) || !("clusterWide" in other || "shared" in other))
        return [];
      const key = identityOf(to);
      const [only] = key?.columns ?? [];
      if (only === undefined || key?.columns.length !== 1) return [];
      return means(column, to, to.columns.get(only)) ? [{ to, only }] : [];
    });
    // One of its own schema before others, and of those the one whose whole name it is, before one that merely ends like it.
    const near = meant.filter(({ to }) => schemaOf(to.name) === schemaOf(table.name));
    const likely = near.length > 0 ? near : meant;
    const best = likely.find(({ to }) => isWholeName(column.name, to.name)) ?? likely[0];
    return best === undefined
      ? []
      : [{ name: column.name, columns: [column.name], parent: best.to.name, parentKey: [best.only] }];
  });
}

const INTEGERS: ReadonlySet<string> = new Set(["smallint", "integer", "bigint"]);

function means(column: Column, to: Table, key: Column | undefined): boolean {
  if (key === undefined || !mayMean(column.name, to.name)) return false;
  return column.type === key.type || (INTEGERS.has(column.type) && INTEGERS.has(key.type));
}

const schemaOf = (table: string) => table.slice(0, table.indexOf("."));
const isWholeName = (column: string, table: string) =>
  stemmed(words(column).slice(0, -1).join(" ")) === stemmed(bareName(table));
