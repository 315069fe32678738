/** The grammar of histories: each production draws one step and says what the schema is afterwards. */
import type { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";

/** One transaction of the application, or one deployment. */
export interface Step {
  /** What it does, in a word: a kind may be excluded by it. */
  readonly kind: string;
  readonly sql: readonly string[];
  /** What the operator runs on the target for it; nothing for what the stream carries. */
  readonly operator: readonly string[];
  /** Each statement by itself, for it refuses to be in a transaction. */
  readonly alone: boolean;
}

export interface Model {
  readonly random: SeededRandom;
  /** An organization's key as SQL, written in one of the ways in which it can be. */
  readonly organization: (n: number) => string;
  /** Numbers of rows and of names that were given out. */
  rows: number;
  names: number;
  /** Columns that no rule and no key needs. */
  readonly columns: Map<string, { name: string; type: string }[]>;
  readonly indexes: string[];
  /** Of `events`: by the value of `part`. */
  readonly partitions: Map<number, string>;
  parts: number;
}

const VALUES: Readonly<Record<string, (n: string) => string>> = {
  text: (n) => `repeat(md5((${n})::text), 1 + (${n})::int % 40)`,
  int: (n) => `((${n}) % 10000)::int`,
  bigint: (n) => `(${n})::bigint * 100000`,
  numeric: (n) => `(${n}) / 7.0`,
  boolean: (n) => `(${n}) % 2 = 0`,
  jsonb: (n) => `jsonb_build_object('n', ${n})`,
  timestamptz: (n) => `'2024-03-31 01:59:59+02'::timestamptz + (${n}) * interval '1 hour'`,
};
const TYPES = Object.keys(VALUES);
const TABLES = ["projects", "issues", "notes", "notes_new", "settings", "events"] as const;
type TableName = (typeof TABLES)[number];

type Production = (model: Model) => Omit<Step, "kind"> | null;

const dml = (...sql: string[]) => ({ sql, operator: [], alone: false });
const ddl = (...sql: string[]) => ({ sql, operator: sql, alone: false });

/** Some rows of a table, by their keys. */
function some({ random }: Model, table: TableName): string {
  const by = table === "settings" ? "abs(hashtext(name))" : "id";
  return `${by} % ${2 + random.below(6)} = ${random.below(3)}`;
}

function insert(model: Model, table: TableName): string {
  const { random } = model;
  const count = 1 + random.below(5);
  const from = model.rows + 1;
  model.rows += count;
  const numbers = `generate_series(${from}, ${model.rows}) g`;
  const [column] = model.columns.get(table) ?? [];
  const further = column === undefined ? "" : `, ${column.name}`;
  const value = column === undefined ? "" : `, ${VALUES[column.type]?.("g")}`;
  const organization = () => model.organization(1 + random.below(3));
  switch (table) {
    case "projects":
      return `INSERT INTO projects (id, org_id${further}) SELECT g, ${organization()}${value} FROM ${numbers}`;
    case "issues":
      return `INSERT INTO issues (id, project_id, author_id${further}) SELECT g, 1 + g % 9, 1 + g % 40${value} FROM ${numbers}`;
    case "notes":
    case "notes_new":
      return `INSERT INTO ${table} (id, org${further}) SELECT g, ${organization()}${value} FROM ${numbers}`;
    case "settings":
      return `INSERT INTO settings (project_id, name${further}) SELECT 1 + g % 9, 'n' || g${value} FROM ${numbers}`;
    case "events": {
      const part = random.pick([...model.partitions.keys()]);
      return `INSERT INTO events (id, part, project_id${further}) SELECT g, ${part}, 1 + g % 9${value} FROM ${numbers}`;
    }
  }
}

function update(model: Model, table: TableName): string | null {
  const columns = model.columns.get(table) ?? [];
  if (columns.length === 0) return null;
  const { name, type } = model.random.pick(columns);
  const value = model.random.below(6) === 0 ? "NULL" : VALUES[type]?.(String(1 + model.random.below(1_000)));
  return `UPDATE ${table} SET ${name} = ${value} WHERE ${some(model, table)}`;
}

const one = (statement: string | null) => (statement === null ? null : dml(statement));
const freshName = (model: Model, prefix: string) => `${prefix}_${++model.names}`;

/** A column of some table that a deployment may alter; null where there is none. */
function someColumn(model: Model) {
  const table = model.random.pick(TABLES);
  const columns = model.columns.get(table) ?? [];
  return columns.length === 0 ? null : { table, columns, column: model.random.pick(columns) };
}

function addColumn(model: Model, suffix: (type: string) => string) {
  const table = model.random.pick(TABLES);
  const type = model.random.pick(TYPES);
  const name = freshName(model, "extra");
  model.columns.get(table)?.push({ name, type });
  return ddl(`ALTER TABLE ${table} ADD COLUMN ${name} ${type}${suffix(type)}`);
}

function index(model: Model, alone: boolean) {
  const table = model.random.pick(alone ? TABLES.filter((name) => name !== "events") : TABLES);
  const [column] = model.columns.get(table) ?? [];
  if (column === undefined || column.type === "jsonb") return null;
  const name = freshName(model, "index");
  model.indexes.push(name);
  return {
    ...ddl(`CREATE INDEX ${alone ? "CONCURRENTLY " : ""}${name} ON ${table} (${column.name})`),
    alone,
  };
}

function dropIndex(model: Model, alone: boolean) {
  const name = model.indexes.pop();
  return name === undefined
    ? null
    : { ...ddl(`DROP INDEX ${alone ? "CONCURRENTLY IF EXISTS" : "IF EXISTS"} ${name}`), alone };
}

function newPart(model: Model) {
  model.parts += 1;
  const name = `events_${model.parts}`;
  model.partitions.set(model.parts, name);
  return { part: model.parts, name };
}

function attach(model: Model) {
  const { part, name } = newPart(model);
  const from = model.rows + 1;
  model.rows += 20;
  const make = `CREATE TABLE ${name} (LIKE events INCLUDING ALL)`;
  const join = `ALTER TABLE events ATTACH PARTITION ${name} FOR VALUES IN (${part})`;
  const fill = `INSERT INTO ${name} (id, part, project_id) SELECT g, ${part}, 1 + g % 9 FROM generate_series(${from}, ${model.rows}) g`;
  return { sql: [make, fill, join], operator: [make, join], alone: false };
}

/** A partition that is taken out; one is always left. */
function takePart(model: Model): string | null {
  if (model.partitions.size < 2) return null;
  const part = model.random.pick([...model.partitions.keys()]);
  const name = model.partitions.get(part) as string;
  model.partitions.delete(part);
  return name;
}

const GRAMMAR: Readonly<Record<string, { readonly weight: number; readonly draw: Production }>> = {
  insert: { weight: 10, draw: (m) => dml(insert(m, m.random.pick(TABLES))) },
  update: { weight: 10, draw: (m) => one(update(m, m.random.pick(TABLES))) },
  delete: {
    weight: 5,
    draw: (m) => {
      const table = m.random.pick(["issues", "notes", "notes_new", "settings", "events"] as const);
      return dml(`DELETE FROM ${table} WHERE ${some(m, table)}`);
    },
  },
  several: {
    weight: 5,
    draw: (m) => {
      const table = m.random.pick(TABLES);
      return dml(insert(m, table), ...[update(m, table), update(m, table)].filter((sql) => sql !== null));
    },
  },
  "key change": {
    weight: 4,
    draw: (m) => {
      const table = m.random.pick(["issues", "notes", "notes_new", "events"] as const);
      m.rows += 1;
      return dml(`UPDATE ${table} SET id = id + ${m.rows * 100_000} WHERE ${some(m, table)}`);
    },
  },
  "shared reference": {
    weight: 5,
    draw: (m) => {
      const user = 1_000 + ++m.rows;
      const column = m.random.pick(["author_id", "assigned_user_id"]);
      return dml(
        `INSERT INTO users VALUES (${user}, 'user ${user}')`,
        m.random.below(2) === 0
          ? `INSERT INTO issues (id, project_id, ${column}) SELECT 500000 + ${user}, 1 + ${m.random.below(9)}, ${user}`
          : `UPDATE issues SET ${column} = ${user} WHERE ${some(m, "issues")}`,
      );
    },
  },
  truncate: {
    weight: 2,
    draw: (m) => dml(`TRUNCATE ${m.random.pick(["issues", "notes", "notes_new", "settings", "events"])}`),
  },
  "add column": { weight: 3, draw: (m) => addColumn(m, () => "") },
  "add column with default": {
    weight: 3,
    draw: (m) => addColumn(m, (type) => ` DEFAULT ${VALUES[type]?.("41")}`),
  },
  "rename column": {
    weight: 2,
    draw: (m) => {
      const found = someColumn(m);
      if (found === null) return null;
      const { table, column } = found;
      const before = column.name;
      column.name = freshName(m, "renamed");
      return ddl(`ALTER TABLE ${table} RENAME COLUMN ${before} TO ${column.name}`);
    },
  },
  "drop column": {
    weight: 2,
    draw: (m) => {
      const found = someColumn(m);
      if (found === null) return null;
      const { table, columns, column } = found;
      columns.splice(columns.indexOf(column), 1);
      return ddl(`ALTER TABLE ${table} DROP COLUMN ${column.name}`);
    },
  },
  "alter type": {
    weight: 2,
    draw: (m) => {
      const found = someColumn(m);
      if (found === null || found.column.type !== "int") return null;
      found.column.type = "bigint";
      return ddl(`ALTER TABLE ${found.table} ALTER COLUMN ${found.column.name} TYPE bigint`);
    },
  },
  rewrite: {
    weight: 2,
    draw: (m) => {
      const found = someColumn(m);
      if (found === null || found.column.type !== "text") return null;
      const { name } = found.column;
      return ddl(`ALTER TABLE ${found.table} ALTER COLUMN ${name} TYPE text USING upper(${name})`);
    },
  },
  "set default": {
    weight: 2,
    draw: (m) => {
      const found = someColumn(m);
      if (found === null) return null;
      const { name, type } = found.column;
      return ddl(`ALTER TABLE ${found.table} ALTER COLUMN ${name} SET DEFAULT ${VALUES[type]?.("43")}`);
    },
  },
  "create index": { weight: 2, draw: (m) => index(m, false) },
  "create index concurrently": { weight: 2, draw: (m) => index(m, true) },
  "drop index": { weight: 1, draw: (m) => dropIndex(m, false) },
  "drop index concurrently": { weight: 1, draw: (m) => dropIndex(m, true) },
  "create partition": {
    weight: 2,
    draw: (m) => {
      const { part, name } = newPart(m);
      return ddl(`CREATE TABLE ${name} PARTITION OF events FOR VALUES IN (${part})`);
    },
  },
  "attach partition": { weight: 3, draw: attach },
  "attach partition in steps": { weight: 1, draw: (m) => ({ ...attach(m), alone: true }) },
  "drop partition": {
    weight: 2,
    draw: (m) => {
      const name = takePart(m);
      return name === null ? null : ddl(`DROP TABLE ${name}`);
    },
  },
  "detach partition": {
    weight: 2,
    draw: (m) => {
      const name = takePart(m);
      return name === null ? null : ddl(`ALTER TABLE events DETACH PARTITION ${name}`, `DROP TABLE ${name}`);
    },
  },
  "detach partition concurrently": {
    weight: 1,
    draw: (m) => {
      const name = takePart(m);
      if (name === null) return null;
      return {
        ...ddl(`ALTER TABLE events DETACH PARTITION ${name} CONCURRENTLY`, `DROP TABLE ${name}`),
        alone: true,
      };
    },
  },
  "truncate partition": {
    weight: 2,
    draw: (m) => dml(`TRUNCATE ${m.random.pick([...m.partitions.values()])}`),
  },
  swap: {
    weight: 2,
    draw: (m) => {
      const [notes, other] = [m.columns.get("notes") ?? [], m.columns.get("notes_new") ?? []];
      m.columns.set("notes", other).set("notes_new", notes);
      return ddl(
        "ALTER TABLE notes RENAME TO notes_old",
        "ALTER TABLE notes_new RENAME TO notes",
        "ALTER TABLE notes_old RENAME TO notes_new",
      );
    },
  },
  "rebuild and swap": {
    weight: 1,
    draw: () => {
      const make = "CREATE TABLE notes_copy (LIKE notes INCLUDING ALL)";
      const swap = ["DROP TABLE notes", "ALTER TABLE notes_copy RENAME TO notes"];
      return ddl(
        make,
        "INSERT INTO notes_copy SELECT * FROM notes WHERE id % 5 <> 1 OR id > 90000000",
        ...swap,
      );
    },
  },
};

const ROW_KINDS = ["insert", "update", "delete", "several", "key change", "shared reference"];
/** Those after which tables are compared whole. */
export const SCHEMA_KINDS: ReadonlySet<string> = new Set(
  Object.keys(GRAMMAR).filter((kind) => !ROW_KINDS.includes(kind)),
);

/** The next step; null when what was drawn is not possible in this schema. */
export function oneStep(model: Model, excluded: ReadonlySet<string>): Step | null {
  const possible = Object.entries(GRAMMAR).filter(([kind]) => !excluded.has(kind));
  let at = model.random.below(possible.reduce((sum, [, { weight }]) => sum + weight, 0));
  for (const [kind, { weight, draw }] of possible) {
    at -= weight;
    if (at >= 0) continue;
    const step = draw(model);
    return step === null ? null : { kind, ...step };
  }
  return null;
}
