/** Defects in following changes of the schema, and rows of nobody alone. */
import type { StoreMutant } from "./store-mutant.ts";

const REPLICATION = "agent/stores/postgres/replication";
const MOVE = "agent/stores/postgres/move";
const schema = (name: string) => ({
  file: "test/agent/stores/postgres/move/schema-changes.test.ts",
  name,
});
const shapes = (name: string) => ({ file: "test/agent/stores/postgres/move/shapes.test.ts", name });
const references = (name: string) => ({
  file: "test/agent/stores/postgres/move/references.test.ts",
  name,
});

const back = (name: string) => ({
  file: "test/agent/stores/postgres/reverse/schema-changes.test.ts",
  name,
});
const names = (name: string) => ({ file: "test/agent/stores/postgres/fence/known-names.test.ts", name });
const application = (name: string) => ({
  file: "test/agent/stores/postgres/fence/application.test.ts",
  name,
});

export const SCHEMA_HUNTS: readonly StoreMutant[] = [
  {
    name: "fences-pass-over-schema-changes",
    says: "A fence goes up although the schema was changed since rows were last compared.",
    edits: [
      {
        file: "agent/stores/postgres/fence/raise.ts",
        find: "AND EXISTS (SELECT FROM cleave.share AS s WHERE s.migration_id = migration AND s.logical AND",
        replace:
          "AND false AND EXISTS (SELECT FROM cleave.share AS s WHERE s.migration_id = migration AND s.logical AND",
      },
    ],
    tests: schema("between the check and the fence DROP TABLE public.events_1 there: $"),
  },
  {
    name: "changed-tables-are-believed",
    says: "A table that a change of the schema concerns counts as compared.",
    edits: [
      {
        file: "agent/stores/postgres/verification/schema-comparison.ts",
        find: "if (suspects.size > 0) await this.#compare(sides);",
        replace: "for (const name of suspects.names()) suspects.clear(name, suspects.turn);",
      },
    ],
    tests: schema("while the move follows DROP TABLE public.events_1 there: $"),
  },
  {
    name: "the-target-stays-as-it-is",
    says: "What was altered on the target since rows were last compared is no reason against its evidence.",
    edits: [
      {
        file: `${MOVE}/match.ts`,
        find: "  if (change === null) return;",
        replace: "  if (change !== undefined) return;",
      },
    ],
    tests: schema("on the target alone .* is no evidence when a fence comes first"),
  },
  {
    name: "truncate-is-no-change",
    says: "What TRUNCATE of a partition removes is told by nobody.",
    edits: [
      {
        file: "agent/stores/postgres/fence/guard-functions.ts",
        find: "\\n  ${NOTE_TRUNCATE}",
        replace: "",
      },
    ],
    tests: schema("while the move follows TRUNCATE public.events_1 there: $"),
  },
  {
    name: "detaching-begins-unseen",
    says: "The first of the two transactions of DETACH PARTITION CONCURRENTLY is neither refused nor noted.",
    edits: [
      {
        file: "agent/stores/postgres/fence/schema-journal.ts",
        find: "IF pg_catalog.current_query() ~* 'detach.*concurrently' THEN",
        replace: "IF false THEN",
      },
    ],
    tests: schema("under the fence ALTER TABLE public.events DETACH PARTITION public.events_1 CONCURRENTLY"),
  },
  {
    name: "deferred-constraints-are-believed",
    says: "Values of DEFERRABLE constraints are not looked for among the rows that were applied.",
    edits: [
      {
        file: "agent/stores/postgres/verification/doubled.ts",
        find: "of table.deferred) {",
        replace: "of table.deferred.slice(0, 0)) {",
      },
    ],
    tests: shapes("a constraint that is checked at the end of a transaction"),
  },
  {
    name: "types-are-their-names",
    says: "Composite types of one name count as the same, whatever the order of their attributes.",
    edits: [
      {
        file: `${REPLICATION}/moved-tables.ts`,
        find: "else if (bare(other.shape) !== bare(column.shape))",
        replace: "else if (bare(other.type) !== bare(column.type))",
      },
    ],
    tests: shapes("the same names, and something else attributes in another order$"),
  },
  {
    name: "the-user-stays-behind",
    says: "Under the fence the rows of nobody alone are neither copied nor part of the evidence.",
    edits: [
      {
        file: `${MOVE}/match.ts`,
        find: "      shared.ensure({ source, target, writer, moving, schema }, { table, keys }),\n",
        replace: "      writer.query('SELECT 1'),\n",
      },
      {
        file: "agent/stores/postgres/verification/evidence.ts",
        find: "await referenceLines(this.#db, this.#moving, touched, known)",
        replace: "[] as string[]",
      },
    ],
    tests: references("rows of nobody alone.* by a constraint"),
  },
  {
    name: "a-neighbour-is-referred-to",
    says: "Under the fence a touched row may refer to one that stays.",
    edits: [
      {
        file: `${MOVE}/match.ts`,
        find: "if (crossing.length > 0)",
        replace: "if (crossing.length > 1_000)",
      },
    ],
    tests: references("while a move follows a reference to a row that stays, made in the last moment"),
  },
  {
    name: "what-flows-back-keeps-its-plan",
    says: "What flows back goes on by the schema that it began with.",
    edits: [
      {
        file: "agent/stores/postgres/reverse/carrier.ts",
        find: "plan: async () => ({ ...(await keeper.renew()), changes: keeper }),",
        replace: "plan: async () => ({ ...keeper.plan, changes: keeper }),",
      },
    ],
    // With what comes before: the first plan has to be made by then.
    tests: back("while changes flow back"),
  },
  {
    name: "the-way-back-repairs-nothing",
    says: "What a change of the schema did to rows is found on the way back, and not put right.",
    edits: [
      {
        file: "agent/stores/postgres/reverse/carrier.ts",
        find: "      repair: session,\n",
        replace: "",
      },
    ],
    tests: back("while changes flow back ALTER TABLE public.notes ADD COLUMN drawn"),
  },
  {
    name: "renamed-columns-are-not-followed",
    says: "The guard's functions go on by the name that a column or a table had.",
    edits: [
      {
        file: "agent/stores/postgres/fence/known-names.ts",
        find: "IF changed IS NOT NULL THEN",
        replace: "IF false THEN",
      },
    ],
    tests: names("what has another name"),
  },
  {
    name: "sessions-keep-their-plans",
    says: "Whoever wrote to a table before a column got another type can write to it no more.",
    edits: [
      {
        file: "agent/stores/postgres/fence/known-names.ts",
        find: `const OTHER = "(other.now <> other.present OR other.type_now IS DISTINCT FROM other.type)";`,
        replace: `const OTHER = "(other.now <> other.present)";`,
      },
    ],
    tests: names("what has another type"),
  },
  {
    name: "notes-name-rows-for-ever",
    says: "What a writer noted before a key became another is compared as if it were of the present one.",
    edits: [
      {
        file: "agent/stores/postgres/verification/fitting-keys.ts",
        find: "  if (misfits.size === 0) return touched;",
        replace: "  if (misfits.size >= 0) return touched;",
      },
    ],
    tests: schema("while the move follows UPDATE public.later SET body = 'before'"),
  },
  {
    name: "what-is-generated-is-believed",
    says: "What the target computes by itself is not compared.",
    edits: [
      {
        file: "agent/stores/postgres/verification/rows.ts",
        find: ", ...table.generated].map(",
        replace: "].map(",
      },
    ],
    tests: shapes("a generated column whose function computes something else"),
  },
  {
    name: "parts-with-rules-are-nobodys",
    says: "A table with a rule that became a part of another is moved by neither.",
    edits: [
      {
        file: `${REPLICATION}/moved-tables.ts`,
        find: ", ...parts(source, ownership)];",
        replace: "];",
      },
    ],
    tests: schema("what the rules do not know ALTER TABLE public.notes INHERIT"),
  },
  {
    name: "virtual-columns-are-published",
    says: "Whoever drops the key of a table with a virtual column can write to it no more.",
    edits: [
      {
        file: `${REPLICATION}/replica-identity.ts`,
        find: "CASE WHEN known.virtual THEN '' ELSE 'FULL' END",
        replace: "'FULL'",
      },
    ],
    tests: { file: "test/agent/stores/postgres/move/versions.test.ts", name: "a column that is virtual" },
  },
  {
    name: "new-tables-are-open",
    says: "A table that gets a name which a rule knows has no guard before an agent comes.",
    edits: [
      {
        file: "agent/stores/postgres/fence/known-names.ts",
        find: `      EXECUTE pg_catalog.format(\${triggerOf("row")}, made.relation, made.row_function);\n`,
        replace: "",
      },
    ],
    tests: names("a table that a rule knows before there is one is guarded at once when it is made"),
  },
  {
    name: "dormant-rows-can-be-made",
    says: "Whoever leaves dormant rows out may insert some.",
    edits: [
      {
        file: "agent/stores/postgres/fence/guard-functions.ts",
        find: 'IF NOT cleave.admit(${owner("NEW")}, ${literal(table)}, false) THEN',
        replace: 'IF NOT cleave.admit(${owner("NEW")}, ${literal(table)}, true) THEN',
      },
    ],
    tests: application(
      "after a first move, on the default Pod a deployment that leaves dormant rows out makes none",
    ),
  },
  {
    name: "fenced-rows-are-left-out",
    says: "Whoever leaves dormant rows out passes over those that are fenced, and may be served here again.",
    edits: [
      {
        file: "agent/stores/postgres/fence/admission.ts",
        find: "    IF cleave.is_dormant(organization) THEN\n      RETURN NULL;",
        replace: "    IF true THEN\n      RETURN NULL;",
      },
    ],
    tests: application(
      "after a first move, on the default Pod a deployment that leaves dormant rows out has to wait a moment",
    ),
  },
];
