/**
 * Finds a rule for every table, surest first. What the catalog declares (foreign keys over NOT NULL columns) is
 * followed to its end before anything weaker is looked at; a column that only looks like a reference counts when its
 * name says so and the rows agree; a table that none of this reaches stays unexplained.
 */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { isOwned } from "../fence/owner-sql.ts";
import type { Containment, Measure } from "./measure.ts";
import { mayMean, polymorphicPairs, valueMayMean } from "./names.ts";
import { identityOf, type Schema, type Table } from "./schema.ts";

/** How sure a rule is, surest first. `rules file`: the operator said so. */
export type Certainty = "rules file" | "declared" | "measured" | "partial" | "unexplained";

export interface Explained {
  readonly rule: TableRule;
  readonly certainty: Certainty;
  /** What it rests on, in a few words. */
  readonly because: string;
}

export interface Resolution {
  readonly ownership: Ownership;
  readonly explained: ReadonlyMap<string, Explained>;
  readonly unexplained: readonly Table[];
}

export interface ResolveOptions {
  readonly schema: Schema;
  readonly measure: Measure;
  readonly root: { readonly table: string; readonly key: string };
  /** The operator's rules, which are not questioned. */
  readonly rules: Readonly<Record<string, TableRule>>;
  readonly onProgress?: (text: string) => void;
}

/** The root table's key column. @throws CleaveError OWNERSHIP_RULE_INVALID */
export function rootOf(schema: Schema, name: string): { table: string; key: string } {
  const table = schema.get(name.includes(".") ? name : `public.${name}`);
  if (table === undefined)
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `there is no table ${name} to be the root`);
  const key = identityOf(table);
  if (key === null || key.columns.length !== 1)
    throw new CleaveError(
      "OWNERSHIP_RULE_INVALID",
      `${table.name} has no key of one column, so its rows cannot name organizations`,
    );
  return { table: table.name, key: key.columns[0] as string };
}

export async function resolve(options: ResolveOptions): Promise<Resolution> {
  const search = new Search(options);
  for (const [table, rule] of Object.entries(options.rules))
    search.explain(table, { rule, certainty: "rules file", because: "the rules file says so" });
  const steps = [
    () => search.declared(),
    () => search.nullableButComplete(),
    () => search.polymorphic("measured"),
    () => search.looksLikeAReference("measured"),
    () => search.partial(),
    () => search.polymorphic("partial"),
    () => search.looksLikeAReference("partial"),
  ];
  // Whenever a weaker step found something, the surer ones may reach further from there.
  for (let step = 0; step < steps.length; ) {
    const found = await (steps[step] as () => Promise<boolean> | boolean)();
    step = found && step > 0 ? 0 : step + 1;
  }
  return {
    ownership: search.ownership(),
    explained: search.explained,
    unexplained: search.open().filter((table) => table.name !== options.root.table),
  };
}

class Search {
  readonly explained = new Map<string, Explained>();
  readonly #options: ResolveOptions;
  readonly #measured = new Map<string, Promise<Containment | null>>();

  constructor(options: ResolveOptions) {
    this.#options = options;
  }

  explain(table: string, explained: Explained): void {
    this.explained.set(table, explained);
    this.#options.onProgress?.(`${this.explained.size} of ${this.#options.schema.size} tables`);
  }

  ownership(): Ownership {
    const tables = Object.fromEntries([...this.explained].map(([name, { rule }]) => [name, rule]));
    return { version: 1, root: this.#options.root, tables, objects: [] };
  }

  open(): Table[] {
    return [...this.#options.schema.values()].filter((table) => !this.explained.has(table.name));
  }

  /** Rows of it have an organization, so rows that refer to them have one. */
  #leads(table: string): boolean {
    if (table === this.#options.root.table) return true;
    const known = this.explained.get(table);
    return known !== undefined && isOwned(known.rule);
  }

  #ruleTo(parent: string, columns: readonly string[], parentKey: readonly string[]): TableRule {
    const { root } = this.#options;
    const [column] = columns;
    if (parent === root.table && columns.length === 1 && parentKey[0] === root.key)
      return { organization: column as string };
    if (columns.length === 1) return { parent, column: column as string, parentKey: parentKey[0] as string };
    return { parent, column: [...columns], parentKey: [...parentKey] };
  }

  /** Foreign keys over NOT NULL columns, breadth first: the shortest path wins, then the surer name, then the catalog's order. */
  declared(): boolean {
    let found = false;
    for (;;) {
      const round = this.open().flatMap((table) => {
        const candidates = table.foreignKeys
          .filter((key) => key.validated && key.parent !== table.name && this.#leads(key.parent))
          .filter((key) => key.columns.every((column) => table.columns.get(column)?.notNull));
        const best = candidates.sort((a, b) => this.#rank(table, a) - this.#rank(table, b))[0];
        return best === undefined ? [] : [{ table, best }];
      });
      if (round.length === 0) return found;
      for (const { table, best } of round) {
        const rule = this.#ruleTo(best.parent, best.columns, best.parentKey);
        this.explain(table.name, {
          rule,
          certainty: "declared",
          because: `foreign key ${best.name}, NOT NULL`,
        });
      }
      found = true;
    }
  }

  /** The organization's own key first; then keys whose rows go away with their parent, which belong to it most. */
  #rank(table: Table, key: { parent: string; columns: readonly string[] }): number {
    if (key.parent === this.#options.root.table) return 0;
    const partOfKey = key.columns.every((column) => identityOf(table)?.columns.includes(column));
    const named = key.columns.some((column) => mayMean(column, key.parent));
    return 1 + (partOfKey ? 0 : 2) + (named ? 0 : 1);
  }

  /** Foreign keys that could be NULL but never are. */
  async nullableButComplete(): Promise<boolean> {
    return await this.#declaredIf(
      (measured) => measured.rows > 0 && measured.nulls === 0 && measured.found === measured.rows,
      "measured",
      (name, measured) => `foreign key ${name}; none of ${measured.rows} rows is without`,
    );
  }

  /** Foreign keys that some rows leave empty: those rows have no owner, which the operator has to decide on. */
  async partial(): Promise<boolean> {
    return await this.#declaredIf(
      (measured) => measured.rows === 0 || measured.nulls < measured.rows,
      "partial",
      (name, measured) =>
        measured.rows === 0
          ? `foreign key ${name}, which may be NULL; there are no rows to look at`
          : `foreign key ${name}; ${measured.nulls} of ${measured.rows} rows are without`,
    );
  }

  async #declaredIf(
    accept: (measured: Containment) => boolean,
    certainty: Certainty,
    because: (name: string, measured: Containment) => string,
  ): Promise<boolean> {
    let found = false;
    for (const table of this.open()) {
      const candidates: { rule: TableRule; because: string; nulls: number }[] = [];
      for (const key of table.foreignKeys) {
        if (key.parent === table.name || !this.#leads(key.parent)) continue;
        // A shared table may well refer to an organization's rows here and there (a user's home).
        if (certainty === "partial" && (await this.#isShared(table))) continue;
        const measured = await this.#contained(table, key.columns, key.parent, key.parentKey);
        if (measured === null || !accept(measured)) continue;
        const rule = this.#ruleTo(key.parent, key.columns, key.parentKey);
        candidates.push({ rule, because: because(key.name, measured), nulls: measured.nulls });
      }
      const best = candidates.sort((a, b) => a.nulls - b.nulls)[0];
      if (best === undefined) continue;
      this.explain(table.name, { rule: best.rule, certainty, because: best.because });
      found = true;
    }
    return found;
  }

  /** Rows of it are referred to by rows of several organizations. */
  async #isShared(table: Table): Promise<boolean> {
    for (const other of this.#options.schema.values()) {
      if (!this.#leads(other.name) || other.name === this.#options.root.table) continue;
      for (const key of other.foreignKeys) {
        if (key.parent !== table.name) continue;
        const sharing = await this.#options.measure.sharing(other, this.ownership(), key.columns);
        if (sharing !== null && sharing.shared > 0) return true;
      }
    }
    return false;
  }

  /** (type, id) pairs whose every type is a table that leads to an organization, by name and by its rows. */
  async polymorphic(accept: Certainty): Promise<boolean> {
    let found = false;
    for (const table of this.open()) {
      for (const pair of polymorphicPairs([...table.columns.keys()])) {
        const explained = await this.#pair(table, pair.typeColumn, pair.idColumn);
        if (explained?.certainty !== accept) continue;
        this.explain(table.name, explained);
        found = true;
        break;
      }
    }
    return found;
  }

  async #pair(table: Table, typeColumn: string, idColumn: string): Promise<Explained | null> {
    const { measure, schema } = this.#options;
    const types = await measure.typesOf(table, typeColumn);
    if (types === null || types.length === 0) return null;
    const parents: Record<string, string> = {};
    const unknown: string[] = [];
    let parentKey: string | null = null;
    for (const { value, rows } of types) {
      const quoted = `'${value.replaceAll("'", "''")}'`;
      const where = `c.${JSON.stringify(typeColumn).replaceAll('\\"', '""')}::text = ${quoted}`;
      let match: Table | null = null;
      for (const candidate of schema.values()) {
        if (!this.#leads(candidate.name) || !valueMayMean(value, candidate.name)) continue;
        const key = identityOf(candidate)?.columns;
        if (key?.length !== 1 || (parentKey !== null && key[0] !== parentKey)) continue;
        const measured = await measure.containment(table, [idColumn], candidate, key, where);
        if (measured === null || measured.found < measured.rows) continue;
        match = candidate;
        parentKey = key[0] as string;
        break;
      }
      if (match === null) unknown.push(`${value} (${rows} rows)`);
      else parents[value] = match.name;
    }
    if (parentKey === null) return null;
    const names = Object.entries(parents).map(([value, parent]) => `${value} is ${parent}`);
    return {
      rule: { typeColumn, idColumn, parents, parentKey },
      certainty: unknown.length === 0 ? "measured" : "partial",
      because: `pair ${typeColumn}, ${idColumn}: ${names.join(", ")}${unknown.length > 0 ? `; of no owned table: ${unknown.join(", ")}` : ""}`,
    };
  }

  /** Columns without a constraint whose name means a table that leads on, and whose every value is a key of it. */
  async looksLikeAReference(accept: Certainty): Promise<boolean> {
    let found = false;
    for (const table of this.open()) {
      const best = await this.#bestLookalike(table);
      if (best?.certainty !== accept) continue;
      this.explain(table.name, best);
      found = true;
    }
    return found;
  }

  async #bestLookalike(table: Table): Promise<Explained | null> {
    const { root, schema } = this.#options;
    const declared = new Set(
      table.foreignKeys.flatMap((key) => (key.columns.length === 1 ? key.columns : [])),
    );
    const candidates: (Explained & { readonly rank: number })[] = [];
    for (const column of table.columns.values()) {
      if (declared.has(column.name) || column.generated) continue;
      for (const parent of schema.values()) {
        if (parent.name === table.name || !this.#leads(parent.name)) continue;
        const isRoot = parent.name === root.table;
        for (const key of parent.keys) {
          const [name] = key.columns;
          if (key.columns.length !== 1 || !comparable(column.type, parent.columns.get(name as string)?.type))
            continue;
          const named = mayMean(column.name, parent.name);
          // Small numbers are keys of nearly everything; long random ones of what they were made for alone.
          if (!named && !(isRoot && column.type === "uuid")) continue;
          const measured = await this.#contained(table, [column.name], parent.name, key.columns);
          if (measured === null || measured.rows === 0 || measured.found < measured.rows - measured.nulls)
            continue;
          if (measured.found === 0) continue;
          const complete = measured.nulls === 0;
          candidates.push({
            rule: this.#ruleTo(parent.name, [column.name], key.columns),
            certainty: complete ? "measured" : "partial",
            because: `no constraint, but ${named ? "the name and " : ""}all of ${measured.found} values of ${column.name} are in ${parent.name}${complete ? "" : `; ${measured.nulls} rows are without`}`,
            rank: (complete ? 0 : 10) + (isRoot ? 0 : 1) + (key.primary ? 0 : 1),
          });
        }
      }
    }
    const best = candidates.sort((a, b) => a.rank - b.rank)[0];
    return best === undefined ? null : { rule: best.rule, certainty: best.certainty, because: best.because };
  }

  #contained(
    table: Table,
    columns: readonly string[],
    parentName: string,
    parentKey: readonly string[],
  ): Promise<Containment | null> {
    const parent = this.#options.schema.get(parentName);
    if (parent === undefined) return Promise.resolve(null);
    const name = JSON.stringify([table.name, columns, parentName, parentKey]);
    const known = this.#measured.get(name);
    if (known !== undefined) return known;
    const measuring = this.#options.measure.containment(table, columns, parent, parentKey);
    this.#measured.set(name, measuring);
    return measuring;
  }
}

const INTEGERS = new Set(["smallint", "integer", "bigint", "numeric"]);
const TEXTS = new Set(["text", "character varying", "character", "citext", "name"]);

function comparable(type: string, other: string | undefined): boolean {
  if (other === undefined) return false;
  // An extension's type is wherever it was installed.
  const [a, b] = [type, other].map((name) => name.replace(/^.*\./, "")) as [string, string];
  return a === b || (INTEGERS.has(a) && INTEGERS.has(b)) || (TEXTS.has(a) && TEXTS.has(b));
}
