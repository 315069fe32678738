/** Defects in copying, following and comparing an organization's rows, and in what flows back. */
import type { StoreMutant } from "./store-mutant.ts";

const REPLICATION = "agent/stores/postgres/replication";
const MOVE = "agent/stores/postgres/move";
const VERIFICATION = "agent/stores/postgres/verification";
const PROPERTY = {
  file: "test/agent/stores/postgres/move/property.test.ts",
  name: "schema and workload of seed [12]$",
};
const whole = (name: string) => ({ file: "test/agent/stores/postgres/replication/follow.test.ts", name });
const pods = (name: string) => ({ file: "test/agent/stores/postgres/move/move.test.ts", name });
const back = (name: string) => ({ file: "test/agent/stores/postgres/reverse/split.test.ts", name });
const bounds = (name: string) => ({ file: "test/agent/stores/postgres/move/bounds.test.ts", name });
const waiting = (name: string) => ({ file: "test/agent/stores/postgres/move/waiting.test.ts", name });
const settings = (name: string) => ({ file: "test/agent/stores/postgres/server/settings.test.ts", name });
const refusals = (name: string) => ({ file: "test/agent/stores/postgres/move/refusals.test.ts", name });

export const MOVES_HUNTS: readonly StoreMutant[] = [
  {
    name: "unchanged-arrives-empty",
    says: "A large value that did not change is written as NULL.",
    edits: [
      {
        file: `${REPLICATION}/pgoutput.ts`,
        find: "return undefined;",
        replace: "return null;",
      },
    ],
    tests: whole("the moved organization equals the source"),
  },
  {
    name: "position-is-not-saved",
    says: "Changes are committed without the position up to which they go.",
    edits: [
      {
        file: `${REPLICATION}/apply.ts`,
        find: "`SELECT pg_catalog.pg_replication_origin_xact_setup(${quoteLiteral(endLsn)}, ${quoteLiteral(time)}); COMMIT`",
        replace: "`SELECT ${quoteLiteral(endLsn)}, ${quoteLiteral(time)}; COMMIT`",
      },
    ],
    tests: whole("the moved organization goes on where it was"),
  },
  {
    name: "foreign-inserts-are-applied",
    says: "Rows of any organization are inserted that names itself in a column.",
    edits: [
      {
        file: `${REPLICATION}/apply.ts`,
        find: "    if (told.own >= 0 && !this.#isTheirs(values[told.own])) return null;\n",
        replace: "",
      },
    ],
    tests: PROPERTY,
  },
  {
    name: "rows-are-read-after-the-snapshot",
    says: "The base copy reads what is there now, and not what the snapshot of its slot has.",
    edits: [
      {
        file: `${REPLICATION}/snapshot.ts`,
        find: "await db.query(`SET TRANSACTION SNAPSHOT ${quoteLiteral(name)}`);",
        replace: "await db.query(`SELECT ${quoteLiteral(name)}`);",
      },
    ],
    tests: whole("the moved organization equals the source"),
  },
  {
    name: "an-abort-empties-tables",
    says: "What an abort removes from the target is every row of the tables.",
    edits: [
      {
        file: `${REPLICATION}/copy.ts`,
        find: ` AS "row" WHERE \${ownedCondition(moving.ownership, table.name, '"row"', moving.keys)}\``,
        replace: ` AS "row" WHERE \${ownedCondition(moving.ownership, table.name, '"row"', moving.keys)} OR true\``,
      },
    ],
    tests: bounds("an abort removes nothing"),
  },
  {
    name: "a-late-commit-survives-the-abort",
    says: "An abort does not wait for what a copy that was given up has still to commit.",
    edits: [
      {
        file: `${REPLICATION}/session.ts`,
        find: "...(session.alone === undefined ? [] : [session.alone]), ",
        replace: "",
      },
    ],
    tests: bounds("an abort removes what a copy"),
  },
  {
    name: "comparison-reads-one-side",
    says: "The comparison holds the source's rows against the source's rows.",
    edits: [
      {
        file: `agent/stores/postgres/verification/comparison.ts`,
        find: "    bucketDigests(target, moving, table, buckets),",
        replace: "    bucketDigests(source, moving, table, buckets),",
      },
    ],
    tests: pods(".*is found and named, and no evidence matches"),
  },
  {
    name: "the-gate-is-open",
    says: "A copy that was paused before the target opened may write after it.",
    edits: [
      {
        file: `${MOVE}/apply-role.ts`,
        find: "AND share.phase IN ('source', 'fenced')",
        replace: "AND share.phase <> ''",
      },
    ],
    tests: bounds("the gate is closed"),
  },
  {
    name: "remembered-under-a-fence",
    says: "How far the comparison came is remembered although a fence is up.",
    edits: [
      {
        file: `agent/stores/postgres/verification/touched.ts`,
        find: "AND (share.phase = 'source' OR (share.phase",
        replace: "AND (true OR (share.phase",
      },
    ],
    tests: bounds("no comparison is remembered"),
  },
  {
    name: "armed-too-late",
    says: "A split's target makes the slot of reverse replication when it is open, and not before.",
    edits: [
      {
        file: "agent/stores/postgres/split/target.ts",
        find: "if (duty.reverseReplication.includes(duty.podId))\n      await server.fast.use((db) => armReverseReplication",
        replace: 'if (duty.goal === "open")\n      await server.fast.use((db) => armReverseReplication',
      },
    ],
    tests: back("reverse replication of a split is armed before the new Pod opens"),
  },
  {
    name: "what-came-flows-back",
    says: "What a move's copy wrote on the target flows back to the source that it came from.",
    edits: [
      {
        file: `${REPLICATION}/apply.ts`,
        find: "this.#passing = message.name === this.#options.without;",
        replace: "this.#passing = false;",
      },
    ],
    tests: {
      file: "test/agent/stores/postgres/reverse/move.test.ts",
      name: "reverse replication of a move carries what the target wrote",
    },
  },
  {
    name: "one-reason-for-all-loops",
    says: "What one loop of the comparison says is forgotten when the other one succeeds.",
    edits: [
      {
        file: `${VERIFICATION}/verifier.ts`,
        find: "    else this.#conflicts.set(loop, conflict);",
        replace:
          "    else this.#conflicts.set(loop, conflict);\n    if (conflict === null) this.#conflicts.clear();",
      },
    ],
    tests: waiting("a reason of one loop is held"),
  },
  {
    name: "keys-are-noted-as-the-writer-has-it",
    says: "Writers note the keys of changed rows in their own DateStyle.",
    edits: [
      {
        file: "agent/stores/postgres/fence/canonical-text.ts",
        find: "RETURN cleave.as_text_by_settings(value);",
        replace: "RETURN value::pg_catalog.text;",
      },
    ],
    tests: settings("a move between databases with hostile settings of the database"),
  },
  {
    name: "sessions-as-the-database-has-it",
    says: "Cleave's sessions take over what the database was given.",
    edits: [
      {
        file: "agent/stores/postgres/server/connection.ts",
        find: "...(options.asConfigured ? {} : { options: SESSION_OPTIONS }),",
        replace: "",
      },
    ],
    tests: settings("a connection of Cleave's has every setting"),
  },
  {
    name: "taken-by-the-key-alone",
    says: "Unique values of rows that come are looked for under the primary key alone.",
    edits: [
      {
        file: `${MOVE}/taken-values.ts`,
        find: "i.indisunique AND i.indisready",
        replace: "i.indisprimary AND i.indisready",
      },
    ],
    tests: refusals("preflight finds a unique"),
  },
  {
    name: "the-role-of-others-is-dropped",
    says: "A database does not say that it needs the copy's role.",
    edits: [
      {
        file: `${MOVE}/apply-role.ts`,
        find: "if (schemas[0]?.granted === false) await grant(db, role);",
        replace: "void grant;",
      },
    ],
    tests: refusals("an abort in one database"),
  },
];
