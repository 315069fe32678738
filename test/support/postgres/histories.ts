/** Histories that nobody wrote: a schema with rows, and what an application and its deployments then do to it, by a seed. */
import { SeededRandom } from "../../../examples/quickstart/traffic/random.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { type Model, oneStep } from "./history-steps.ts";

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

/** Which organization moves. */
export const MOVED = 2;
const RESIDENT = 90;
/** Rows of these are on the source, in turn. */
export const ORGANIZATIONS = [1, MOVED, 3] as const;

export class History {
  readonly seed: number;
  readonly steps: readonly Step[];
  /** Committed while the fence waits for it; null for none. */
  readonly last: Step | null;
  readonly #keyType: KeyType;

  /** `excluded` kinds are left out, and others drawn instead. */
  constructor(seed: number, excluded: ReadonlySet<string> = new Set()) {
    this.seed = seed;
    const random = new SeededRandom(seed);
    this.#keyType = random.pick(KEY_TYPES);
    const model: Model = {
      random,
      organization: (n) => {
        const spellings = SPELLINGS[this.#keyType](n);
        return `'${random.below(3) === 0 ? random.pick(spellings) : spellings[0]}'`;
      },
      rows: 1_000,
      names: 0,
      columns: new Map([
        ["projects", [{ name: "name", type: "text" }]],
        [
          "issues",
          [
            { name: "title", type: "text" },
            { name: "weight", type: "int" },
          ],
        ],
        ["notes", [{ name: "body", type: "text" }]],
        ["notes_new", [{ name: "body", type: "text" }]],
        ["settings", [{ name: "value", type: "text" }]],
        ["events", [{ name: "body", type: "text" }]],
      ]),
      indexes: [],
      partitions: new Map([
        [1, "events_1"],
        [2, "events_2"],
      ]),
      parts: 2,
    };
    const draw = (): Step => {
      for (;;) {
        const step = oneStep(model, excluded);
        if (step !== null) return step;
      }
    };
    this.steps = Array.from({ length: 2 + random.below(9) }, draw);
    const last = random.below(2) === 0 ? draw() : null;
    this.last = last?.alone === false ? last : null;
  }

  /** The organization that moves, as a plan names it. */
  get organization(): string {
    return SPELLINGS[this.#keyType](MOVED)[0] as string;
  }

  get ddl(): string {
    const key = this.#keyType;
    return `
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, colour text);
CREATE TABLE orgs (id ${key} PRIMARY KEY, name text);
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

  get ownership(): Ownership {
    const ofProject = { parent: "public.projects", column: "project_id" };
    return Ownership.parse({
      version: 1,
      root: { table: "public.orgs" },
      tables: {
        "public.users": { clusterWide: true },
        "public.projects": { organization: "org_id" },
        "public.issues": ofProject,
        "public.settings": ofProject,
        "public.events": ofProject,
        "public.notes": { organization: "org" },
        "public.notes_new": { organization: "org" },
      },
    });
  }

  /** Projects 1 to 9 are of the organizations in turn. */
  get data(): string {
    const key = (n: number) => `'${SPELLINGS[this.#keyType](n)[0]}'`;
    const ofRow = (n: string) =>
      `(ARRAY[${ORGANIZATIONS.map(key).join(", ")}])[1 + ${n} % 3]::${this.#keyType}`;
    return `
INSERT INTO users SELECT g, 'user ' || g, 'red' FROM generate_series(1, 40) g;
INSERT INTO orgs VALUES ${ORGANIZATIONS.map((n) => `(${key(n)}, 'org ${n}')`).join(", ")};
INSERT INTO projects SELECT g, ${ofRow("g")}, 'project ' || g FROM generate_series(1, 9) g;
INSERT INTO issues SELECT g, 1 + g % 9, 1 + g % 20, 1 + g % 30, 'Issue ' || g, g % 7 FROM generate_series(1, 150) g;
INSERT INTO notes SELECT g, ${ofRow("g")}, 'Note ' || g FROM generate_series(1, 90) g;
INSERT INTO notes_new SELECT g, ${ofRow("g")}, 'new ' || g FROM generate_series(1, 60) g;
INSERT INTO settings SELECT 1 + g % 9, 's' || g, 'Value ' || g FROM generate_series(1, 60) g;
INSERT INTO events SELECT g, 1 + g % 2, 1 + g % 9, 'Event ' || g FROM generate_series(1, 120) g;`;
  }

  /** Who lives on the target: nothing of it may change. */
  get residents(): string {
    const key = `'${SPELLINGS[this.#keyType](RESIDENT)[0]}'`;
    const base = 90_000_000;
    return `
INSERT INTO orgs VALUES (${key}, 'resident');
INSERT INTO projects SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 3) g;
INSERT INTO issues (id, project_id, title) SELECT ${base} + g, ${base} + 1 + g % 3, 'resident' FROM generate_series(1, 30) g;
INSERT INTO notes SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 30) g;
INSERT INTO notes_new SELECT ${base} + g, ${key}, 'resident' FROM generate_series(1, 30) g;
INSERT INTO settings SELECT ${base} + 1, 's' || g, 'resident' FROM generate_series(1, 5) g;
INSERT INTO events SELECT ${base} + g, 1 + g % 2, ${base} + 1 + g % 3, 'resident' FROM generate_series(1, 30) g;`;
  }

  /** Per table: a condition on its rows `t`, in words of the test's own. Tables that are gone are no part of it. */
  conditions(whose: "its" | "the residents'"): ReadonlyMap<string, string> {
    const key = `'${SPELLINGS[this.#keyType](whose === "its" ? MOVED : RESIDENT)[0]}'`;
    const ofProject = `EXISTS (SELECT FROM projects p WHERE p.id = t.project_id AND p.org_id = ${key})`;
    return new Map([
      ["orgs", `t.id = ${key}`],
      ["projects", `t.org_id = ${key}`],
      ["issues", ofProject],
      ["settings", ofProject],
      ["events", ofProject],
      ["notes", `t.org = ${key}`],
      ["notes_new", `t.org = ${key}`],
    ]);
  }

  describe(): string {
    const line = ({ kind, sql }: Step) => `  ${kind}: ${sql.join("; ")}`;
    return [
      `seed ${this.seed}, keys of ${this.#keyType}`,
      ...this.steps.map(line),
      ...(this.last === null ? [] : [`  in the last moment${line(this.last)}`]),
    ].join("\n");
  }
}
