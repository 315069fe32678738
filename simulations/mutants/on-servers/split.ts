/** Defects in what a split does: copies, standbys, what the checks saw. */
import type { StoreMutant } from "./store-mutant.ts";

const SPLIT = "agent/stores/postgres/split";
const split = (file: string, name: string) => ({
  file: `test/agent/stores/postgres/split/${file}.test.ts`,
  name,
});

export const SPLIT_HUNTS: readonly StoreMutant[] = [
  {
    name: "what-was-checked-need-not-hold",
    says: "The flip does not look at what has changed since the checks.",
    edits: [
      {
        file: "agent/stores/postgres/fence/raise.ts",
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
        file: `${SPLIT}/standby-files.ts`,
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
        file: "agent/stores/postgres/server/kept-server.ts",
        find: "    await this.#start(signal);\n",
        replace: "",
      },
    ],
    tests: {
      file: "test/agent/stores/postgres/server/kept-server.test.ts",
      name: "is started again after the transfer",
    },
  },
  {
    name: "restored-as-its-source",
    says: "A copy recovers to where its source was once restored to, and no further.",
    edits: [{ file: `${SPLIT}/standby-files.ts`, find: "    ...TO_THE_END,\n", replace: "" }],
    tests: split("leftovers", "a restoration to a time that is over"),
  },
  {
    name: "files-elsewhere-are-lost",
    says: "Settings from files that did not come with the copy are not carried to it.",
    edits: [
      {
        file: `${SPLIT}/server-settings.ts`,
        find: "(!arrived.has(file) || file === CARRIED_FILE)",
        replace: "file === CARRIED_FILE",
      },
    ],
    tests: split("leftovers", "of a restoration, of a time as a standby"),
  },
  {
    name: "the-server-is-looked-at-once",
    says: "What comes to the source's server after the first checks is not looked at before the fence.",
    edits: [
      {
        file: "agent/stores/postgres/preflight-source.ts",
        find: '    if (duty.kind === "split") findings.push(...(await checkWholeServer(db, server, options, duty)));\n',
        replace: "",
      },
    ],
    tests: split("changes", "between the checks and the fence 'a second database'"),
  },
  {
    name: "temporary-views-are-schema",
    says: "A session that drops a view of its own changes the schema for everybody.",
    edits: [
      {
        file: "agent/stores/postgres/fence/schema-journal.ts",
        find: "named.original AND NOT named.is_temporary",
        replace: "NOT named.is_temporary",
      },
    ],
    tests: split("changes", "between the checks and the fence CREATE TEMPORARY VIEW mine"),
  },
  {
    name: "refreshing-is-detaching",
    says: "Whatever is done concurrently counts as a partition that is detached.",
    edits: [
      {
        file: "agent/stores/postgres/fence/schema-journal.ts",
        find: "'detach.*concurrently'",
        replace: "'concurrently'",
      },
    ],
    tests: split("changes", "between the checks and the fence REFRESH MATERIALIZED VIEW CONCURRENTLY counts"),
  },
];
