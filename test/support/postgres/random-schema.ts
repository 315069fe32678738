/** Schemas that nobody designed: tables, keys, types and paths to the organization drawn from a seed, with rows and writers. */
import type { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";
import { Ownership } from "../../../protocol/ownership.ts";

type KeyType = "int" | "bigint" | "uuid" | "text";
const KEY_TYPES: readonly KeyType[] = ["int", "bigint", "uuid", "text"];

/** SQL for the value of a key with that number; numbers of different rows give different keys. */
const keyValue: Readonly<Record<KeyType, (n: string) => string>> = {
  int: (n) => `(${n})::int`,
  bigint: (n) => `(5000000000 + ${n})::bigint`,
  uuid: (n) => `md5('k' || (${n}))::uuid`,
  text: (n) => `('k"''\\ü ' || (${n}))`,
};

/** Types with SQL for a value that depends on a number; some of them NULL now and then. */
const COLUMNS: readonly (readonly [type: string, value: (n: string) => string])[] = [
  ["int", (n) => `(${n}) % 1000`],
  ["boolean", (n) => `(${n}) % 2 = 0`],
  ["numeric(20, 5)", (n) => `(${n}) / 7.0`],
  ["float8", (n) => `sqrt(abs(${n}))`],
  ["text", (n) => `repeat('wörd\\ "' || (${n}) || E'\\n\\t', (${n})::int % 400)`],
  ["timestamptz", (n) => `'2024-03-31 01:59:59.123456+02'::timestamptz + (${n}) * interval '1 hour'`],
  ["date", (n) => `'2024-02-28'::date + (${n})::int % 4000`],
  ["interval", (n) => `make_interval(days => (${n})::int % 40, secs => (${n}) / 3.0)`],
  ["jsonb", (n) => `jsonb_build_object('n', ${n}, 'nested', jsonb_build_array(NULL, '"', ${n}))`],
  ["bytea", (n) => `decode(repeat(md5((${n})::text), (${n})::int % 90), 'hex')`],
  ["text[]", (n) => `ARRAY['a,b', NULL, '{' || (${n}) || '}']`],
  ["int4range", (n) => `int4range((${n})::int % 100, NULL)`],
  ["inet", (n) => `'192.0.2.0'::inet + (${n})::int % 255`],
  ["mood", (n) => `(enum_range(NULL::mood))[1 + (${n})::int % 3]`],
  ["positive", (n) => `1 + abs(${n})`],
];

interface RandomTable {
  readonly name: string;
  readonly quoted: string;
  readonly key: readonly { readonly name: string; readonly type: KeyType }[];
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly value: (n: string) => string;
  }[];
  readonly rule: Rule;
}
type Rule =
  | { readonly kind: "direct" }
  | { readonly kind: "parent"; readonly parent: RandomTable }
  | { readonly kind: "polymorphic"; readonly parents: readonly RandomTable[] };

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

export class RandomSchema {
  readonly #random: SeededRandom;
  readonly #keyType: KeyType;
  readonly #tables: RandomTable[] = [];
  #numbers = 0;

  constructor(random: SeededRandom) {
    this.#random = random;
    this.#keyType = random.pick(KEY_TYPES);
    const count = 4 + random.below(6);
    for (let at = 0; at < count; at++) this.#tables.push(this.#table(at));
  }

  #table(at: number): RandomTable {
    const random = this.#random;
    const name = random.pick([`t${at}`, `Tá ble ${at}`, `q"${at}`, `order_${at}`]);
    const key =
      random.below(4) === 0
        ? [
            { name: "part", type: random.pick(KEY_TYPES) },
            { name: "Nr", type: random.pick(KEY_TYPES) },
          ]
        : [{ name: random.pick(["id", "Id", "key"]), type: random.pick(KEY_TYPES) }];
    const columns = Array.from({ length: 1 + random.below(5) }, (_, index) => {
      const [type, value] = random.pick(COLUMNS);
      return { name: random.pick([`c${index}`, `cólumn ${index}`, `C${index}`]), type, value };
    });
    return { name, quoted: `public.${quote(name)}`, key, columns, rule: this.#rule() };
  }

  #rule(): Rule {
    const random = this.#random;
    const parents = this.#tables;
    if (parents.length === 0 || random.below(3) === 0) return { kind: "direct" };
    const first = random.pick(parents);
    const single = parents.filter(
      ({ key }) =>
        key.length === 1 &&
        first.key.length === 1 &&
        key[0]?.type === first.key[0]?.type &&
        key[0]?.name === first.key[0]?.name,
    );
    if (single.length > 0 && random.below(3) === 0) return { kind: "polymorphic", parents: single };
    return { kind: "parent", parent: first };
  }

  /** SQL that gives the root's key of an organization, as the plan names it. */
  organizationSql(n: number): string {
    return `SELECT (${keyValue[this.#keyType](String(n))})::text AS id`;
  }

  get ddl(): string {
    const statements = [
      "CREATE TYPE mood AS ENUM ('fine', 'so \"so\"', 'ü')",
      "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)",
      `CREATE TABLE public.orgs (id ${this.#keyType} PRIMARY KEY, name text)`,
    ];
    for (const { quoted, key, columns, rule } of this.#tables) {
      const parts = [
        ...key.map(({ name, type }) => `${quote(name)} ${type} NOT NULL`),
        ...columns.map(({ name, type }) => `${quote(name)} ${type}`),
        ...referenceColumns(rule, this.#keyType),
        `PRIMARY KEY (${key.map(({ name }) => quote(name)).join(", ")})`,
        ...constraints(rule, this.#random),
      ];
      statements.push(`CREATE TABLE ${quoted} (${parts.join(", ")})`);
    }
    return `${statements.join(";\n")};`;
  }

  get ownership(): Ownership {
    const rule = ({ rule: one }: RandomTable) => {
      if (one.kind === "direct") return { organization: "org_ref" };
      if (one.kind === "parent")
        return {
          parent: `public.${one.parent.name}`,
          column: one.parent.key.map((_, at) => `ref_${at}`),
          parentKey: one.parent.key.map(({ name }) => name),
        };
      return {
        typeColumn: "ref_type",
        idColumn: "ref_0",
        parents: Object.fromEntries(one.parents.map((parent, at) => [`kind ${at}`, `public.${parent.name}`])),
        parentKey: one.parents[0]?.key[0]?.name ?? "id",
      };
    };
    return Ownership.parse({
      version: 1,
      root: { table: "public.orgs", key: "id" },
      tables: Object.fromEntries(this.#tables.map((table) => [`public.${table.name}`, rule(table)])),
    });
  }

  /** Organizations and rows of them, spread at random. */
  data(organizations: readonly number[], rowsPerTable: number): string[] {
    const roots = organizations.map((n) => `(${keyValue[this.#keyType](String(n))}, 'org ' || ${n})`);
    const statements = [`INSERT INTO public.orgs VALUES ${roots.join(", ")}`];
    for (const table of this.#tables) {
      const from = this.#numbers;
      this.#numbers += rowsPerTable;
      statements.push(this.#insert(table, `generate_series(${from + 1}, ${from + rowsPerTable}) AS n`));
    }
    return statements;
  }

  /** One statement that a writer could make: nothing changes its organization. */
  statement(): string {
    const random = this.#random;
    const table = random.pick(this.#tables);
    const some = `(${table.key.map(({ name }) => quote(name)).join(", ")}) IN (SELECT ${table.key.map(({ name }) => quote(name)).join(", ")} FROM ${table.quoted} ORDER BY random() LIMIT ${1 + random.below(3)})`;
    const what = random.below(10);
    if (what < 4) {
      const count = 1 + random.below(3);
      this.#numbers += count;
      return this.#insert(table, `generate_series(${this.#numbers - count + 1}, ${this.#numbers}) AS n`);
    }
    if (what < 8) {
      const column = random.pick(table.columns);
      const value = random.below(5) === 0 ? "NULL" : column.value(String(random.below(100_000)));
      return `UPDATE ${table.quoted} SET ${quote(column.name)} = ${value} WHERE ${some}`;
    }
    if (this.#isParent(table))
      return `UPDATE ${table.quoted} SET ${quote((table.columns[0] as { name: string }).name)} = NULL WHERE ${some}`;
    if (what === 8) {
      const [last] = table.key.slice(-1) as [{ name: string; type: KeyType }];
      this.#numbers += 1;
      return `UPDATE ${table.quoted} SET ${quote(last.name)} = ${keyValue[last.type](String(this.#numbers))} WHERE ctid = (SELECT ctid FROM ${table.quoted} ORDER BY random() LIMIT 1)`;
    }
    return `DELETE FROM ${table.quoted} WHERE ${some}`;
  }

  #isParent(table: RandomTable): boolean {
    return this.#tables.some(
      ({ rule }) =>
        (rule.kind === "parent" && rule.parent === table) ||
        (rule.kind === "polymorphic" && rule.parents.includes(table)),
    );
  }

  #insert(table: RandomTable, numbers: string): string {
    const names = [...table.key.map(({ name }) => name), ...table.columns.map(({ name }) => name)].map(quote);
    const values = [
      ...table.key.map(({ type }) => keyValue[type]("n")),
      ...table.columns.map(({ value }) => value("n")),
    ];
    const { rule } = table;
    // `n` in the subquery makes it one draw for each row.
    const draw = (columns: string, from: string) =>
      `CROSS JOIN LATERAL (SELECT ${columns} FROM ${from} WHERE n IS NOT NULL ORDER BY random() LIMIT 1) AS drawn`;
    if (rule.kind === "direct")
      return `INSERT INTO ${table.quoted} (${names.join(", ")}, org_ref) SELECT ${values.join(", ")}, drawn.id FROM ${numbers} ${draw("id", "public.orgs")}`;
    const parent = rule.kind === "parent" ? rule.parent : this.#random.pick(rule.parents);
    const refs = parent.key.map((_, at) => `ref_${at}`);
    const columns = parent.key.map(({ name }, at) => `${quote(name)} AS ref_${at}`).join(", ");
    const type = rule.kind === "polymorphic" ? [["ref_type", `'kind ${rule.parents.indexOf(parent)}'`]] : [];
    return `INSERT INTO ${table.quoted} (${[...names, ...refs, ...type.map(([name]) => name)].join(", ")})
      SELECT ${[...values, ...refs.map((ref) => `drawn.${ref}`), ...type.map(([, value]) => value)].join(", ")} FROM ${numbers} ${draw(columns, parent.quoted)}`;
  }

  /** Per table: a query for its rows as text, of one organization or of all others. */
  contents(organization: number, which: "its" | "others"): string[] {
    const id = `(${keyValue[this.#keyType](String(organization))})::text`;
    const condition = (owner: string) =>
      which === "its" ? `${owner} = ${id}` : `${owner} IS DISTINCT FROM ${id}`;
    return [
      `SELECT o::text AS row FROM public.orgs o WHERE ${condition("o.id::text")} ORDER BY 1`,
      ...this.#tables.map(
        (table) =>
          `SELECT x::text AS row FROM ${table.quoted} x WHERE ${condition(owner(table, "x", 0))} ORDER BY 1`,
      ),
    ];
  }
}

function referenceColumns(rule: Rule, root: KeyType): string[] {
  if (rule.kind === "direct") return [`org_ref ${root} NOT NULL`];
  const parent = rule.kind === "parent" ? rule.parent : (rule.parents[0] as RandomTable);
  const refs = parent.key.map(({ type }, at) => `ref_${at} ${type} NOT NULL`);
  return rule.kind === "polymorphic" ? [...refs, "ref_type text NOT NULL"] : refs;
}

/** Now and then without a constraint: the rules alone say where a row belongs. */
function constraints(rule: Rule, random: SeededRandom): string[] {
  if (rule.kind === "polymorphic" || random.below(3) === 0) return [];
  if (rule.kind === "direct") return ["FOREIGN KEY (org_ref) REFERENCES public.orgs ON DELETE CASCADE"];
  const { parent } = rule;
  return [
    `FOREIGN KEY (${parent.key.map((_, at) => `ref_${at}`).join(", ")}) REFERENCES ${parent.quoted} ON DELETE CASCADE ON UPDATE CASCADE`,
  ];
}

/** Whose a row is, said without the product's own words. */
function owner(table: RandomTable, row: string, depth: number): string {
  const { rule } = table;
  if (rule.kind === "direct") return `${row}.org_ref::text`;
  const alias = `p${depth}`;
  const above = (parent: RandomTable) =>
    `(SELECT ${owner(parent, alias, depth + 1)} FROM ${parent.quoted} ${alias} WHERE ${parent.key
      .map(({ name }, at) => `${alias}.${quote(name)} = ${row}.ref_${at}`)
      .join(" AND ")})`;
  if (rule.kind === "parent") return above(rule.parent);
  return `CASE ${rule.parents.map((parent, at) => `WHEN ${row}.ref_type = 'kind ${at}' THEN ${above(parent)}`).join(" ")} END`;
}
