/**
 * Defects in what only real servers run, and so have to find. Each is a change of source text, made while a test file
 * that moves or splits is loaded (vitest.config.ts beside this); the tests have to fail.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { checkMutant, type Mutant, ROOT, UNHARMED } from "./mutant.ts";

export interface StoreMutant extends Mutant {
  /** One of these tests has to find it, by file and the beginning of a name. */
  readonly tests: { readonly file: string; readonly name: string };
}

const REPLICATION = "agent/stores/postgres/replication";
const MOVE = "agent/stores/postgres/move";
const PROPERTY = {
  file: "test/agent/stores/postgres/move/property.test.ts",
  name: "schema and workload of seed [12]$",
};
const whole = (name: string) => ({ file: "test/agent/stores/postgres/replication/follow.test.ts", name });
const pods = (name: string) => ({ file: "test/agent/stores/postgres/move/move.test.ts", name });
const back = (name: string) => ({ file: "test/agent/stores/postgres/reverse/split.test.ts", name });
const bounds = (name: string) => ({ file: "test/agent/stores/postgres/move/bounds.test.ts", name });

const SPLIT = "agent/stores/postgres/split";
const split = (file: string, name: string) => ({
  file: `test/agent/stores/postgres/split/${file}.test.ts`,
  name,
});

export const STORE_HUNTS: readonly StoreMutant[] = [
  {
    name: "what-was-checked-need-not-hold",
    says: "The flip does not look at what has changed since the checks.",
    edits: [
      {
        file: "agent/stores/postgres/fence/fence.ts",
        find: '${checked === undefined ? "" : requireUnchanged(checked)}',
        replace: "",
      },
    ],
    tests: split("changes", "between the checks and the fence 'a table that becomes unlogged'"),
  },
  {
    name: "the-journal-alone-is-compared",
    says: "What event triggers do not see may change between the checks and the fence.",
    edits: [
      {
        file: "agent/stores/postgres/fence/checked.ts",
        find: " OR seen.look <> ${literal(checked.look)}",
        replace: "",
      },
    ],
    tests: split("changes", "between the checks and the fence 'a large object'"),
  },
  {
    name: "owners-disable-the-guard",
    says: "Whoever owns a table disables the guard's triggers with all others.",
    edits: [
      {
        file: "agent/stores/postgres/fence/guard-functions.ts",
        find: "AND guarded.tgenabled <> 'A'",
        replace: "AND false",
      },
    ],
    tests: split("changes", "under the fence and after the transfer an owner who disables all triggers"),
  },
  {
    name: "a-paused-standby-is-level",
    says: "A standby whose replay is paused counts as verified.",
    edits: [
      {
        file: `${SPLIT}/standby-watch.ts`,
        find: "own.streaming && !own.paused",
        replace: "own.streaming",
      },
    ],
    tests: split("faults", "does not count a standby as level whose replay is paused"),
  },
  {
    name: "copied-subscriptions-run",
    says: "A promoted clone starts the workers of its source's subscriptions.",
    edits: [
      {
        file: `${SPLIT}/standby.ts`,
        find: 'max_logical_replication_workers: "0"',
        replace: 'max_logical_replication_workers: "4"',
      },
    ],
    tests: split("active-objects", "leaves a subscription to the source alone"),
  },
  {
    name: "nobody-starts-it-again",
    says: "The agent does not start a new Pod's server that stopped after the transfer.",
    edits: [
      {
        file: `${SPLIT}/kept-server.ts`,
        find: "    await this.#start(signal);\n",
        replace: "",
      },
    ],
    tests: split("kept-server", "is started again after the transfer"),
  },
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
];

export interface StoreHunted {
  readonly mutant: StoreMutant;
  /** Its tests pass without it. */
  readonly sound: boolean;
  readonly caught: boolean;
  readonly ms: number;
}

/** One after the other: each starts servers. */
export async function huntInStores(onHunted: (hunted: StoreHunted) => void): Promise<boolean> {
  const sound = new Map<string, boolean>();
  let good = true;
  for (const mutant of STORE_HUNTS) {
    // A test that fails because its mutant does not fit has found nothing.
    checkMutant(mutant);
    const key = `${mutant.tests.file} ${mutant.tests.name}`;
    const startedAt = performance.now();
    if (!sound.has(key)) sound.set(key, await passes(UNHARMED, mutant));
    const hunted = {
      mutant,
      sound: sound.get(key) === true,
      caught: !(await passes(mutant.name, mutant)),
      ms: performance.now() - startedAt,
    };
    good &&= hunted.sound && hunted.caught;
    onHunted(hunted);
  }
  return good;
}

/** A test that would wait for ever counts as one that fails: vitest itself ends it. */
const TEST_MS = 90_000;

function passes(name: string, { tests }: StoreMutant): Promise<boolean> {
  const config = join(import.meta.dirname, "vitest.config.ts");
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const args = [
    "run",
    "--config",
    config,
    "--bail",
    "1",
    `--testTimeout=${TEST_MS}`,
    tests.file,
    "-t",
    tests.name,
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [vitest, ...args], {
      cwd: ROOT,
      stdio: "ignore",
      env: { ...process.env, CLEAVE_MUTANT: name },
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code === 0));
  });
}
