/**
 * Defects of the stores. The simulator runs models of PostgreSQL, Git and objects, so these are made in the models, where
 * they follow the drivers in agent/stores; the drivers' own tests are under test/agent/stores.
 */
import type { Mutant } from "./mutant.ts";

const SERVER = "simulations/models/postgres/server.ts";
const STORE = "simulations/models/postgres/store.ts";
const FILES = "simulations/models/files/store.ts";

export const STORE_MUTANTS: readonly Mutant[] = [
  {
    name: "position-before-drain",
    says: "The fence's marker is written before the writers in flight have ended.",
    edits: [
      {
        file: SERVER,
        find: "if (!first || first.held || this.hasHolders(first.migrationId)) return;",
        replace: "if (!first || first.held) return;",
      },
    ],
  },
  {
    name: "drain-ignores-idle-transactions",
    says: "The drain waits for writers that are committing, and not for those that are idle in their transaction.",
    edits: [
      {
        file: SERVER,
        find: "if (transaction.locks.has(migrationId)) return true;",
        replace: `if (transaction.locks.has(migrationId) && transaction.status === "committing") return true;`,
      },
    ],
  },
  {
    name: "staging-does-not-wait",
    says: "Transactions that began before the routes were staged are not waited for.",
    edits: [
      {
        file: STORE,
        find: "while (server.olderThan(stagedAt) && !lowering) {",
        replace: "while (server.olderThan(stagedAt) && !lowering && stagedAt < 0) {",
      },
    ],
  },
  {
    name: "match-without-the-marker",
    says: "A standby of the right lineage counts as equal, whatever it has replayed.",
    edits: [
      { file: STORE, find: "      if (token !== undefined) break;\n", replace: "      break;\n" },
      {
        file: STORE,
        find: "const digest = `${own.systemId}/${own.timeline}/${token}`;",
        replace: "const digest = `${own.systemId}/${own.timeline}`;",
      },
      {
        file: "simulations/models/postgres/fence.ts",
        find: ": `${server.systemId}/${server.timeline}/${settled.token}`,",
        replace: ": `${server.systemId}/${server.timeline}`,",
      },
      {
        file: STORE,
        find: "if (!own.state.markers.has(`${duty.migrationId}/${duty.epoch}`))",
        replace: 'if (own.role === "absent")',
      },
    ],
  },
  {
    name: "unreadable-counts-as-unchanged",
    says: "A repository that cannot be read counts as what it last was.",
    edits: [
      {
        file: FILES,
        find: "if (unreadable !== null) throw",
        replace: "if (unreadable !== null && epoch < 0) throw",
      },
      {
        file: FILES,
        find: "if (!item || this.#inventory.get(key)?.digest === item.digest) return;",
        replace:
          "if (!item || key === this.#own.unreadable || this.#inventory.get(key)?.digest === item.digest) return;",
      },
    ],
  },
  {
    name: "lag-of-what-was-sent",
    says: "A target's lag is what was not sent to it, and not what it has not replayed.",
    edits: [
      {
        file: STORE,
        find: "source.position - own.replayPosition",
        replace: "source.position - own.position",
      },
    ],
  },
  {
    name: "file-writers-are-not-drained",
    says: "Writers of repositories and objects that announced themselves before the fence are not waited for.",
    edits: [
      {
        file: FILES,
        find: "new Set([...this.#own.inflight].filter((w) => assignments.has(w.organization as never)));",
        replace: "new Set([...this.#own.inflight].filter((w) => !assignments.has(w.organization as never)));",
      },
    ],
  },
];
