/** Defects in the guard and in what it must leave to the application. */
import type { StoreMutant } from "./store-mutant.ts";

const FENCE = "agent/stores/postgres/fence";
const application = (file: string, name: string) => ({
  file: `test/agent/stores/postgres/fence/${file}.test.ts`,
  name,
});

export const FENCE_HUNTS: readonly StoreMutant[] = [
  {
    name: "two-spellings",
    says: "An organization's key may be of a type whose equal values have different texts.",
    edits: [
      {
        file: "agent/stores/postgres/fence/install.ts",
        find: "    ...(await ambiguousOwners(client, options.ownership)),\n",
        replace: "",
      },
    ],
    tests: {
      file: "test/agent/stores/postgres/fence/owner-types.test.ts",
      name: "is refused before anything begins, by name",
    },
  },
  {
    name: "partitions-without-an-identity",
    says: "A partition that is made while its table is published gets no replica identity.",
    edits: [
      {
        file: "agent/stores/postgres/replication/replica-identity.ts",
        find: "      EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', relation.name, relation.identity);\n",
        replace: "      PERFORM 1;\n",
      },
    ],
    tests: application("application-schema", "partitions of tables that are published are updated"),
  },
  {
    name: "owners-may-not-add-partitions",
    says: "Nobody but a superuser may execute what the trigger of a new partition calls.",
    edits: [
      { file: `${FENCE}/guard-functions.ts`, find: 'guard.returns === "trigger"\n', replace: "false\n" },
    ],
    tests: application("application-schema", "a role that is no superuser may alter its tables"),
  },
  {
    name: "every-type-is-postgresqls-own",
    says: "Keys of extensions' types are compared by an operator of pg_catalog.",
    edits: [
      {
        file: `${FENCE}/equality.ts`,
        find: "if (derived) return OWN_EQUALITY;",
        replace: "return OWN_EQUALITY;",
      },
    ],
    tests: application("application", "keys of other types and collations"),
  },
  {
    name: "nobody-is-unknown",
    says: "A row that names no parent counts as one whose owner is not known.",
    edits: [
      {
        file: `${FENCE}/owner-sql.ts`,
        find: ", CASE WHEN ${none} THEN ${literal(NOBODY)} END)",
        replace: ", CASE WHEN ${none} THEN NULL END)",
      },
    ],
    tests: application("application", "after a first move, on the default Pod rows of nobody are written"),
  },
  {
    name: "dormant-rows-are-in-the-way",
    says: "A user cannot be deleted because a dormant row refers to it.",
    edits: [
      { file: `${FENCE}/cascades.ts`, find: "IF cleave.is_dormant(${owner}) THEN", replace: "IF false THEN" },
    ],
    tests: application("application", "rows of nobody alone that dormant rows refer to are deleted"),
  },
  {
    name: "locks-behind-anybody",
    says: "A table's lock is tried for although a transaction is in the way that will not be over by then.",
    edits: [
      {
        file: `${FENCE}/patience.ts`,
        find: "blockers.some(({ long }) => long) ? null : ",
        replace: "",
      },
    ],
    tests: application("install", "installing waits for a writer in flight"),
  },
  {
    name: "keys-beyond-their-columns",
    says: "A split's Pods are given keys that the columns cannot hold.",
    edits: [
      {
        file: "agent/stores/postgres/split/numbering.ts",
        find: "least(reach.highest, CASE",
        replace: "least(NULL::numeric, CASE",
      },
    ],
    tests: {
      file: "test/agent/stores/postgres/move/sequences.test.ts",
      name: "keys of a split's Pods fit an integer column",
    },
  },
];
