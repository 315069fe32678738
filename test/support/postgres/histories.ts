/**
 * Histories that nobody wrote: schemas with rows, and what an application and its deployments then do to them, by a seed.
 * One move carries several worlds, each a schema of its own, and each lives through one history after the other.
 */
import { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { type Model, oneStep, type Step } from "./history-steps.ts";

type KeyType = "bigint" | "uuid" | "text" | "char(12)" | "varchar";
const KEY_TYPES: readonly KeyType[] = ["bigint", "uuid", "text", "char(12)", "varchar"];

const SPELLINGS: Readonly<Record<KeyType, (n: number) => readonly string[]>> = {
  bigint: (n) => [String(n), `00${n}`],
  uuid: (n) => {
    const text = `a0eebc99-9c0b-4ef8-bb6d-${String(n).padStart(12, "0")}`;
    return [text, text.toUpperCase(), `{${text}}`, text.replaceAll("-", "")];
  },
  text: (n) => [`Org ü ${n}`],
  "char(12)": (n) => [`org ${n}`, `org ${n}   `],
  varchar: (n) => [`org-${n}`],
};

/** Which organization moves. */
const MOVED = 2;
/** Who lives on the target. */
const RESIDENT = 90;
/** Rows of these are on the source, in turn. */
const ORGANIZATIONS = [1, MOVED, 3] as const;
/** Names of schemas, of which one in two has to be quoted. */
const SCHEMAS = [
  "first",
  'quo"te',
  "third",
  "select",
  "fifth",
  "Ünï côdé",
  "seventh",
  `${"x".repeat(60)}'y'`,
];

export interface History {
  readonly steps: readonly Step[];
  /** Committed while the fence waits for it; null for none. */
  readonly last: Step | null;
}

export const kindsOf = ({ steps, last }: History): string[] =>
  [...steps, ...(last === null ? [] : [last])].map(({ kind }) => kind);

export const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** What one move carries. */
export class Worlds {
  readonly seed: number;
  readonly all: readonly World[];
  readonly #keyType: KeyType;

  /** `excluded` kinds of steps are left out, and others drawn instead. */
  constructor(seed: number, count: number, excluded: ReadonlySet<string> = new Set()) {
    this.seed = seed;
    const random = new SeededRandom(seed);
    this.#keyType = random.pick(KEY_TYPES);
    this.all = SCHEMAS.slice(0, count).map((schema) => {
      const own = random.fork();
      return new World(schema, this.#keyType, own, excluded);
    });
  }

  /** The organization that moves, as a plan names it. */
  get organization(): string {
    return SPELLINGS[this.#keyType](MOVED)[0] as string;
  }

  get ddl(): string {
    const root = `CREATE TABLE public.orgs (id ${this.#keyType} PRIMARY KEY, name text);`;
    return [root, ...this.all.map(({ ddl }) => ddl)].join("\n");
  }

  get data(): string {
    const rows = ORGANIZATIONS.map((n) => `(${keyOf(this.#keyType, n)}, 'org ${n}')`);
    const orgs = `INSERT INTO public.orgs VALUES ${rows.join(", ")};`;
    return [orgs, ...this.all.map(({ data }) => data)].join("\n");
  }

  /** Of who lives on the target: nothing of it may change. */
  get residents(): string {
    const org = `INSERT INTO public.orgs VALUES (${keyOf(this.#keyType, RESIDENT)}, 'resident');`;
    return [org, ...this.all.map(({ residents }) => residents)].join("\n");
  }

  get ownership(): Ownership {
    return Ownership.parse({
      version: 1,
      root: { table: "public.orgs" },
      tables: Object.assign({}, ...this.all.map(({ rules }) => rules)),
    });
  }
}

const keyOf = (type: KeyType, n: number) => `'${SPELLINGS[type](n)[0]}'`;

export class World {
  readonly schema: string;
  /** To be set by whoever runs anything in it. */
  readonly path: string;
  readonly random: SeededRandom;
  readonly #keyType: KeyType;
  readonly #model: Model;
  readonly #excluded: ReadonlySet<string>;

  constructor(schema: string, keyType: KeyType, random: SeededRandom, excluded: ReadonlySet<string>) {
    this.schema = schema;
    this.path = `SET search_path = ${quoted(schema)}, public;`;
    this.random = random;
    this.#keyType = keyType;
    this.#excluded = excluded;
    const text = (name: string) => ({ name, type: "text" });
    this.#model = {
      random,
      organization: (n) => {
        const spellings = SPELLINGS[keyType](n);
        return `'${random.below(3) === 0 ? random.pick(spellings) : spellings[0]}'`;
      },
      rows: 1_000,
      names: 0,
      columns: new Map([
        ["projects", [text("name")]],
        ["issues", [text("title"), { name: "weight", type: "int" }]],
        ["notes", [text("body")]],
        ["notes_new", [text("body")]],
        ["settings", [text("value")]],
        ["events", [text("body")]],
      ]),
      indexes: [],
      partitions: new Map([
        [1, "events_1"],
        [2, "events_2"],
      ]),
      parts: 2,
    };
  }

  /** What comes next; the one before has to be over. In the last moment nothing is `excluded` that is to wait for no fence. */
  next(excludedAtLast: ReadonlySet<string>): History {
    const steps = Array.from({ length: 2 + this.random.below(9) }, () => this.#draw(this.#excluded));
    const last = this.random.below(2) === 0 ? null : this.#draw(excludedAtLast);
    return { steps, last: last?.alone === false ? last : null };
  }

  #draw(excluded: ReadonlySet<string>): Step {
    for (;;) {
      const step = oneStep(this.#model, new Set([...this.#excluded, ...excluded]));
      if (step !== null) return step;
    }
  }

  get ddl(): string {
    const key = this.#keyType;
    return `
CREATE SCHEMA ${quoted(this.schema)};
${this.path}
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, colour text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id ${key} NOT NULL REFERENCES orgs, name text);
CREATE TABLE issues (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES projects, author_id bigint REFERENCES users,
  assigned_user_id bigint, title text, weight int);
CREATE TABLE notes (id bigint PRIMARY KEY, org ${key} NOT NULL, body text);
CREATE TABLE notes_new (id bigint PRIMARY KEY, org ${key} NOT NULL, body text);
CREATE TABLE settings (project_id bigint, name text, value text, PRIMARY KEY (project_id, name));
CREATE TABLE events (id bigint, part int, project_id bigint NOT NULL, body text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);`;
  }

  get rules(): object {
    const ofProject = { parent: `${this.schema}.projects`, column: "project_id" };
    return {
      [`${this.schema}.users`]: { clusterWide: true },
      [`${this.schema}.projects`]: { organization: "org_id" },
      [`${this.schema}.issues`]: ofProject,
      [`${this.schema}.settings`]: ofProject,
      [`${this.schema}.events`]: ofProject,
      [`${this.schema}.notes`]: { organization: "org" },
      [`${this.schema}.notes_new`]: { organization: "org" },
    };
  }

  /** Projects 1 to 9 are of the organizations in turn. */
  get data(): string {
    const keys = ORGANIZATIONS.map((n) => keyOf(this.#keyType, n));
    const ofRow = (n: string) => `(ARRAY[${keys.join(", ")}])[1 + ${n} % 3]::${this.#keyType}`;
    return `
${this.path}
INSERT INTO users SELECT g, 'user ' || g, 'red' FROM generate_series(1, 40) g;
INSERT INTO projects SELECT g, ${ofRow("g")}, 'project ' || g FROM generate_series(1, 9) g;
INSERT INTO issues SELECT g, 1 + g % 9, 1 + g % 20, 1 + g % 30, 'Issue ' || g, g % 7 FROM generate_series(1, 150) g;
INSERT INTO notes SELECT g, ${ofRow("g")}, 'Note ' || g FROM generate_series(1, 90) g;
INSERT INTO notes_new SELECT g, ${ofRow("g")}, 'new ' || g FROM generate_series(1, 60) g;
INSERT INTO settings SELECT 1 + g % 9, 's' || g, 'Value ' || g FROM generate_series(1, 60) g;
INSERT INTO events SELECT g, 1 + g % 2, 1 + g % 9, 'Event ' || g FROM generate_series(1, 120) g;`;
  }

  get residents(): string {
    const key = keyOf(this.#keyType, RESIDENT);
    const base = 90_000_000;
    return `
${this.path}
INSERT INTO projects SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 3) g;
INSERT INTO issues (id, project_id, title) SELECT ${base} + g, ${base} + 1 + g % 3, 'resident' FROM generate_series(1, 30) g;
INSERT INTO notes SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 30) g;
INSERT INTO notes_new SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 30) g;
INSERT INTO settings SELECT ${base} + 1, 's' || g, 'resident' FROM generate_series(1, 5) g;
INSERT INTO events SELECT ${base} + g, 1 + g % 2, ${base} + 1 + g % 3, 'resident' FROM generate_series(1, 30) g;`;
  }

  /** SQL for all rows of an organization, table by table, with the users whom its issues refer to, in the test's own words. */
  contents(whose: "its" | "the residents'"): string {
    const key = keyOf(this.#keyType, whose === "its" ? MOVED : RESIDENT);
    const ofProject = `EXISTS (SELECT FROM projects p WHERE p.id = t.project_id AND p.org_id = ${key})`;
    const conditions = {
      orgs: `t.id = ${key}`,
      projects: `t.org_id = ${key}`,
      issues: ofProject,
      settings: ofProject,
      events: ofProject,
      notes: `t.org = ${key}`,
      notes_new: `t.org = ${key}`,
    };
    const tables = Object.entries(conditions).map(
      ([table, condition]) => `SELECT '${table}' AS what, count(*)::int AS n,
         md5(string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text COLLATE "C")) AS rows,
         (SELECT string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attname COLLATE "C") FROM pg_attribute
           WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped) AS columns
       FROM ${table} t WHERE ${condition}`,
    );
    const users = `SELECT 'users' AS what, count(*)::int, string_agg(DISTINCT u.id || ' ' || u.name, ', '), '' AS columns
      FROM issues t JOIN users u ON u.id IN (t.author_id, t.assigned_user_id) WHERE ${ofProject}`;
    return [...tables, users].join("\nUNION ALL ");
  }

  describe({ steps, last }: History): string {
    const line = ({ kind, sql }: Step) => `  ${kind}: ${sql.join("; ")}`;
    return [
      `in ${this.schema}, keys of ${this.#keyType}`,
      ...steps.map(line),
      ...(last === null ? [] : [`  in the last moment${line(last)}`]),
    ].join("\n");
  }
}
